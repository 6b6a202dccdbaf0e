import { expect, test } from 'vitest';
import { wordsForBytes } from '../src/words.ts';

test('sizes are told in words', () => {
  expect([0, 999, 1_000, 1_234, 12_345, 41_943_040].map((bytes) => wordsForBytes(bytes))).toEqual([
    '0 B', '999 B', '1 KB', '1.2 KB', '12 KB', '42 MB',
  ]);
});
