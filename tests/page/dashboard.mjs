// node dashboard.mjs '{"link": "http://localhost…/#key=…", "site": …, "password": alice's}'
//
// Whoever runs the first of four nodes looks at them. Prints "call" when bob's phone is to call alice with a name that is markup, and
// "kill" when the last two nodes are to be killed.
import { Person, assert, eventually, launch, main, task } from './lib.mjs';

const { link, site, markup } = task();

await main(async () => {
  const browser = await launch({ hz: 440 });
  const owner = await Person.at(browser, link);
  await owner.page.locator('.health').waitFor();
  assert(!owner.page.url().includes('key='), 'the key is taken out of the address bar');
  const tile = name => owner.page.locator('.tiles a', { hasText: name }).locator('.tile-value');
  await eventually('three links', async () => (await tile('Linked nodes').textContent()) === '3');
  await owner.page.locator('.tiles').getByText(/3 direct, 0 relayed/).waitFor();

  // The link is good once.
  const late = await Person.at(browser, link);
  await late.page.getByText('That link opens the dashboard only once, and within an hour.').waitFor();

  // A user, who can log in with what is shown; another number; another password; no user.
  await owner.go('/node/people');
  await owner.button('Add user').click();
  const dialog = owner.page.getByRole('dialog');
  await dialog.getByLabel('User name').fill('dave');
  await dialog.getByLabel('Number (optional)').fill('204');
  await dialog.getByRole('button', { name: 'Add user' }).click();
  await dialog.getByText('Note this down: the password is shown this once.').waitFor();
  const password = await dialog.locator('dd').nth(2).locator('code').textContent();
  await dialog.getByRole('button', { name: 'Close' }).last().click();
  const dave = await Person.at(browser, site);
  await dave.ready('204', password);
  await eventually('his phone', async () => /1/.test(await owner.page.locator('tr', { hasText: 'dave' }).locator('td').nth(2).textContent()));
  await owner.button('Change the number of dave').click();
  await dialog.getByLabel('Number (optional)').fill('205');
  await dialog.getByRole('button', { name: 'Save' }).click();
  await owner.page.locator('tr', { hasText: '205' }).waitFor();

  // A call: its ladder, where names are text, and its lines in the log.
  console.log('call');
  await owner.go('/node/calls');
  await owner.page.locator('.call-link').first().waitFor();
  await owner.page.locator('.call-link').first().click();
  await owner.page.locator('.rung', { hasText: 'INVITE' }).first().waitFor();
  await eventually('an answer in the ladder', async () => (await owner.page.locator('.rung', { hasText: /200|180|48\d/ }).count()) > 0);
  await owner.page.locator('.rung').first().click();
  await owner.page.locator('.ladder-text').getByText(markup).first().waitFor();
  assert((await owner.page.locator('main img').count()) === 0, 'what others write is no markup');

  await owner.button('Log out').waitFor();
  await owner.go('/node/people');
  await owner.button('New password for dave').click();
  await dialog.getByRole('button', { name: 'New password' }).click();
  await dialog.getByText('Note this down').waitFor();
  await dialog.getByRole('button', { name: 'Close' }).last().click();
  await dave.button('Log in').waitFor();
  await owner.button('Remove dave').click();
  await dialog.getByRole('button', { name: 'Remove', exact: true }).click();
  await eventually('no dave', async () => (await owner.page.locator('tr', { hasText: 'dave' }).count()) === 0);

  // An invitation with its code, and none.
  await owner.button('Invite a machine').click();
  await dialog.getByRole('button', { name: 'Create invitation' }).click();
  await dialog.getByText(/meshtone run --join mt1-/).waitFor();
  await dialog.getByRole('img', { name: 'QR code of the invitation' }).waitFor();
  await dialog.getByRole('button', { name: 'Close' }).last().click();
  const open = owner.page.getByRole('button', { name: 'Revoke the invitation (Home node)' });
  const before = await eventually('the invitation in the list', () => open.count());
  await open.first().click();
  await dialog.getByRole('button', { name: 'Revoke', exact: true }).click();
  await eventually('one invitation less', async () => (await open.count()) < before || (await owner.page.locator('tr', { hasText: 'open' }).count()) < before);

  // A token for a program, and none.
  await owner.go('/node/setup');
  await owner.page.locator('td code').first().waitFor();
  await owner.button('Create token').click();
  await dialog.getByLabel('Name').fill('prometheus');
  await dialog.getByRole('button', { name: 'Create token' }).click();
  await dialog.getByText(/^mt_/).waitFor();
  await dialog.getByRole('button', { name: 'Close' }).last().click();
  await owner.button('Revoke prometheus').click();
  await dialog.getByRole('button', { name: 'Revoke', exact: true }).click();
  await owner.page.getByText('No program has a token.').waitFor();

  // A setting that counts at once, one that waits for the next start, one that is refused; and back again.
  const setting = name => owner.page.locator('tr', { has: owner.page.locator('code', { hasText: new RegExp(`^${name}$`) }) });
  const change = async (name, act) => {
    await owner.button(`Change ${name}`).click();
    await act();
    await dialog.getByRole('button', { name: 'Save' }).click();
  };
  await change('enroll', () => dialog.getByLabel('Value').selectOption('nobody'));
  await setting('enroll').getByText('nobody', { exact: true }).waitFor();
  const visitor = await Person.at(browser, site);
  await visitor.button('Log in').waitFor();
  assert((await visitor.page.getByRole('link', { name: /Be called at your e-mail address/ }).count()) === 0, 'nobody enrols there any more');
  await change('no_mdns', () => dialog.getByRole('switch', { name: 'On' }).check());
  await setting('no_mdns').getByText('from the next start on: yes').waitFor();
  await owner.page.getByText('1 setting counts from the next start of the node on.').waitFor();
  await change('relay_limit', () => dialog.getByLabel('Value').fill('much'));
  await dialog.getByRole('alert').getByText(/whole number/).waitFor();
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  for (const name of ['enroll', 'no_mdns']) {
    await owner.button(`Change ${name}`).click();
    await dialog.getByRole('button', { name: 'Take back' }).click();
  }
  await setting('enroll').getByText('local', { exact: true }).waitFor();
  await eventually('nothing that waits', async () => (await owner.page.getByText(/from the next start of the node on/).count()) === 0);

  // The log, by level and words.
  await owner.go('/node/log');
  await owner.page.locator('.log li').first().waitFor();
  await owner.page.getByLabel('Words').fill('there-is-no-such-line');
  await owner.page.getByText('Nothing is logged that fits.').waitFor();
  await owner.page.getByLabel('Words').fill('');
  await owner.page.locator('.log li').first().waitFor();

  // The ring: who stores what is known of an address, and nodes that go.
  await owner.go('/node/network');
  const ring = owner.page.getByRole('img', { name: /this node has 3 links/ });
  await ring.waitFor();
  await owner.page.getByRole('textbox', { name: 'Address' }).fill('bob');
  await owner.button('Show on the ring').click();
  await owner.page.locator('.found').getByText(/records? found/).waitFor();
  const at = Date.now();
  console.log('kill');
  await owner.page.getByRole('img', { name: /this node has 1 link\b/ }).waitFor({ timeout: 40_000 });
  const after_ms = Date.now() - at;
  await owner.go('/node');
  await eventually('one link', async () => (await tile('Linked nodes').textContent()) === '1');
  for (const person of [owner, dave]) person.assertClean();
  return { after_ms };
});
