import { expect, test } from 'vitest';
import type { Media } from '../../src/client/index.ts';
import { kindOf } from '../../src/page/attachments.ts';
import { wordsForBytes } from '../../src/page/words.ts';
import { login } from './harness.ts';
import { TestServer } from './server.ts';

// Uploads themselves are tested in a browser, with a server that takes them.

const mediaID = '3f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61';

function file(contentType: Media['contentType'], more: Partial<Media> = {}): Media {
  return { mediaID, fileName: 'a', size: 1, contentType, url: '/', ...more };
}

test('a file is sent as the kind of message that carries it', () => {
  expect(kindOf(file('image/png'))).toBe('image');
  expect(kindOf(file('image/png', { size: 10 * 1024 * 1024 + 1 }))).toBe('file');
  expect(kindOf(file('audio/mpeg', { duration: 300.9 }))).toBe('audio');
  expect(kindOf(file('audio/mpeg', { duration: 301 }))).toBe('file');
  expect(kindOf(file('audio/mp4', { size: 6 * 1024 * 1024 + 1 }))).toBe('file');
  expect(kindOf(file('video/mp4', { videoCodec: 'h264' }))).toBe('video');
  expect(kindOf(file('video/quicktime'))).toBe('file');
  expect(kindOf(file('application/octet-stream'))).toBe('file');
});

test('sizes are told in words', () => {
  expect([0, 999, 1_000, 1_234, 12_345, 41_943_040].map((bytes) => wordsForBytes(bytes))).toEqual([
    '0 B', '999 B', '1 KB', '1.2 KB', '12 KB', '42 MB',
  ]);
});

test('asks for a file, and ends an upload', async () => {
  const server = await TestServer.start();
  const parlor = await login(server);
  const asking = parlor.getMedia(mediaID);
  const reply = { media: file('image/png'), signedURL: '/a?signature=x', expiresAt: '2026-11-22T16:00:00Z' };
  (await server.next('GET', `/v1/media/${mediaID}`)).reply(200, reply);
  expect(await asking).toEqual({ ...reply, signedURL: `${server.url}/a?signature=x` });

  const again = parlor.getMedia(mediaID);
  const signedURL = 'https://example.com/parlor/a?signature=x';
  (await server.next('GET', `/v1/media/${mediaID}`)).reply(200, { ...reply, signedURL });
  expect((await again).signedURL).toBe(signedURL);

  const ending = parlor.endUpload(mediaID);
  const call = await server.next('DELETE', `/v1/media/uploads/${mediaID}`);
  expect(call.header('Tus-Resumable')).toBe('1.0.0');
  call.reply(204);
  await ending;
});
