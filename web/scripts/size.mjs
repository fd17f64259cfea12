// Packs what `vite build` has left (FILE.br and FILE.gz beside each file), and fails if what a first visit loads is more than it may be.
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';

const LARGEST_FIRST_LOAD = 250 * 1024;
const dist = new URL('../dist/', import.meta.url).pathname;

function files(folder) {
  return fs.readdirSync(folder, { withFileTypes: true }).flatMap(entry => {
    const name = path.join(folder, entry.name);
    return entry.isDirectory() ? files(name) : [name];
  });
}

// What index.html names is loaded at once; everything else when it is wanted.
const index = fs.readFileSync(path.join(dist, 'index.html'), 'utf8');
if (/<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=/.test(index)) throw new Error('index.html has something inline, which its policy forbids');
let first = 0;
for (const file of files(dist).filter(name => !/\.(br|gz)$/.test(name))) {
  const bytes = fs.readFileSync(file);
  const gz = zlib.gzipSync(bytes, { level: 9 });
  const br = zlib.brotliCompressSync(bytes, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 11 } });
  fs.writeFileSync(`${file}.gz`, gz);
  fs.writeFileSync(`${file}.br`, br);
  const name = path.relative(dist, file);
  const isFirst = name === 'index.html' || index.includes(name);
  if (isFirst) first += gz.length;
  console.log(`${isFirst ? 'first' : 'later'}  ${String(gz.length).padStart(7)} gz  ${String(br.length).padStart(7)} br  ${name}`);
}
console.log(`first load: ${first} bytes compressed of ${LARGEST_FIRST_LOAD} allowed`);
if (first > LARGEST_FIRST_LOAD) {
  console.error('hint: load what is not needed at once by import(), or do without a dependency');
  process.exit(1);
}
