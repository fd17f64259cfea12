// node browser.mjs '{"pairs": [{"phones": [{library, user, password, domain, server}, …]}, …], "knock": "ws://…"}'
// node browser.mjs '{"phone": {…, ice}, "tone": "tone.wav", "calls": [null, "bob", …], "pagePort": 8099}'
//
// Opens the page in headless Chromium. Either lets each pair of phones talk and knocks at the node from a page of another host; or
// lets one phone make calls (or take them, for each null) with this file for a microphone, and listen. Prints what happened as one
// line of JSON; a phone that waits for a call says so before.
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import puppeteer from 'puppeteer-core';

const { pairs, knock, phone, tone, calls, pagePort } = JSON.parse(process.argv[2]);
const script = fs.readFileSync(new URL('./build/page.js', import.meta.url));
const pages = http.createServer((request, response) => {
  const isScript = request.url === '/page.js';
  response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
  response.end(isScript ? script : '<!doctype html><title>Phones</title><script src=/page.js></script>');
});
await new Promise(resolve => pages.listen(pagePort ?? 0, '127.0.0.1', resolve));
const { port } = pages.address();

const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'meshtone-browser-'));
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  headless: true,
  userDataDir: profile,
  ignoreDefaultArgs: ['--mute-audio'],
  args: [
    ...(tone ? [`--use-file-for-fake-audio-capture=${tone}`, '--autoplay-policy=no-user-gesture-required'] : []),
    '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
    // A microphone that beeps, and nobody who has to allow its use.
    '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream', '--allow-loopback-in-peer-connection',
    // The node's certificate is one of its own making.
    '--ignore-certificate-errors',
    // Nothing but this machine is asked for anything.
    `--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost${phone ? `, EXCLUDE ${new URL(phone.server).hostname}` : ''}`,
    '--disable-features=WebRtcHideLocalIpsWithMdns,OptimizationHints,MediaRouter,Translate',
    '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-default-apps',
    '--no-first-run', '--disable-domain-reliability', '--disable-breakpad', '--no-pings',
  ],
});
try {
  const open = async host => {
    const page = await browser.newPage();
    page.on('pageerror', error => console.error('page:', error.message));
    page.on('console', message => console.error('console:', message.text()));
    await page.goto(`http://${host}:${port}/`);
    return page;
  };
  const page = await open('127.0.0.1');
  if (calls) {
    await page.exposeFunction('said', line => console.log(line));
    console.log(JSON.stringify(await page.evaluate((phone, calls) => window.listen(phone, calls), phone, calls)));
  } else {
    const results = [];
    for (const pair of pairs) results.push(await page.evaluate(pair => window.run(pair), pair));
    const own = await page.evaluate(server => window.knock(server), knock);
    const stranger = await open('localhost');
    const foreign = await stranger.evaluate(server => window.knock(server), knock);
    console.log(JSON.stringify({ results, knocks: { own, foreign } }));
  }
} finally {
  await browser.close();
  pages.close();
  fs.rmSync(profile, { recursive: true, force: true });
}
