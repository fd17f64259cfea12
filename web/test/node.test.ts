import { describe, expect, it } from 'vitest';
import type { LadderMessage, LogEntry } from '../src/api/types';
import { atLeast, matches } from '../src/node/filter';
import { described, ladder } from '../src/node/ladder';
import { chord, labelAt, labelled, onRing } from '../src/node/ring';

const message = (from: string, to: string, first_line: string, at_ms = 0): LadderMessage => ({ at_ms, from, to, transport: 'udp', first_line, text: '' });

describe('the ladder', () => {
  const call = ladder([
    message('192.0.2.1:5060', 'node', 'INVITE sip:bob@home.example SIP/2.0', 1000),
    message('node', '192.0.2.1:5060', 'SIP/2.0 100 Trying', 1001),
    message('node', '192.0.2.2:5060', 'INVITE sip:bob@192.0.2.2 SIP/2.0', 1002),
    message('192.0.2.2:5060', 'node', 'SIP/2.0 180 Ringing', 1050),
    message('node', '192.0.2.1:5060', 'SIP/2.0 180 Ringing', 1051),
    message('192.0.2.2:5060', 'node', 'SIP/2.0 486 Busy Here', 2000),
  ]);
  it('has the caller left of the node and the callee right of it', () => {
    expect(call.parties).toEqual(['192.0.2.1:5060', 'node', '192.0.2.2:5060']);
    expect(call.rungs.map(({ from, to }) => [from, to])).toEqual([[0, 1], [1, 0], [1, 2], [2, 1], [1, 0], [2, 1]]);
  });
  it('counts time from the first message, and tells what each is', () => {
    expect(call.rungs.map(rung => rung.after_ms)).toEqual([0, 1, 2, 50, 51, 1000]);
    expect(call.rungs.map(rung => rung.kind)).toEqual(['request', 'progress', 'request', 'progress', 'progress', 'failure']);
    expect(call.rungs[5]?.label).toBe('486 Busy Here');
  });
  it('takes what no SIP message begins with as it is', () => {
    expect(described('<script>alert(1)</script> x')).toEqual({ label: '<script>alert(1)</script>', kind: 'request' });
    expect(described('SIP/2.0 200')).toEqual({ label: '200', kind: 'success' });
    expect(ladder([])).toEqual({ parties: ['node'], rungs: [] });
  });
});

describe('the ring', () => {
  it('begins at the top and goes clockwise', () => {
    expect(onRing(0, 100)).toMatchObject({ y: -100 });
    expect(onRing(0.25, 100).x).toBeCloseTo(100);
    expect(onRing(1.25, 100).x).toBeCloseTo(100);
  });
  it('puts labels outside', () => {
    expect([0.25, 0.75, 0.5].map(position => labelAt(position, 100).anchor)).toEqual(['start', 'end', 'middle']);
  });
  it('bends lines between neighbours less towards the middle than none at all', () => {
    expect(chord(0, 0.5, 100)).toContain('Q0.0 ');
    expect(chord(0.1, 0.12, 100)).not.toContain('NaN');
  });
  it('leaves out labels that would lie on each other: wide ones at the top, high ones at the side', () => {
    expect(labelled([0.97, 0.03, 0.5, 0.505], 0.1, 0.85)).toEqual([true, false, true, false]);
    expect(labelled([0.25, 0.27, 0.75], 0.1, 0.85)).toEqual([true, true, true]);
    expect(labelled([0.25, 0.255], 0.1, 0.85)).toEqual([true, false]);
  });
});

describe('log lines that come by themselves', () => {
  const entry: LogEntry = { id: 1, at_ms: 0, level: 'WARN', target: 'meshtone::sip', message: 'Nobody answers', fields: { call_id: 'abc', after_s: 3 } };
  it('are chosen by level, words and call', () => {
    expect(['error', 'warn', 'info'].map(level => atLeast(entry.level, level))).toEqual([false, true, true]);
    expect(matches(entry, 'NOBODY sip', '')).toBe(true);
    expect(matches(entry, 'somebody', '')).toBe(false);
    expect([matches(entry, '', 'abc'), matches(entry, '', 'ab')]).toEqual([true, false]);
  });
});
