import type { Media } from 'parlor-sdk';
import { expect, test } from 'vitest';
import { kindOf } from '../src/attachments.ts';

function file(contentType: Media['contentType'], more: Partial<Media> = {}): Media {
  return { mediaID: '3f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61', fileName: 'a', size: 1, contentType, url: '/', ...more };
}

test('kindOf chooses the kind of message by type and limits', () => {
  expect(kindOf(file('image/png'))).toBe('image');
  expect(kindOf(file('image/png', { size: 10 * 1024 * 1024 + 1 }))).toBe('file');
  expect(kindOf(file('audio/mpeg', { duration: 300.9 }))).toBe('audio');
  expect(kindOf(file('audio/mpeg', { duration: 301 }))).toBe('file');
  expect(kindOf(file('audio/mp4', { size: 6 * 1024 * 1024 + 1 }))).toBe('file');
  expect(kindOf(file('video/mp4', { videoCodec: 'h264' }))).toBe('video');
  expect(kindOf(file('video/quicktime'))).toBe('file');
  expect(kindOf(file('application/octet-stream'))).toBe('file');
});
