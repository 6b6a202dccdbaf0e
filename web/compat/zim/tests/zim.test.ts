import { expect, test } from 'vitest';
import Default, { ZIM } from '../src/index.ts';

test('the class is a named export and the default', () => {
  expect(Default).toBe(ZIM);
});
