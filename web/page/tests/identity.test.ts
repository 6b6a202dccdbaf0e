import { expect, test } from 'vitest';
import { roomIDOf, userIDOf } from '../src/identity.ts';

test('a room name that is a valid ID is the ID', () => {
  for (const id of ['lobby', 'First class', "a/b\\c*'`,\"", '%2E%2E', '...', '.a', 'a/..b', '/', 'x'.repeat(128)]) expect(roomIDOf(id)).toBe(id);
});

test('any other room name is percent-encoded', () => {
  expect(roomIDOf('教室')).toBe('%E6%95%99%E5%AE%A4');
  expect(roomIDOf('é')).toBe(roomIDOf('e\u0301'));
  expect(['.', '..', 'a/..', '../a', 'a/./b', 'a\\..'].map(roomIDOf)).toEqual(['%2E', '%2E%2E', 'a%2F%2E%2E', '%2E%2E%2Fa', 'a%2F%2E%2Fb', 'a%5C%2E%2E']);
  expect([' a', 'a '].map(roomIDOf)).toEqual(['%20a', 'a%20']);
});

test('a room name that is too long has no ID', () => {
  expect(roomIDOf('x'.repeat(129))).toBeUndefined();
  expect(roomIDOf('教'.repeat(15))).toBeUndefined();
  expect(roomIDOf('')).toBeUndefined();
});

test('a userID contains the name as far as it fits', () => {
  expect(userIDOf('Zoë  Müller', 'abc123')).toBe('Zoe-Muller-abc123');
  expect(userIDOf('张伟', 'abc123')).toBe('guest-abc123');
  expect(userIDOf('x'.repeat(256), 'abc123')).toHaveLength(64);
});
