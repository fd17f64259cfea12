// node views.mjs '{"sites": [alice's, bob's], "link": "http://…/#key=…", "people": {…}, "screens": folder or null}'
//
// Every view, narrow and wide, light and dark: judged by axe, no wider than the screen, and drawn into a folder where one is named.
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { Person, assert, eventually, launch, main, task } from './lib.mjs';
import { small } from './png.mjs';

const { sites, link, people, screens } = task();
const axe = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const LOOKS = [[1280, 800, 'light'], [1280, 800, 'dark'], [360, 740, 'light'], [360, 740, 'dark']];

await main(async () => {
  const browser = await launch({ hz: 440 });
  const found = [];
  const seen = [];

  // Judges a view as it is now, in all looks.
  const look = async (person, name, { drawn = true, at } = {}) => {
    for (const [width, height, scheme] of LOOKS) {
      const which = `${name} at ${width} px, ${scheme}`;
      await person.page.setViewportSize({ width, height });
      await person.page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
      if (at) await person.page.getByRole('heading', { name: at }).evaluate(heading => heading.closest('section').scrollIntoView());
      await person.page.evaluate(() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve))));
      const wide = await person.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wide > 0) found.push(`${which}: ${wide} px too wide`);
      if (!(await person.page.evaluate(() => 'axe' in window))) await person.page.evaluate(axe);
      const { violations } = await person.page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
      for (const { id, help, nodes } of violations) found.push(`${which}: ${id} (${help}): ${nodes.slice(0, 3).map(node => node.target.join(' ')).join('; ')}`);
      if (screens && drawn) fs.writeFileSync(path.join(screens, `${name}-${width}-${scheme}.png`), small(await person.page.screenshot()));
      seen.push(which);
    }
    await person.page.setViewportSize({ width: 1280, height: 800 });
  };

  const alice = await Person.at(browser, sites[0]);
  await alice.page.getByLabel('Password').waitFor();
  await look(alice, 'login');
  await alice.logIn('alice', 'wrong');
  await alice.page.getByRole('alert').waitFor();
  await look(alice, 'login-refused', { drawn: false });
  await alice.ready('alice', people.alice);

  const bob = await Person.at(browser, sites[1]);
  await bob.ready('bob', people.bob);
  // Something to see: contacts, and calls that were.
  const add = async (name, address, favourite) => {
    await alice.go('/contacts');
    await alice.button('Add contact').click();
    const dialog = alice.page.getByRole('dialog');
    await dialog.getByLabel('Name', { exact: true }).fill(name);
    await dialog.getByLabel('Address or number').fill(address);
    if (favourite) await dialog.getByRole('switch').check();
    await dialog.getByRole('button', { name: 'Save' }).click();
    await dialog.waitFor({ state: 'detached' });
  };
  await look(alice, 'phone-first');
  await add('Bob Baker', 'bob', true);
  await add('Carol Chen', 'carol', true);
  await add('Dave Duarte', 'dave@example.net', false);
  await look(alice, 'contacts');
  await alice.button('Add contact').click();
  await look(alice, 'contact', { drawn: false });
  await alice.page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();

  await alice.call('carol');
  await alice.told('Carol Chen', 'Carol Chen is offline: no phone is connected there now.');
  await look(alice, 'call-ended');
  await alice.noCalls();
  await alice.call('bob');
  await bob.told('alice', 'Incoming call');
  await look(bob, 'call-incoming');
  await bob.answer('alice');
  await alice.talking('Bob Baker');
  await eventually('bars', async () => /Very good|Good/.test(await alice.card('Bob Baker').locator('.quality summary').textContent()));
  await look(alice, 'call');
  await alice.button('Keypad', alice.card('Bob Baker')).click();
  await look(alice, 'call-keypad');
  await alice.button('Keypad', alice.card('Bob Baker')).click();
  await alice.button('Transfer', alice.card('Bob Baker')).click();
  await look(alice, 'transfer');
  await alice.page.getByRole('dialog').getByRole('button', { name: 'Close' }).click();
  await alice.button('Camera on', alice.card('Bob Baker')).click();
  await eventually('her picture', () => bob.page.evaluate(() => document.querySelector('.videos video')?.videoWidth > 0));
  await bob.button('Camera on', bob.card('alice')).click();
  await eventually('both pictures', () => alice.page.evaluate(() => [...document.querySelectorAll('.videos video')].filter(one => one.videoWidth > 0).length === 2));
  await look(alice, 'call-video');
  await alice.hangUp('Bob Baker');
  await Promise.all([alice.noCalls(), bob.noCalls()]);
  await look(alice, 'phone');
  await alice.go('/history');
  await alice.page.locator('.row').first().waitFor();
  await look(alice, 'history');
  await alice.go('/settings');
  await alice.page.getByRole('heading', { name: 'Settings' }).waitFor();
  await look(alice, 'settings');

  const denied = await launch({ allow: false });
  const mute = await Person.at(denied, sites[0]);
  await mute.ready('alice', people.alice);
  await mute.call('bob');
  await mute.page.getByRole('alert').waitFor();
  await look(mute, 'microphone-denied');

  const owner = await Person.at(browser, link);
  await owner.page.locator('.health').waitFor();
  await look(owner, 'node-overview');
  await owner.go('/node/network');
  await owner.page.locator('.ring').waitFor();
  await owner.page.getByRole('textbox', { name: 'Address' }).fill('bob');
  await owner.button('Show on the ring').click();
  await owner.page.locator('.found').waitFor();
  await look(owner, 'node-network');
  await owner.go('/node/calls');
  await owner.page.locator('.call-link').first().waitFor();
  await look(owner, 'node-calls');
  await owner.page.locator('.call-link').first().click();
  await owner.page.locator('.rung').nth(1).click();
  await look(owner, 'node-ladder');
  await owner.go('/node/people');
  await owner.page.locator('td').first().waitFor();
  await look(owner, 'node-people');
  await owner.button('Invite a machine').click();
  await owner.page.getByRole('dialog').getByRole('button', { name: 'Create invitation' }).click();
  await owner.page.locator('.qr').waitFor();
  await look(owner, 'node-invitation');
  await owner.page.getByRole('dialog').getByRole('button', { name: 'Close' }).last().click();
  await owner.go('/node/log');
  await owner.page.locator('.log li').first().waitFor();
  await look(owner, 'node-log');
  await owner.go('/node/setup');
  await owner.page.locator('td').first().waitFor();
  await look(owner, 'node-setup');
  await owner.page.getByRole('button', { name: /^Change / }).first().click();
  await look(owner, 'node-setting');
  await owner.page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  await owner.page.getByRole('link', { name: 'Download the authority’s certificate.' }).waitFor();
  for (const system of ['Windows', 'macOS', 'iPhone, iPad', 'Android', 'Firefox']) {
    await owner.page.getByLabel('Your system').selectOption(system);
    assert((await owner.page.locator('.steps[start="3"] li').count()) === 3, `how ${system} is told to trust the authority`);
  }
  await look(owner, 'node-trust', { at: 'Certificate of this page' });

  for (const person of [alice, bob, owner]) person.assertClean();
  assert(found.length === 0, `found:\n${found.join('\n')}`);
  return { seen: seen.length };
});
