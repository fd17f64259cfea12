// node calls.mjs '{"sites": [alice's, bob's], "people": {"alice": password, …}}'
//
// Two browsers at two nodes, a third at the second node: calls, with everything that one can do in a call.
import { Person, assert, eventually, launch, main, task } from './lib.mjs';

const { sites, people } = task();
const [aliceHz, bobHz, carolHz] = [440, 1000, 700];

await main(async () => {
  const left = await launch({ hz: aliceHz });
  const right = await launch({ hz: bobHz });
  const third = await launch({ hz: carolHz });
  const alice = await Person.at(left, sites[0]);
  const bob = await Person.at(right, sites[1]);
  const carol = await Person.at(third, sites[1]);
  await Promise.all([alice.ready('alice', people.alice), bob.ready('bob', people.bob), carol.ready('carol', people.carol)]);

  // A call, with tones both ways.
  await alice.call('bob');
  await alice.told('bob', 'Ringing…');
  await bob.told('alice', 'Incoming call');
  assert(/alice calls/.test(await bob.page.title()), 'the title tells who calls');
  await bob.answer('alice');
  await Promise.all([alice.talking('bob'), bob.talking('alice')]);
  await Promise.all([alice.hears(bobHz), bob.hears(aliceHz)]);
  await alice.told('bob', 'Encrypted all the way');
  await eventually('bars', async () => /Very good|Good/.test(await alice.card('bob').locator('.quality summary').textContent()));

  // Mute and hold.
  await alice.button('Mute', alice.card('bob')).click();
  await bob.hearsNothing();
  await alice.button('Unmute', alice.card('bob')).click();
  await bob.hears(aliceHz);
  await bob.button('Hold', bob.card('alice')).click();
  await alice.told('bob', 'The other side holds the call');
  await Promise.all([alice.hearsNothing(), bob.hearsNothing()]);
  await bob.button('Resume', bob.card('alice')).click();
  await Promise.all([alice.hears(bobHz), bob.hears(aliceHz)]);

  // Video, on and off.
  await alice.button('Camera on', alice.card('bob')).click();
  await eventually('moving pictures at the other side', async () => bob.page.evaluate(() => {
    const video = document.querySelector('video.video-large');
    return video && video.videoWidth > 0 && video.currentTime > 0;
  }));
  await alice.button('Camera off', alice.card('bob')).click();
  await eventually('no more pictures', async () => (await bob.page.locator('video').count()) === 0);

  // One after the other.
  for (const [person, who] of [[alice, 'bob'], [bob, 'alice']]) {
    await person.button('Camera on', person.card(who)).click();
    await eventually('one picture more', () => bob.page.evaluate(count => [...document.querySelectorAll('.videos video')].filter(one => one.videoWidth > 0).length === count, person === alice ? 1 : 2));
  }
  await Promise.all([alice.hears(bobHz), bob.hears(aliceHz)]);

  // Both change the call at once, on lines so slow that what they send crosses: held by both, and pictures by one while the other holds.
  await Promise.all([alice.slowLine(300), bob.slowLine(300)]);
  const both = (hers, his) => Promise.all([alice.button(hers, alice.card('bob')).click(), bob.button(his, bob.card('alice')).click()]);
  await both('Hold', 'Hold');
  await Promise.all([alice.told('bob', 'Both sides hold the call'), bob.told('alice', 'Both sides hold the call')]);
  await both('Resume', 'Resume');
  await Promise.all([alice.hears(bobHz), bob.hears(aliceHz)]);
  await both('Camera off', 'Hold');
  await alice.told('bob', 'The other side holds the call');
  await eventually('her picture to be gone', async () => (await bob.page.getByLabel('Video of the other side').count()) === 0);
  await both('Camera on', 'Resume');
  await bob.page.getByLabel('Video of the other side').waitFor();
  await eventually('her picture', () => bob.page.getByLabel('Video of the other side').evaluate(video => video.videoWidth > 0));
  await Promise.all([alice.hears(bobHz), bob.hears(aliceHz)]);
  await eventually('refusals of both', async () => (await alice.refusedOffers()) > 2 && (await bob.refusedOffers()) > 2);
  await Promise.all([alice.slowLine(0), bob.slowLine(0)]);

  // Somebody else calls meanwhile: the first call is held, and both are connected with each other.
  await carol.call('alice');
  await alice.answer('carol');
  await Promise.all([alice.talking('carol'), carol.talking('alice')]);
  await bob.told('alice', 'The other side holds the call');
  await Promise.all([alice.hears(carolHz), carol.hears(aliceHz)]);
  await alice.button('Transfer', alice.card('bob')).click();
  await alice.button('Connect with carol').click();
  await bob.told('alice', 'The other side asks you to talk to carol@mesh.test instead.');
  await bob.button('Call there').click();
  await Promise.all([bob.talking('carol'), carol.talking('bob')]);
  await Promise.all([bob.hears(carolHz), carol.hears(bobHz)]);
  await alice.noCalls();
  await carol.hangUp('bob');
  await bob.told('carol', 'carol hung up.');
  await Promise.all([bob.noCalls(), carol.noCalls()]);

  // Passed on without asking.
  await bob.call('alice');
  await alice.answer('bob');
  await alice.talking('bob');
  await alice.button('Transfer', alice.card('bob')).click();
  await alice.page.getByRole('dialog').getByLabel('To').fill('carol');
  await alice.button('Transfer now').click();
  await bob.button('Call there').click();
  await carol.answer('bob');
  await Promise.all([bob.talking('carol'), carol.talking('bob')]);
  await Promise.all([bob.hears(carolHz), carol.hears(bobHz)]);
  await alice.noCalls();
  await bob.hangUp('carol');
  await carol.told('bob', 'bob hung up.');
  await Promise.all([bob.noCalls(), carol.noCalls()]);

  // Rejected, with each reason; cancelled.
  for (const [reason, told] of [['I am busy', 'bob is busy.'], ['Not now, later', /bob is offline|bob cannot/], ['I do not want this call', 'bob does not take the call.']]) {
    await alice.call('bob');
    await bob.button('Reject with a reason', bob.card('alice')).click();
    await bob.button(reason, bob.card('alice')).click();
    await alice.told('bob', told);
    await bob.told('alice', 'You rejected the call.');
    await Promise.all([alice.noCalls(), bob.noCalls()]);
  }
  await alice.call('bob');
  await bob.told('alice', 'Incoming call');
  await alice.button('Cancel call', alice.card('bob')).click();
  await bob.told('alice', 'alice gave up before you answered.');
  await Promise.all([alice.noCalls(), bob.noCalls()]);

  for (const person of [alice, bob, carol]) person.assertClean();
  return {};
});
