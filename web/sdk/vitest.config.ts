import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['tests/**/*.test.ts'],
    // A test that waits for what never comes shall say so soon.
    testTimeout: 5_000,
    restoreMocks: true,
    unstubGlobals: true,
  },
});
