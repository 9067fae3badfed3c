import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

/** The stored theme is set by the entry script: painting waits for it, or a page kept dark would flash white. */
function paintAfterEntry(): Plugin {
  return {
    name: 'paint-after-entry',
    transformIndexHtml: {
      order: 'post',
      handler: (html) => html.replace('<script type="module"', '<script type="module" blocking="render"'),
    },
  };
}

export default defineConfig({
  plugins: [svelte(), paintAfterEntry()],
  build: {
    outDir: '../static',
    emptyOutDir: true,
    target: 'es2022',
    // The content security policy allows files of this origin only, so nothing may become a data: address.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
    rolldownOptions: {
      output: {
        // The chart library changes rarely: on its own it stays cached over releases of the page.
        codeSplitting: { groups: [{ name: 'charts', test: /node_modules[\\/](echarts|zrender|tslib)/ }] },
      },
    },
  },
  server: { proxy: { '/api': 'http://127.0.0.1:8000' } },
});
