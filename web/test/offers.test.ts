import RequestSender from 'jssip/lib/Dialog/RequestSender';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Offers, waitAfterGlare } from '../src/phone/offers';

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('window', globalThis);
});
afterEach(() => vi.useRealTimers());

/** A session whose offers are refused with this status, as JsSIP tells it. */
function refusedSession(status: number) {
  const listeners = new Map<string, (event: object) => void>();
  const session = {
    offered: 0,
    ended: false,
    connection: { signalingState: 'stable' },
    on: (name: string, listener: (event: object) => void) => listeners.set(name, listener),
    isEnded: () => session.ended,
    isEstablished: () => true,
    terminate: (_: object) => { session.ended = true; },
    renegotiate: () => {
      session.offered += 1;
      const sender = { _dialog: { owner: session }, _eventHandlers: { onErrorResponse: () => session.terminate({ cause: 'WebRTC Error' }) } };
      queueMicrotask(() => RequestSender.prototype._receiveResponse.call(sender as never, { method: 'INVITE', status_code: status }));
      return true;
    },
    receive: (name: 'reinvite' | 'update', body: string) => {
      let refused: object | undefined;
      listeners.get(name)?.({ request: { body }, reject: (options: object) => { refused = options; } });
      return refused;
    },
  };
  return session;
}

test('after a glare whoever began the call waits longer than the other', () => {
  expect([waitAfterGlare(false, 0), waitAfterGlare(false, 1)]).toEqual([0, 2000]);
  expect([waitAfterGlare(true, 0), waitAfterGlare(true, 1)]).toEqual([2100, 4000]);
});

test('what was refused for another offer is offered again, a few times', async () => {
  const session = refusedSession(491);
  await new Offers(session as never, true).make(session.renegotiate);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(session.offered).toBe(6);
  expect(session.ended).toBe(false);
});

test('what the other side does not want is not offered again, and the call goes on', async () => {
  const session = refusedSession(488);
  await new Offers(session as never, false).make(session.renegotiate);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(session.offered).toBe(1);
  expect(session.ended).toBe(false);
});

test('an offer that comes while another is under way is refused', async () => {
  const session = refusedSession(491);
  const offers = new Offers(session as never, true);
  expect(session.receive('reinvite', 'v=0')).toBeUndefined();
  await offers.make(() => true);
  for (const name of ['reinvite', 'update'] as const) expect(session.receive(name, 'v=0')).toMatchObject({ status_code: 491 });
  expect(session.receive('reinvite', '')).toMatchObject({ status_code: 491 });
  expect(session.receive('update', '')).toBeUndefined();
});
