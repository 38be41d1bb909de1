// The build is reproducible: exact versions, hashed names, no date and no git hash in the bundle, so
// that a rebuild can be compared byte for byte with the committed dist.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

const server = process.env.WASMORCH_SERVER ?? 'http://127.0.0.1:7070';

export default defineConfig({
  base: '/ui/',
  plugins: [svelte()],
  build: { target: 'es2022', sourcemap: false, reportCompressedSize: false },
  server: { proxy: { '/api': { target: server, ws: true }, '/apis': { target: server, ws: true }, '/version': server } },
});
