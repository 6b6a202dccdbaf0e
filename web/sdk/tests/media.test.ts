import { expect, test } from 'vitest';
import { login } from './harness.ts';
import { TestServer } from './server.ts';

// Uploads are tested in browser-tests/media.test.ts, against the real server.

const mediaID = '3f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61';
const media = { mediaID, fileName: 'a', size: 1, contentType: 'image/png', url: '/' };

test('getMedia resolves the URL, and endUpload deletes an upload', async () => {
  const server = await TestServer.start();
  const parlor = await login(server);
  const asking = parlor.getMedia(mediaID);
  const reply = { media, signedURL: '/a?signature=x', expiresAt: '2026-11-22T16:00:00Z' };
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
