import * as api from '../generated/hey-api';
import { client } from '../generated/hey-api/client.gen';
import { baseURL, drive, type Reply } from './scenario';

client.setConfig({ baseUrl: baseURL });

async function replyOf(call: Promise<{ data?: unknown; error?: unknown; response?: Response }>): Promise<Reply> {
  const { data, error, response } = await call;
  if (response === undefined) throw error;
  return { status: response.status, headers: response.headers, body: data ?? error };
}

await drive('hey-api', {
  createSession: (token) => replyOf(api.createSession({ body: { token } })),
  authenticate: (sessionKey) => client.setConfig({ auth: sessionKey }),
  createRoom: (roomID) => replyOf(api.createRoom({ body: { roomID } })),
  enterRoom: (roomID) => replyOf(api.enterRoom({ path: { roomID }, body: {} })),
  sendRoomMessage: (roomID, body) => replyOf(api.sendRoomMessage({ path: { roomID }, body })),
  listRoomMessages: (roomID, query) => replyOf(api.listRoomMessages({ path: { roomID }, query })),
  listMembers: (roomID, query) => replyOf(api.listMembers({ path: { roomID }, query })),
  uploadMedia: (_, file) => replyOf(api.uploadMedia({ body: { file } })),
  downloadMedia: (mediaID, fileName) => replyOf(api.downloadMedia({ path: { mediaID, fileName }, parseAs: 'arrayBuffer' })),
  streamEvents: (query) => replyOf(api.streamEvents({ query })),
});
