import { describe, expect, it } from 'vitest';
import { endReason, reasonCause, type Ended } from '../src/phone/reasons';

const out: Ended = { direction: 'out', answered: false, originator: 'remote', cause: 'SIP Failure Code', who: 'Bob', domain: 'example.net', own: false };

describe('why a call ended', () => {
  it.each<[string, Partial<Ended>, string, RegExp]>([
    ['the callee has no phone', { status: 480, phrase: 'Temporarily Unavailable' }, 'them', /Bob is offline/],
    ['there is no way', { status: 480, phrase: 'No way to that address' }, 'network', /node of Bob could not be reached/],
    ['the other node is silent', { status: 408, phrase: 'Request Timeout' }, 'their_node', /node of Bob did not answer/],
    ['nobody answers here', { status: 408, own: true }, 'them', /^Bob did not answer/],
    ['there is nobody', { status: 404, phrase: 'No such user here' }, 'you', /nobody called Bob at example.net/],
    ['the domain is unknown', { status: 404, phrase: 'That domain is not served here' }, 'you', /example.net is served neither/],
    ['the callee is busy', { status: 486, phrase: 'Busy Here' }, 'them', /busy/],
    ['the callee is not to be disturbed', { status: 486, phrase: 'Do Not Disturb' }, 'them', /disturbed/],
    ['the callee declines', { status: 603 }, 'them', /does not take the call/],
    ['the session is over', { status: 407 }, 'you', /does not accept this session/],
    ['emergency calls are refused', { status: 403, phrase: 'No emergency calls from here: use another telephone' }, 'your_node', /emergency/],
    ['nothing in common', { status: 488 }, 'them', /no kind of sound in common/],
    ['a server of theirs fails', { status: 500, phrase: 'Oops' }, 'their_node', /failed at the node of Bob \(500 Oops\)/],
    ['a server of ours fails', { status: 500, phrase: 'Oops', own: true }, 'your_node', /failed at your node/],
    ['our node is away', { originator: 'system', cause: 'Connection Error' }, 'your_node', /Your node cannot be reached/],
    ['one cancels', { originator: 'local', cause: 'Canceled' }, 'you', /You ended the call/],
    ['they hang up', { answered: true, cause: 'Terminated' }, 'them', /Bob hung up/],
    ['one hangs up', { answered: true, originator: 'local', cause: 'Terminated' }, 'you', /You hung up/],
    ['the way breaks', { answered: true, originator: 'local', cause: 'RTP Timeout' }, 'network', /connection for sound with Bob was lost/],
    ['our node goes in mid-call', { answered: true, originator: 'local', cause: 'Connection Error' }, 'your_node', /Your node went away/],
    ['it is cut off', { answered: true, cause: 'Terminated', reasons: ['Q.850;cause=41'] }, 'network', /cut off/],
  ])('when %s', (_, changes, side, sentence) => {
    const reason = endReason({ ...out, ...changes });
    expect(reason.sentence).toMatch(sentence);
    expect(reason.side).toBe(side);
  });

  it('tells a call that another phone took from one that was given up', () => {
    const incoming: Ended = { ...out, direction: 'in', cause: 'Canceled' };
    expect(endReason({ ...incoming, reasons: ['SIP;cause=200;text="Call completed elsewhere"'] }).sentence).toMatch(/another of your phones/);
    expect(endReason(incoming).sentence).toMatch(/Bob gave up/);
  });

  it('keeps what was said exactly, and the words of a warning', () => {
    const reason = endReason({ ...out, status: 488, phrase: 'Not Acceptable Here', warnings: ['399 node.example "no \\"codec\\" here"'] });
    expect(reason.technical).toContain('488 Not Acceptable Here');
    expect(reason.hint).toContain('no "codec" here');
  });
});

describe('Reason header fields', () => {
  it('are read by protocol, among several', () => {
    const reasons = ['Q.850 ;cause=16;text="Terminated", SIP; cause = 600'];
    expect(reasonCause({ reasons }, 'q.850')).toBe(16);
    expect(reasonCause({ reasons }, 'SIP')).toBe(600);
    expect(reasonCause({ reasons: ['SIP;cause=abc'] }, 'SIP')).toBeUndefined();
  });
});
