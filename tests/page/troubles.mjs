// node troubles.mjs '{"sites": [alice's, bob's], "people": {"alice": password, …}}'
//
// What goes wrong, and that the page says so. Prints "restart" when alice's node is to be killed and started again.
import { Person, assert, eventually, launch, main, task } from './lib.mjs';

const { sites, people } = task();
const [aliceHz, bobHz] = [440, 1000];

await main(async () => {
  // A wrong password, and none.
  const left = await launch({ hz: aliceHz });
  const alice = await Person.at(left, sites[0]);
  await alice.button('Log in').click();
  await alice.page.getByText('Type your address and your password.').waitFor();
  await alice.logIn('alice', 'not-it');
  const refused = alice.page.getByRole('alert');
  await refused.waitFor();
  const said = await refused.textContent();
  assert(/password/i.test(said), `a wrong password is told: ${said}`);
  await alice.ready('alice', people.alice);

  // Nobody there, nobody of that name, nothing that could be called.
  await alice.call('carol');
  await alice.told('carol', 'carol is offline: no phone is connected there now.');
  await alice.told('carol', 'The other side');
  await alice.noCalls();
  const gone = await Person.at(left, sites[1]);
  await gone.ready('carol', people.carol);
  await gone.context.close();
  await alice.call('carol');
  await alice.told('carol', 'carol is offline: no phone is connected there now.');
  await alice.noCalls();
  await alice.call('nobody');
  await alice.told('nobody', 'There is nobody called nobody at mesh.test.');
  await alice.noCalls();
  await alice.call('two words');
  await alice.page.getByText('An address has no spaces.').waitFor();

  // A microphone that the browser does not let the page have, and none at all: told before anybody's phone rings.
  const right = await launch({ hz: bobHz });
  const bob = await Person.at(right, sites[1]);
  await bob.ready('bob', people.bob);
  for (const [options, sentence, cure] of [
    [{ allow: false }, 'This browser does not let the page use the microphone.', 'Click the symbol left of the address, at the top of the window.'],
    [{ devices: 'none' }, 'No microphone was found.', 'Plug one in, or switch the headset on; this page sees it at once.'],
  ]) {
    const browser = await launch(options);
    const mute = await Person.at(browser, sites[0]);
    await mute.ready('alice', people.alice);
    await mute.call('bob');
    await mute.page.getByRole('alert').getByText(sentence).waitFor();
    await mute.page.getByRole('alert').getByText(cure).waitFor();
    assert((await bob.page.locator('.call').count()) === 0, 'nobody rings for a call that cannot be');
    mute.assertClean();
    await browser.close();
  }

  // The node is started anew while two browsers talk past it: the call goes on.
  await alice.call('bob');
  await bob.answer('alice');
  await Promise.all([alice.hears(bobHz), bob.hears(aliceHz)]);
  console.log('restart');
  await alice.page.getByText('Your node cannot be reached. Trying again…').waitFor();
  await alice.told('bob', 'Your node is not reachable just now. The call goes on as long as its sound does not need the node.');
  await alice.hears(bobHz);
  await alice.page.locator('.me .registered').waitFor({ timeout: 60_000 });
  await eventually('no more word of it', async () => (await alice.page.getByText('Your node cannot be reached').count()) === 0);
  await alice.hears(bobHz);
  await alice.hangUp('bob');
  await alice.noCalls();

  // The same while the node carries the sound: the call is over, and it is told whose side that was.
  await alice.button('Echo test').click();
  await alice.hears(aliceHz);
  console.log('restart');
  await alice.page.locator('.call').getByText('Your node went away during the call, and the sound with it.').waitFor({ timeout: 60_000 });
  await alice.page.locator('.call').getByText('Your node', { exact: true }).waitFor();
  await alice.page.locator('.me .registered').waitFor({ timeout: 60_000 });
  return {};
});
