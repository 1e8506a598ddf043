import preact from '@preact/preset-vite'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  plugins: [preact()],
  // Relative addresses, so that the page works below any path of a reverse proxy.
  base: './',
  build: {
    target: 'es2022',
    // Everything is a file of its own: the page's policy allows no data: scripts or styles.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1024,
    rolldownOptions: { input: ['index.html', 'docs.html'] },
  },
  // The server puts a nonce of each answer's own in place of this word.
  html: { cspNonce: '@NONCE@' },
  // For "npm run dev" beside a server that is already running.
  server: {
    // The documents are where what they describe is.
    fs: { allow: ['.', '../httpapi', '../ws'] },
    proxy: {
      '/session': { target: 'http://127.0.0.1:4477', ws: true },
      '/ws': { target: 'http://127.0.0.1:4477', ws: true },
    },
  },
  test: { include: ['{src,client}/**/*.test.ts'], testTimeout: 60_000, hookTimeout: 60_000 },
})
