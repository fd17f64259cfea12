import react from '@vitejs/plugin-react';
import { defineConfig } from 'vitest/config';

// For `npm run dev`: a node that runs on this machine answers what the page asks.
const node = process.env['MESHTONE_NODE'] ?? 'http://127.0.0.1:8080';

export default defineConfig({
  plugins: [react()],
  build: {
    target: 'es2022',
    // The policy allows no data: scripts and the page shall load nothing twice.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    // What may be loaded is measured compressed, by scripts/size.mjs.
    chunkSizeWarningLimit: 1000,
  },
  server: {
    proxy: {
      '/api': { target: node, ws: true },
      '/sip': { target: node, ws: true },
    },
  },
  test: { include: ['test/**/*.test.ts'] },
});
