import { defineConfig } from 'vitest/config';

export default defineConfig({
  resolve: { alias: { 'parlor-react': new URL('src/index.ts', import.meta.url).pathname } },
  test: {
    include: ['tests/**/*.test.tsx'],
    setupFiles: ['tests/dom.ts'],
    // Only limits how long a failure takes; a busy machine is slow.
    testTimeout: 60_000,
    restoreMocks: true,
  },
});
