import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['tests/**/*.test.ts'],
    // Only limits how long a failure takes; a busy machine is slow.
    testTimeout: 60_000,
    restoreMocks: true,
    unstubGlobals: true,
  },
});
