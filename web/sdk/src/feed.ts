import { Backoff } from './backoff.ts';
import type { FeedEvent, FeedOptions } from './feed-events.ts';
import { type HTTP, search } from './http.ts';
import { ParlorError } from './problem.ts';
import { openStream } from './sse.ts';

/**
 * How long the feed may be silent, in milliseconds. The server sends a comment every 10 s, unless
 * its operator chose another interval, which is a minute at most.
 */
const SILENCE = 90_000;
const LONGEST_DELAY = 30_000;

/** Reads the feed after an event, and continues by itself; see ParlorAdmin.streamAdminEvents. */
export async function* readFeed(
  getHTTP: () => Promise<HTTP>,
  { lastEventID, include, signal }: FeedOptions,
): AsyncGenerator<FeedEvent, void> {
  const backoff = new Backoff(LONGEST_DELAY);
  let cursor = lastEventID;
  let expired = false;
  while (!signal?.aborted) {
    let delay: number | undefined;
    const abort = new AbortController();
    const either = signal ? AbortSignal.any([signal, abort.signal]) : abort.signal;
    try {
      const chunks = await openStream(await getHTTP(), `/v1/admin/events${search({ include })}`, cursor, either);
      for (let chunk = await nextOf(chunks, abort); !chunk.done; chunk = await nextOf(chunks, abort)) {
        for (const frame of chunk.value) {
          if ('retry' in frame) continue;
          const { name, id = cursor } = frame;
          const data = JSON.parse(frame.data);
          if (name === 'reconnect') delay = data.afterMs;
          if (name === 'reconnect' || name === 'connectionStateChanged') continue; // the server is about to end the feed
          backoff.reset();
          expired = false;
          yield { event: name, data, id } as FeedEvent;
          cursor = id;
        }
      }
    } catch (error) {
      if (signal?.aborted) return;
      // Not a lost connection, but an error of getToken, or an event that is not JSON.
      if (!(error instanceof ParlorError) && !(error instanceof TypeError) && !abort.signal.aborted) throw error;
      if (error instanceof ParlorError) {
        const { code, status, temporary, retryAfter } = error;
        // The next token may be valid. If it is not either, it never will be.
        const renewable = code === 'token_expired' && !expired;
        if (status >= 400 && status < 500 && !temporary && !renewable) throw error;
        expired = code === 'token_expired';
        delay = retryAfter + backoff.next();
      }
    } finally {
      abort.abort();
    }
    await pause(delay ?? backoff.next(), signal);
  }
}

/** Reads the next chunk, and closes the connection if none arrives in time. */
async function nextOf<T>(chunks: AsyncIterator<T, void>, abort: AbortController): Promise<IteratorResult<T, void>> {
  const silence = setTimeout(() => abort.abort(), SILENCE);
  try {
    return await chunks.next();
  } finally {
    clearTimeout(silence);
  }
}

function pause(delay: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, delay);
    signal?.addEventListener('abort', done);
  });
}
