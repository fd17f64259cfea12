// What every script here begins with: Chromium with a tone for a microphone, people at the page, and what they see and hear.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';

/** How long anything may take that a person would wait for. */
export const SOON_MS = 20_000;

/** What is quieter is no sound. */
const LOUD_DB = -60;

/** The one argument of a script: its task, as JSON. */
export function task() {
  return JSON.parse(process.argv[2]);
}

/** Fails with what was expected. */
export function assert(condition, what) {
  if (!condition) throw new Error(what);
}

/** Waits until this gives something that is true, and returns it. */
export async function eventually(what, look, within_ms = SOON_MS) {
  const end = Date.now() + within_ms;
  let last;
  for (;;) {
    try {
      const found = await look();
      if (found) return found;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`waited in vain for ${what}${last ? ` (${last.message})` : ''}`);
    await new Promise(resolve => setTimeout(resolve, 100));
  }
}

/** A tone that comes and goes like syllables: browsers take a steady one for noise and suppress it. */
function voice(hz) {
  const rate = 48_000;
  const seconds = 12;
  const samples = Buffer.alloc(44 + rate * seconds * 2);
  samples.write('RIFF', 0);
  samples.writeUInt32LE(samples.length - 8, 4);
  samples.write('WAVEfmt ', 8);
  samples.writeUInt32LE(16, 16);
  samples.writeUInt16LE(1, 20);
  samples.writeUInt16LE(1, 22);
  samples.writeUInt32LE(rate, 24);
  samples.writeUInt32LE(rate * 2, 28);
  samples.writeUInt16LE(2, 32);
  samples.writeUInt16LE(16, 34);
  samples.write('data', 36);
  samples.writeUInt32LE(samples.length - 44, 40);
  for (let i = 0; i < rate * seconds; i += 1) {
    const syllable = Math.max(0, Math.sin((2 * Math.PI * 2.5 * i) / rate)) ** 0.5;
    samples.writeInt16LE(Math.round(14_000 * syllable * Math.sin((2 * Math.PI * hz * i) / rate)), 44 + 2 * i);
  }
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'meshtone-voice-')), 'voice.wav');
  fs.writeFileSync(file, samples);
  process.on('exit', () => fs.rmSync(path.dirname(file), { recursive: true, force: true }));
  return file;
}

/** Chromium on this machine alone, whose microphone hears a tone of `hz`; `devices: 'none'` says that it has none. */
export async function launch({ hz, devices = 'fake', allow = true } = {}) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    headless: true,
    ignoreDefaultArgs: ['--mute-audio'],
    args: [
      ...(devices === 'fake' ? ['--use-fake-device-for-media-stream'] : []),
      ...(allow ? ['--use-fake-ui-for-media-stream'] : []),
      ...(hz ? [`--use-file-for-fake-audio-capture=${voice(hz)}`] : []),
      '--autoplay-policy=no-user-gesture-required',
      '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-quic', '--no-first-run', '--no-pings',
      // Nothing but this machine is asked for anything.
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost',
      '--allow-loopback-in-peer-connection',
      '--disable-features=WebRtcHideLocalIpsWithMdns,OptimizationHints,MediaRouter,Translate',
      '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-default-apps',
      '--disable-domain-reliability', '--disable-breakpad',
      // Pages that nobody looks at ring all the same.
      '--disable-background-timer-throttling', '--disable-renderer-backgrounding', '--disable-backgrounding-occluded-windows',
    ],
  });
}

/** Somebody at the page of a node. What the browser complains of, and whatever is asked of other hosts, is kept. */
export class Person {
  complaints = [];
  hosts = new Set();

  static async at(browser, site, options = {}) {
    const person = new Person();
    person.site = site;
    person.context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 800 }, ...options });
    person.page = await person.context.newPage();
    // What is sent by SIP is kept, and sent later where the line is slow.
    await person.page.addInitScript(() => {
      window.sent = [];
      window.late_ms = 0;
      const send = WebSocket.prototype.send;
      WebSocket.prototype.send = function (text) {
        if (typeof text === 'string' && text.includes('SIP/2.0')) window.sent.push(text);
        if (window.late_ms > 0) setTimeout(() => send.call(this, text), window.late_ms);
        else send.call(this, text);
      };
    });
    person.page.setDefaultTimeout(SOON_MS);
    person.page.on('pageerror', error => person.complaints.push(String(error)));
    person.page.on('console', message => {
      if (message.type() === 'error' && !/Failed to load resource|WebSocket connection|(SSL certificate|unknown) error occurred when fetching the script/.test(message.text())) person.complaints.push(message.text());
    });
    person.page.on('request', request => person.hosts.add(new URL(request.url()).host));
    await person.page.goto(site);
    return person;
  }

  async logIn(address, password) {
    await this.page.getByLabel('Address, name or number').fill(address);
    await this.page.getByLabel('Password').fill(password);
    await this.page.getByRole('button', { name: 'Log in' }).click();
  }

  /** Logs in and waits until calls would come in. */
  async ready(address, password) {
    await this.logIn(address, password);
    await this.page.locator('.me .registered').waitFor();
  }

  async go(to) {
    await this.page.evaluate(hash => { location.hash = hash; }, to);
  }

  button(name, within = this.page) {
    return within.getByRole('button', { name, exact: typeof name === 'string' });
  }

  /** The card of the call with somebody, by whom it is shown to be with. */
  card(who) {
    return this.page.getByRole('article', { name: who, exact: true });
  }

  async call(to) {
    await this.go('/');
    await this.page.getByRole('combobox').fill(to);
    await this.page.getByRole('button', { name: 'Call', exact: true }).click();
  }

  async answer(who) {
    await this.card(who).getByRole('button', { name: `Answer: ${who}` }).click();
  }

  async talking(who) {
    await this.card(who).and(this.page.locator('[data-state=talking]')).waitFor();
  }

  async hangUp(who) {
    await this.card(who).getByRole('button', { name: 'Hang up' }).click();
  }

  /** Everything that this page sends from now on by SIP arrives so much later. */
  async slowLine(ms) {
    await this.page.evaluate(late_ms => { window.late_ms = late_ms; }, ms);
  }

  /** What the system shows of this page: title, text and buttons of each. */
  async notifications() {
    const list = await this.page.evaluate(async () => {
      const worker = await navigator.serviceWorker.ready;
      return (await worker.getNotifications()).map(({ title, body, actions }) => [title, body, actions.map(({ action }) => action).join(' ')]);
    });
    return list.map(([title, body, actions]) => `${title}: ${body}; ${actions}`);
  }

  /** Clicks at a notification, or at one of its buttons. */
  async choose(title, action) {
    const worker = this.context.serviceWorkers()[0];
    await worker.evaluate(async ([wanted, chosen]) => {
      const [notification] = (await self.registration.getNotifications()).filter(one => one.title === wanted);
      self.dispatchEvent(new NotificationEvent('notificationclick', { notification, action: chosen }));
    }, [title, action]);
  }

  /** How many offers this page has refused since another was under way. */
  async refusedOffers() {
    return this.page.evaluate(() => window.sent.filter(text => /^SIP\/2.0 491 /.test(text)).length);
  }

  /** Waits for this sentence at a call. */
  async told(who, sentence) {
    await this.card(who).getByText(sentence).first().waitFor();
  }

  /** Puts away what is told of calls that ended, as each ends, until none is left. */
  async noCalls() {
    await eventually('no calls', async () => {
      await this.page.evaluate(() => {
        for (const button of document.querySelectorAll('.call.ended [aria-label=Dismiss]')) button.click();
      });
      return (await this.page.locator('.call').count()) === 0;
    });
  }

  /** The strongest frequency of what comes out of the page now, and how loud it is in decibels. */
  async heard() {
    return this.page.evaluate(async () => {
      window.ears ??= new AudioContext({ sampleRate: 48000 });
      await window.ears.resume();
      let best = [0, -200];
      for (const element of document.querySelectorAll('audio')) {
        if (!element.srcObject?.getAudioTracks().length) continue;
        element.analyser ??= (() => {
          const analyser = window.ears.createAnalyser();
          analyser.fftSize = 8192;
          analyser.smoothingTimeConstant = 0;
          return analyser;
        })();
        const track = element.srcObject.getAudioTracks()[0];
        if (element.track !== track) {
          element.track = track;
          window.ears.createMediaStreamSource(new MediaStream([track])).connect(element.analyser);
        }
        const levels = new Float32Array(element.analyser.frequencyBinCount);
        element.analyser.getFloatFrequencyData(levels);
        let strongest = 10;
        for (let bin = 10; bin < levels.length; bin += 1) if (levels[bin] > levels[strongest]) strongest = bin;
        if (levels[strongest] > best[1]) best = [(strongest * 48000) / 8192, levels[strongest]];
      }
      return best;
    });
  }

  /** Waits until five sounds in a row are this tone; between syllables it is quiet. */
  async hears(hz) {
    let row = 0;
    let last;
    await eventually(`a tone of ${hz} Hz`, async () => {
      last = await this.heard();
      if (last[1] > LOUD_DB) row = Math.abs(last[0] - hz) < 20 ? row + 1 : 0;
      return row >= 5;
    }).catch(error => {
      throw new Error(`${error.message}; the last was ${last}`);
    });
  }

  /** Waits until it is quiet for longer than between syllables. */
  async hearsNothing() {
    let since = Date.now();
    await eventually('silence', async () => {
      if ((await this.heard())[1] > LOUD_DB) since = Date.now();
      return Date.now() - since > 1000;
    });
  }

  assertClean() {
    assert(this.complaints.length === 0, `the browser complains: ${this.complaints.join('; ')}`);
    const own = new URL(this.site).host;
    const foreign = [...this.hosts].filter(host => host !== own && host !== '');
    assert(foreign.length === 0, `others were asked for something: ${foreign}`);
  }
}

/** Runs a script's part; what it finds out is printed as one line of JSON. */
export async function main(run) {
  try {
    console.log(JSON.stringify({ error: null, ...(await run()) }));
  } catch (error) {
    console.log(JSON.stringify({ error: error.stack ?? String(error) }));
    process.exitCode = 1;
  } finally {
    process.exit();
  }
}
