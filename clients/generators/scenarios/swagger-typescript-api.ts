import { Api, type HttpResponse, type SendMessageRequest } from '../generated/swagger-typescript-api';
import { baseURL, drive, type Reply } from './scenario';

const api = new Api<string>({
  baseUrl: baseURL,
  securityWorker: (sessionKey) => (sessionKey === null ? {} : { headers: { Authorization: `Bearer ${sessionKey}` } }),
});

/** The client throws the response if its status is not that of a success. */
async function replyOf(call: Promise<HttpResponse<unknown, unknown>>): Promise<Reply> {
  const response = await call.catch((refused: HttpResponse<unknown, unknown>) => refused);
  return { status: response.status, headers: response.headers, body: response.data ?? response.error };
}

// The client puts arguments into paths as they are.
const segment = encodeURIComponent;

await drive('swagger-typescript-api', {
  createSession: (token) => replyOf(api.v1.createSession({ token })),
  authenticate: (sessionKey) => api.setSecurityData(sessionKey),
  createRoom: (roomID) => replyOf(api.v1.createRoom({ roomID })),
  enterRoom: (roomID) => replyOf(api.v1.enterRoom(segment(roomID), {})),
  sendRoomMessage(roomID, draft) {
    // The type of Base64 is Blob, and its value is the text nevertheless.
    const typed = draft.kind === 'command' ? (draft as unknown as SendMessageRequest) : draft;
    return replyOf(api.v1.sendRoomMessage(segment(roomID), typed));
  },
  listRoomMessages: (roomID, query) => replyOf(api.v1.listRoomMessages(segment(roomID), query)),
  listMembers: (roomID, query) => replyOf(api.v1.listMembers(segment(roomID), query)),
  uploadMedia: (_, file) => replyOf(api.v1.uploadMedia({ file })),
  async downloadMedia(mediaID, fileName) {
    const response = await api.v1.downloadMedia(mediaID, segment(fileName)); // its body is not read
    return { status: response.status, headers: response.headers, body: await response.arrayBuffer() };
  },
  streamEvents: (query) => replyOf(api.v1.streamEvents(query)),
});
