// How a call sounds, from what WebRTC counts: losses, jitter and round trip, as an estimated score (MOS) from 1 to 4.5 after the
// E-model (ITU-T G.107), with the losses that Opus hides about as well as others.

/** What was counted at one moment. */
export interface Counted {
  at_ms: number;
  received: number;
  lost: number;
  jitter_ms: number;
  rtt_ms?: number;
  /** What the other end says of what it hears from here, as a share. */
  remoteLoss?: number;
  /** How loud it is, 0 to 1: what comes from there, and what goes there. */
  heard?: number;
  said?: number;
}

export interface Quality {
  bars: 0 | 1 | 2 | 3 | 4;
  mos: number;
  loss_percent: number;
  jitter_ms: number;
  rtt_ms?: number;
  remoteLoss_percent?: number;
  /** For how long nothing has come. */
  silent_ms: number;
}

export function mos(loss: number, jitter_ms: number, rtt_ms: number): number {
  // A jitter buffer holds back about twice the jitter; 20 ms are a packet, 5 the devices.
  const delay = rtt_ms / 2 + 2 * jitter_ms + 25;
  const delayed = 0.024 * delay + (delay > 177.3 ? 0.11 * (delay - 177.3) : 0);
  const percent = loss * 100;
  const lossy = (95 * percent) / (percent + 15);
  const rating = Math.max(0, Math.min(93.2, 93.2 - delayed - lossy));
  const score = 1 + 0.035 * rating + rating * (rating - 60) * (100 - rating) * 7e-6;
  return Math.max(1, Math.min(4.5, score));
}

export function bars(score: number): Quality['bars'] {
  if (score >= 4) return 4;
  if (score >= 3.6) return 3;
  if (score >= 3.1) return 2;
  if (score >= 2.3) return 1;
  return 0;
}

/** What two moments say of the time between them. */
export function judge(before: Counted, now: Counted, silentSince_ms: number): Quality {
  const received = Math.max(0, now.received - before.received);
  const lost = Math.max(0, now.lost - before.lost);
  const loss = received + lost > 0 ? lost / (received + lost) : 0;
  const worst = Math.max(loss, now.remoteLoss ?? 0);
  const score = mos(worst, now.jitter_ms, now.rtt_ms ?? 0);
  const silent_ms = received > 0 ? 0 : now.at_ms - silentSince_ms;
  return {
    bars: silent_ms > SILENT_AFTER_MS ? 0 : bars(score),
    mos: score,
    loss_percent: loss * 100,
    jitter_ms: now.jitter_ms,
    ...(now.rtt_ms === undefined ? {} : { rtt_ms: now.rtt_ms }),
    ...(now.remoteLoss === undefined ? {} : { remoteLoss_percent: now.remoteLoss * 100 }),
    silent_ms,
  };
}

/** From when on one is told that nothing comes. */
export const SILENT_AFTER_MS = 4000;

type Entry = Record<string, unknown> & { type: string };

/** What a report of `RTCPeerConnection.getStats` counts of sound. */
export function count(report: Iterable<Entry>, at_ms: number): Counted {
  const counted: Counted = { at_ms, received: 0, lost: 0, jitter_ms: 0 };
  const number = (value: unknown): number | undefined => (typeof value === 'number' && Number.isFinite(value) ? value : undefined);
  for (const entry of report) {
    if (entry.type === 'inbound-rtp' && entry['kind'] === 'audio') {
      counted.received += number(entry['packetsReceived']) ?? 0;
      counted.lost += number(entry['packetsLost']) ?? 0;
      counted.jitter_ms = Math.max(counted.jitter_ms, (number(entry['jitter']) ?? 0) * 1000);
      counted.heard = number(entry['audioLevel']) ?? counted.heard ?? 0;
    } else if (entry.type === 'remote-inbound-rtp' && entry['kind'] === 'audio') {
      const rtt = number(entry['roundTripTime']);
      const loss = number(entry['fractionLost']);
      if (rtt !== undefined) counted.rtt_ms = rtt * 1000;
      if (loss !== undefined) counted.remoteLoss = Math.min(1, Math.max(0, loss));
    } else if (entry.type === 'candidate-pair' && entry['nominated'] === true && counted.rtt_ms === undefined) {
      const rtt = number(entry['currentRoundTripTime']);
      if (rtt !== undefined) counted.rtt_ms = rtt * 1000;
    } else if (entry.type === 'media-source' && entry['kind'] === 'audio') {
      counted.said = number(entry['audioLevel']) ?? 0;
    }
  }
  return counted;
}
