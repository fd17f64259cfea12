// Writes what the page is made of, with the licences that ask to be passed on, to dist/licenses.txt.
import fs from 'node:fs';
import path from 'node:path';

const root = new URL('..', import.meta.url).pathname;
const lock = JSON.parse(fs.readFileSync(path.join(root, 'package-lock.json'), 'utf8'));
const parts = [];
for (const [folder, { version, license, dev, optional }] of Object.entries(lock.packages)) {
  if (folder === '' || dev || optional) continue;
  const file = fs.readdirSync(path.join(root, folder)).find(name => /^licen[cs]e/i.test(name));
  if (!file) throw new Error(`${folder} has no licence in it (${license})`);
  parts.push(`${folder.replace(/^.*node_modules\//, '')} ${version} (${license})\n\n${fs.readFileSync(path.join(root, folder, file), 'utf8').trim()}\n`);
}
if (parts.length === 0) throw new Error('nothing was found in package-lock.json');
fs.writeFileSync(path.join(root, 'dist', 'licenses.txt'), parts.join(`\n${'─'.repeat(80)}\n\n`));
