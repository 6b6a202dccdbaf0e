import { expect, test, vi } from 'vitest';
import { login } from './harness.ts';
import { TestServer } from './server.ts';

// Uploads in browsers are tested in browser-tests/media.test.ts, against the real server.

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

const uploads = '/v1/media/uploads';

test('Node.js uploads a Blob', async () => {
  const server = await TestServer.start();
  const parlor = await login(server);
  const uploading = parlor.uploadMedia(new Blob(['hello']), { fileName: 'a.txt' });
  const creation = await server.next('POST', uploads);
  expect(creation.header('Upload-Length')).toBe('5');
  creation.reply(201, undefined, { Location: `${uploads}/${mediaID}` });
  const part = await server.next('PATCH', `${uploads}/${mediaID}`);
  expect(part.body).toBe('hello');
  part.reply(204, undefined, { 'Upload-Offset': '5' });
  const reply = { media, signedURL: '/a', expiresAt: '2026-11-22T16:00:00.000Z' };
  (await server.next('GET', `/v1/media/${mediaID}`)).reply(200, reply);
  expect((await uploading).media).toEqual(media);
});

test('an upload fails if its file cannot be read, and waits for no connection', async () => {
  const server = await TestServer.start();
  const parlor = await login(server);
  const file = new Blob(['hello']);
  file.slice = () => {
    throw new Error('the file is gone');
  };
  const onInterrupted = vi.fn();
  const uploading = parlor.uploadMedia(file, { onInterrupted });
  const creation = server.next('POST', uploads);
  creation.then((call) => call.reply(201, undefined, { Location: `${uploads}/${mediaID}` }));
  await expect(uploading).rejects.toMatchObject({ code: 'file_unreadable' });
  expect(onInterrupted).not.toHaveBeenCalled();
});

test('downloads use the signed URL, without the session key', async () => {
  const server = await TestServer.start();
  const parlor = await login(server);
  const getMedia = async () => {
    const reply = { media, signedURL: '/file?signature=x', expiresAt: '2026-11-22T16:00:00.000Z' };
    (await server.next('GET', `/v1/media/${mediaID}`)).reply(200, reply);
  };
  const downloading = parlor.downloadMedia(mediaID);
  await getMedia();
  const call = await server.next('GET', '/file');
  expect(call.url.search).toBe('?signature=x');
  expect(call.header('Authorization')).toBeUndefined();
  call.response.writeHead(200).end('hello');
  expect(await (await downloading).text()).toBe('hello');

  const asking = parlor.headMedia(mediaID);
  await getMedia();
  (await server.next('HEAD', '/file')).response.writeHead(200, { ETag: '"e"' }).end();
  expect((await asking).get('ETag')).toBe('"e"');

  const cut = expect(parlor.downloadMedia(mediaID)).rejects.toMatchObject({ code: 'network_error' });
  await getMedia();
  const half = await server.next('GET', '/file');
  half.response.writeHead(200, { 'Content-Length': '5' }).write('hel');
  setImmediate(() => half.cut());
  await cut;

  const refused = expect(parlor.downloadMedia(mediaID)).rejects.toMatchObject({ code: 'media_url_refused', status: 403 });
  await getMedia();
  (await server.next('GET', '/file')).refuse(403, 'media_url_refused');
  await refused;
});
