// The types of openapi-typescript with openapi-fetch.
import createClient from 'openapi-fetch';
import type { paths } from '../generated/openapi-typescript/api';
import { baseURL, drive, type Reply } from './scenario';

const api = createClient<paths>({ baseUrl: baseURL });

async function replyOf(call: Promise<{ data?: unknown; error?: unknown; response: Response }>): Promise<Reply> {
  const { data, error, response } = await call;
  return { status: response.status, headers: response.headers, body: data ?? error };
}

await drive('openapi-fetch', {
  createSession: (token) => replyOf(api.POST('/v1/sessions', { body: { token } })),
  authenticate(sessionKey) {
    api.use({
      onRequest({ request }) {
        request.headers.set('Authorization', `Bearer ${sessionKey}`);
        return request;
      },
    });
  },
  createRoom: (roomID) => replyOf(api.POST('/v1/rooms', { body: { roomID } })),
  enterRoom: (roomID) => replyOf(api.POST('/v1/rooms/{roomID}/enter', { params: { path: { roomID } }, body: {} })),
  sendRoomMessage: (roomID, body) => replyOf(api.POST('/v1/rooms/{roomID}/messages', { params: { path: { roomID } }, body })),
  listRoomMessages: (roomID, query) => replyOf(api.GET('/v1/rooms/{roomID}/messages', { params: { path: { roomID }, query } })),
  listMembers: (roomID, query) => replyOf(api.GET('/v1/rooms/{roomID}/members', { params: { path: { roomID }, query } })),
  uploadMedia(_, file) {
    // The type of bytes is string, and a form is not made by itself.
    const form = new FormData();
    form.append('file', file);
    return replyOf(api.POST('/v1/media', { body: form as never, bodySerializer: (body: unknown) => body as FormData }));
  },
  downloadMedia: (mediaID, fileName) =>
    replyOf(api.GET('/v1/media/{mediaID}/{fileName}', { params: { path: { mediaID, fileName } }, parseAs: 'arrayBuffer' })),
  streamEvents: (query) => replyOf(api.GET('/v1/events', { params: { query } })),
});
