// node person.mjs '{"sites": [one's, another's], "people": {"alice": password, …}}'
//
// What the page keeps and does for a person besides calling: contacts, history, block list, do not disturb, devices, echo test; by keyboard
// too.
import { Person, SOON_MS, assert, eventually, launch, main, task } from './lib.mjs';

const { sites, people } = task();
const [aliceHz, bobHz] = [440, 1000];

await main(async () => {
  const left = await launch({ hz: aliceHz });
  const right = await launch({ hz: bobHz });
  const alice = await Person.at(left, sites[0]);
  const bob = await Person.at(right, sites[1]);
  await bob.ready('bob', people.bob);

  // Whoever looks at something else is told by the system who calls.
  await bob.context.grantPermissions(['notifications', 'microphone', 'camera']);
  await bob.page.evaluate(() => {
    window.told = [];
    document.hasFocus = () => false;
    window.Notification = class extends Notification {
      constructor(title, options) {
        super(title, options);
        window.told.push(title);
      }
    };
  });
  await bob.go('/settings');
  await bob.page.getByText('Allowed: you are told who calls while this page is in the background.').waitFor();

  // By keyboard alone: log in, call, answer.
  await alice.page.getByLabel('Address, name or number').focus();
  await alice.page.keyboard.type('alice');
  await alice.page.keyboard.press('Tab');
  await alice.page.keyboard.type(people.alice);
  await alice.page.keyboard.press('Enter');
  await alice.page.locator('.me .registered').waitFor();
  await eventually('the dial field to have the focus by tabs', async () => {
    await alice.page.keyboard.press('Tab');
    return alice.page.evaluate(() => document.activeElement?.getAttribute('role') === 'combobox');
  });
  await alice.page.keyboard.type('bob');
  await alice.page.keyboard.press('Enter');
  await bob.told('alice', 'Incoming call');
  assert((await bob.page.evaluate(() => window.told.join())) === 'alice calls', 'a notification tells who calls');
  await eventually('the focus on what answers', () => bob.page.evaluate(() => /^Answer/.test(document.activeElement?.getAttribute('aria-label') ?? '')));
  await bob.page.keyboard.press('Enter');
  await Promise.all([alice.talking('bob'), bob.talking('alice')]);
  await bob.told('alice', 'Verified caller');
  await alice.hears(bobHz);
  await alice.hangUp('bob');
  await bob.told('alice', 'alice hung up.');
  await Promise.all([alice.noCalls(), bob.noCalls()]);

  // The same from the notification: answered, rejected, and told later that a call was missed. Its buttons need a service worker.
  await alice.context.grantPermissions(['notifications', 'microphone', 'camera']);
  await alice.page.evaluate(() => { document.hasFocus = () => false; });
  await alice.go('/settings');
  await bob.call('alice');
  await eventually('who calls, with two buttons', async () => (await alice.notifications()).includes('bob calls: Verified caller; answer reject'));
  await alice.choose('bob calls', 'answer');
  await Promise.all([alice.talking('bob'), bob.talking('alice')]);
  await eventually('no more word of it', async () => (await alice.notifications()).length === 0);
  await bob.hangUp('alice');
  await Promise.all([alice.noCalls(), bob.noCalls()]);
  await bob.call('alice');
  await eventually('who calls', async () => (await alice.notifications()).length === 1);
  await alice.choose('bob calls', 'reject');
  await bob.told('alice', 'alice is busy.');
  await Promise.all([alice.noCalls(), bob.noCalls()]);
  await bob.call('alice');
  await eventually('who calls', async () => (await alice.notifications()).length === 1);
  await alice.choose('bob calls', '');
  await eventually('the focus on what answers', () => alice.page.evaluate(() => /^Answer/.test(document.activeElement?.getAttribute('aria-label') ?? '')));
  await bob.button('Cancel call', bob.card('alice')).click();
  await eventually('who was missed', async () => (await alice.notifications()).join() === 'Missed call from bob: ; ');
  await alice.choose('Missed call from bob', '');
  await alice.page.getByRole('heading', { name: 'Recent calls' }).waitFor();
  await Promise.all([alice.noCalls(), bob.noCalls()]);

  // A contact, whose name is shown as it was written; found by typing, called from the favourites.
  await alice.go('/contacts');
  await alice.button('Add contact').click();
  await alice.page.getByLabel('Name', { exact: true }).fill('Bob <img src=x onerror=alert(1)>');
  await alice.page.getByLabel('Address or number').fill('bob');
  await alice.page.getByRole('switch', { name: 'Favourite' }).check();
  await alice.button('Save').click();
  const bobAsWritten = 'Bob <img src=x onerror=alert(1)>';
  await alice.page.getByText(bobAsWritten).first().waitFor();
  assert((await alice.page.locator('main img').count()) === 0, 'what others write is no markup');
  await alice.button(`Edit ${bobAsWritten}`).click();
  await alice.page.getByLabel('Name', { exact: true }).fill('Bob Baker');
  await alice.button('Save').click();
  await alice.page.getByText('Bob Baker').first().waitFor();
  await alice.go('/');
  await alice.page.getByRole('combobox').fill('bak');
  await alice.page.getByRole('option', { name: /Bob Baker/ }).waitFor();
  await alice.page.keyboard.press('ArrowDown');
  await alice.page.keyboard.press('Enter');
  await bob.told('alice', 'Incoming call');
  await alice.button('Cancel call', alice.card('Bob Baker')).click();
  await bob.told('alice', 'alice gave up before you answered.');
  await Promise.all([alice.noCalls(), bob.noCalls()]);

  // What was missed is told until it was seen; whoever called is blocked from there.
  await bob.page.getByRole('link', { name: /Recent.*1 missed call/ }).click();
  await bob.page.locator('.row', { hasText: 'Missed' }).first().waitFor();
  await bob.page.locator('.row', { hasText: 'Answered' }).first().waitFor();
  await eventually('no more missed calls', async () => (await bob.page.getByRole('link', { name: /missed call/ }).count()) === 0);
  await bob.page.getByRole('button', { name: 'Block alice' }).first().click();
  await bob.page.getByRole('button', { name: 'Unblock alice' }).first().waitFor();
  await alice.go('/');
  await alice.page.getByRole('button', { name: 'Call Bob Baker' }).first().click();
  await alice.told('Bob Baker', 'Bob Baker does not take the call.');
  assert((await bob.page.locator('.call').count()) === 0, 'who is blocked does not ring');
  await bob.go('/settings');
  await bob.button('Unblock alice@mesh.test').click();
  await bob.page.getByText('Nobody is blocked.').waitFor();

  // Not to be disturbed.
  await bob.page.getByRole('switch', { name: 'Do not disturb' }).check();
  await bob.page.getByText('Do not disturb is on: no calls come in.').waitFor();
  await alice.noCalls();
  await alice.call('bob');
  await alice.told('Bob Baker', 'Bob Baker does not want to be disturbed now.');
  await bob.button('Turn off').click();
  await eventually('being disturbed again', async () => !(await bob.page.getByRole('switch', { name: 'Do not disturb' }).isChecked()));
  await alice.noCalls();

  // Devices, before anybody is called; and the echo test.
  await alice.button('Check devices').click();
  await alice.button('Test microphone').click();
  await alice.page.getByText('You are heard.').waitFor();
  await eventually('a level that moves', () => alice.page.evaluate(() => document.querySelector('meter').value > 0.2));
  await alice.button('Stop test').click();
  await alice.button('Test camera').click();
  await eventually('a picture', () => alice.page.evaluate(() => document.querySelector('video.preview')?.videoWidth > 0));
  await alice.button('Echo test').click();
  await alice.talking('Echo test');
  await alice.hears(aliceHz);
  await alice.told('Echo test', 'Encrypted to your node');
  await alice.hangUp('Echo test');
  await alice.noCalls();

  // A reload needs no password; another browser knows the contacts; who logs out is out.
  await alice.page.reload();
  await alice.page.locator('.me .registered').waitFor();
  const kept = await alice.page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
  assert(!kept.includes(people.alice) && !/password|~/.test(kept), `nothing secret is kept: ${kept}`);
  const elsewhere = await Person.at(right, sites[1]);
  await elsewhere.ready('alice', people.alice);
  await elsewhere.go('/contacts');
  await elsewhere.page.getByText('Bob Baker').first().waitFor({ timeout: SOON_MS });
  await alice.button('Log out').click();
  await alice.button('Log in').waitFor();
  await alice.page.reload();
  await alice.button('Log in').waitFor();

  for (const person of [alice, bob, elsewhere]) person.assertClean();
  return {};
});
