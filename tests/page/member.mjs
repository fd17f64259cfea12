// node member.mjs '{"sites": [hers, the founder's], "address": …, "password": hers, "bob": his}'
//
// Somebody with an address of her own, which is of no node's domain, logs in at the node that speaks for her, and calls and is called.
import { Person, assert, eventually, launch, main, task } from './lib.mjs';

const { sites, address, password, bob: bobs } = task();
const [aliceHz, bobHz] = [440, 1000];

await main(async () => {
  const alice = await Person.at(await launch({ hz: aliceHz }), sites[0]);
  const bob = await Person.at(await launch({ hz: bobHz }), sites[1]);
  await Promise.all([alice.ready(address, password), bob.ready('bob', bobs)]);
  await alice.page.getByText(address).first().waitFor();
  assert(!(await alice.page.locator('body').textContent()).includes('.member.alt'), 'names for machines are shown to nobody');

  await alice.call('bob@mesh.test');
  await bob.told(address, 'Verified caller');
  await bob.answer(address);
  await Promise.all([alice.talking('bob@mesh.test'), bob.talking(address)]);
  await Promise.all([alice.hears(bobHz), bob.hears(aliceHz)]);
  await alice.hangUp('bob@mesh.test');
  await Promise.all([alice.noCalls(), bob.noCalls()]);

  // Called back from the list of calls, by the address that stands there.
  await bob.button(`Call ${address}`).first().click();
  await alice.told('bob@mesh.test', 'Incoming call');
  await alice.answer('bob@mesh.test');
  await Promise.all([alice.hears(bobHz), bob.hears(aliceHz)]);
  await bob.hangUp(address);
  await Promise.all([alice.noCalls(), bob.noCalls()]);
  await alice.button('Echo test').click();
  await alice.hears(aliceHz);
  await alice.hangUp('Echo test');
  await alice.noCalls();
  await alice.go('/history');
  await eventually('both calls, and the echo test', async () => (await alice.page.locator('.row', { hasText: 'Answered' }).count()) === 3);
  assert((await alice.page.locator('.row', { hasText: 'bob@mesh.test' }).count()) === 2, 'who is of another domain is shown with it');

  for (const person of [alice, bob]) person.assertClean();
  return {};
});
