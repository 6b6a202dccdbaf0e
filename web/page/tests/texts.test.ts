import { expect, test } from 'vitest';
import { formatBytes } from '../src/texts.ts';

test('formatBytes rounds and chooses the unit', () => {
  expect([0, 999, 1_000, 1_234, 12_345, 41_943_040].map((bytes) => formatBytes(bytes))).toEqual([
    '0 B', '999 B', '1 KB', '1.2 KB', '12 KB', '42 MB',
  ]);
});
