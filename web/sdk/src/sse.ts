import { createParser } from 'eventsource-parser';
import { FETCH_OPTIONS, type HTTP } from './http.ts';
import { mediaType, ParlorError, problemOf } from './problem.ts';

/** An event, or the delay before a reconnect that the server chose, in milliseconds. */
export type Frame = { name: string; data: string; id: string | undefined } | { retry: number };

/**
 * Opens a stream of Server-Sent Events that continues after a cursor, if there is one. It returns an
 * iterator over the frames of each chunk of bytes, which may be none: a comment is alive too.
 *
 * @throws {ParlorError} if the server refuses, or the reply is not a stream; or the error of fetch.
 */
export async function openStream(
  http: HTTP,
  path: string,
  cursor: string | undefined,
  signal: AbortSignal,
): Promise<AsyncGenerator<Frame[], void>> {
  const headers = new Headers({ Accept: 'text/event-stream', ...http.authorization });
  if (cursor !== undefined) headers.set('Last-Event-ID', cursor);
  const response = await fetch(http.baseURL + path, { ...FETCH_OPTIONS, headers, signal });
  if (!response.ok) throw await problemOf(response);
  const { body, status } = response;
  // The sign-in page of a captive portal has status 200 as well.
  if (mediaType(response) !== 'text/event-stream' || body === null) {
    await body?.cancel();
    throw new ParlorError('unexpected_reply', 'The reply is not a stream of events.', { status });
  }
  return parse(body);
}

async function* parse(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<Frame[], void> {
  let frames: Frame[] = [];
  const parser = createParser({
    onEvent: ({ event = 'message', data, id }) => frames.push({ name: event, data, id }),
    onRetry: (retry) => frames.push({ retry }),
  });
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    parser.feed(chunk.value);
    yield frames;
    frames = [];
  }
}
