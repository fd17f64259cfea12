import { describe, expect, it } from 'vitest';
import { bars, count, judge, mos, type Counted } from '../src/phone/quality';
import { loudness } from '../src/phone/meter';

describe('the estimated score', () => {
  it('falls with losses, delay and jitter, and stays on its scale', () => {
    expect(mos(0, 2, 20)).toBeGreaterThan(4.2);
    expect(mos(0.05, 2, 20)).toBeLessThan(mos(0.01, 2, 20));
    expect(mos(0, 2, 600)).toBeLessThan(mos(0, 2, 100));
    expect(mos(0, 80, 20)).toBeLessThan(mos(0, 5, 20));
    expect(mos(1, 500, 5000)).toBe(1);
  });

  it('gives as many bars as people would', () => {
    expect([mos(0, 2, 20), mos(0.05, 5, 60), mos(0.3, 50, 300)].map(bars)).toEqual([4, 2, 0]);
  });
});

describe('what is judged of two moments', () => {
  const before: Counted = { at_ms: 0, received: 100, lost: 0, jitter_ms: 3 };
  it('is the time between them alone', () => {
    const quality = judge(before, { at_ms: 1000, received: 145, lost: 5, jitter_ms: 3, rtt_ms: 30 }, 0);
    expect(quality.loss_percent).toBeCloseTo(10);
    expect(quality.silent_ms).toBe(0);
  });
  it('is no sound when nothing has come for a while', () => {
    const quality = judge(before, { at_ms: 6000, received: 100, lost: 0, jitter_ms: 3 }, 1000);
    expect(quality.silent_ms).toBe(5000);
    expect(quality.bars).toBe(0);
  });
  it('counts what the other side does not hear', () => {
    expect(judge(before, { at_ms: 1000, received: 150, lost: 0, jitter_ms: 3, remoteLoss: 0.3 }, 0).bars).toBeLessThan(3);
  });
});

describe('a report of WebRTC', () => {
  it('is read for sound alone, whatever else is in it', () => {
    const counted = count(
      [
        { type: 'inbound-rtp', kind: 'audio', packetsReceived: 10, packetsLost: 1, jitter: 0.004, audioLevel: 0.5 },
        { type: 'inbound-rtp', kind: 'video', packetsReceived: 1000, packetsLost: 500 },
        { type: 'remote-inbound-rtp', kind: 'audio', roundTripTime: 0.02, fractionLost: 0.1 },
        { type: 'candidate-pair', nominated: true, currentRoundTripTime: 9 },
        { type: 'media-source', kind: 'audio', audioLevel: 0.2 },
        { type: 'inbound-rtp', kind: 'audio', packetsReceived: 'many' },
      ],
      7,
    );
    expect(counted).toMatchObject({ at_ms: 7, received: 10, lost: 1, rtt_ms: 20, remoteLoss: 0.1, said: 0.2 });
    expect(counted.jitter_ms).toBeCloseTo(4);
  });
});

describe('the level meter', () => {
  it('is empty in silence and full at full scale', () => {
    expect(loudness(new Float32Array(512))).toBe(0);
    expect(loudness(new Float32Array(512).fill(1))).toBe(1);
    expect(loudness(new Float32Array(512).fill(0.03))).toBeCloseTo(0.49, 1);
  });
});
