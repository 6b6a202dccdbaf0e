export interface PageHandler {
  /** The network is back, or the page's code runs again. */
  wake(): void;
  /** The browser has no network. */
  offline(): void;
  /** The page's code is about to stop: the page is frozen, or enters the back/forward cache. */
  suspend(): void;
}

/**
 * Calls a handler when the browser loses its network or has it back, and when the page's code stops
 * and runs again; never outside browsers. The returned function stops listening.
 */
export function onPageChanges({ wake, offline, suspend }: PageHandler): () => void {
  const listening = new AbortController();
  const { signal } = listening;
  globalThis.addEventListener?.('online', wake, { signal });
  globalThis.addEventListener?.('offline', offline, { signal });
  globalThis.addEventListener?.('pageshow', ({ persisted }) => persisted && wake(), { signal });
  globalThis.addEventListener?.('pagehide', ({ persisted }) => persisted && suspend(), { signal });
  // Chromium freezes tabs that were hidden for long, to save the battery.
  globalThis.document?.addEventListener('freeze', suspend, { signal });
  globalThis.document?.addEventListener('resume', wake, { signal });
  globalThis.document?.addEventListener(
    'visibilitychange',
    () => {
      if (document.visibilityState === 'visible') wake();
    },
    { signal },
  );
  return () => listening.abort();
}
