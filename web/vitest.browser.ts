import { defineConfig } from 'vitest/config'

// The tests in a real browser against the real program. One file at a time: each starts a
// browser, and the machines this runs on are small.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
