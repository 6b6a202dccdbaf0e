// A document for React, without the rest of a browser: the SDK uses the network of Node.
import { Window } from 'happy-dom';
import { afterEach, vi } from 'vitest';

const window = new Window();
vi.stubGlobal('window', window);
vi.stubGlobal('document', window.document);
vi.stubGlobal('navigator', window.navigator);

// After the document: it finds it when it is loaded.
const { cleanup, configure } = await import('@testing-library/react');
configure({ asyncUtilTimeout: 30_000 });
afterEach(cleanup);
