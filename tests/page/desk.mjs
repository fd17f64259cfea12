// node desk.mjs '{"site": …, "password": alice's, "phone_hz": …}'
//
// A browser and a desk phone call each other. Prints "call" when the phone is to call alice.
import { Person, eventually, launch, main, task } from './lib.mjs';

const { site, password, hz, phone_hz: phoneHz } = task();

await main(async () => {
  const alice = await Person.at(await launch({ hz }), site);
  await alice.ready('alice', password);
  await alice.call('bob');
  await alice.talking('bob');
  await alice.hears(phoneHz);
  await alice.told('bob', 'Encrypted to your node');
  await alice.button('Keypad', alice.card('bob')).click();
  for (const key of [/^5/, 'Hash']) await alice.card('bob').getByRole('button', { name: key }).click();
  // The phone hangs up once it has heard both.
  await alice.told('bob', 'bob hung up.');
  await alice.noCalls();

  console.log('call');
  await alice.answer('bob');
  await alice.talking('bob');
  await alice.hears(phoneHz);
  await alice.told('bob', 'Verified caller');
  await alice.told('bob', 'bob hung up.');
  await alice.noCalls();
  await eventually('both calls in the list', async () => {
    await alice.go('/history');
    return (await alice.page.locator('.row', { hasText: 'Answered' }).count()) === 2;
  });
  alice.assertClean();
  return {};
});
