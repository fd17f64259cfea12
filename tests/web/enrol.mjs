// node enrol.mjs '{"site": "https://…", "link": "https://…/confirm#…", "address": "…"}'
//
// Walks through the form by which people enrol in headless Chromium, on a narrow screen, and prints what it saw as one line of JSON.
// With a link, the way of the mail; without one, the first step, by keyboard alone.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import puppeteer from 'puppeteer-core';

const { site, link, address } = JSON.parse(process.argv[2]);
const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'meshtone-browser-'));
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  headless: true,
  userDataDir: profile,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
    // The node's certificate is one of its own making.
    '--ignore-certificate-errors',
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost',
    '--disable-features=OptimizationHints,MediaRouter,Translate',
    '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-default-apps', '--no-first-run',
  ],
});
try {
  const page = await browser.newPage();
  await page.setViewport({ width: 360, height: 640 });
  const complaints = [], requests = [];
  page.on('console', message => complaints.push(message.text()));
  page.on('pageerror', error => complaints.push(error.message));
  page.on('request', request => requests.push(new URL(request.url()).host));
  await page.goto(link ?? `${site}/enroll`, { waitUntil: 'load' });
  const seen = {
    wide: await page.evaluate(() => document.documentElement.scrollWidth > 360),
    unlabelled: await page.evaluate(() => [...document.querySelectorAll('input:not([type=hidden])')].filter(one => !one.labels.length).length),
    address: await page.$eval('[name=address]', one => one.value),
    code: link ? await page.$eval('[name=code]', one => one.value) : null,
    hash: await page.evaluate(() => location.hash + history.length),
  };
  if (!link) {
    // By keyboard: the first thing that takes text is the address.
    while (await page.evaluate(() => document.activeElement?.name !== 'address')) await page.keyboard.press('Tab');
    await page.keyboard.type(address);
  }
  await Promise.all([page.waitForNavigation(), link ? page.click('button') : page.keyboard.press('Enter')]);
  const title = await page.title();
  const listed = await page.$$eval('dd', all => all.map(one => one.textContent));
  console.log(JSON.stringify({ ...seen, title, listed, complaints, hosts: [...new Set(requests)] }));
} finally {
  await browser.close();
  fs.rmSync(profile, { recursive: true, force: true });
}
