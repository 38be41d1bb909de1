// The weight of the page, checked: first load at most 40 KiB brotli, everything at most 400.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync } from 'node:zlib';

const dist = new URL('../dist/', import.meta.url).pathname;
const files = readdirSync(dist, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
let total = 0;
let first = 0;
const index = readFileSync(join(dist, 'index.html'), 'utf8');
for (const entry of files) {
  const path = join(entry.parentPath, entry.name);
  const size = brotliCompressSync(readFileSync(path)).length;
  total += size;
  if (index.includes(entry.name) || entry.name === 'index.html') first += size;
}
console.log(`first load ${(first / 1024).toFixed(1)} KiB, whole ${(total / 1024).toFixed(1)} KiB (brotli)`);
if (first > 40 * 1024 || total > 400 * 1024) {
  console.error('over budget: 40 KiB first load, 400 KiB in all');
  process.exit(1);
}
