// A call's messages as a ladder: a column for each party, a row for each message, time going down.
import type { LadderMessage } from '../api/types';

export interface Rung {
  message: LadderMessage;
  from: number;
  to: number;
  label: string;
  kind: 'request' | 'progress' | 'success' | 'failure';
  /** Since the first message. */
  after_ms: number;
}

export interface Ladder {
  parties: string[];
  rungs: Rung[];
}

export const NODE = 'node';

/** Callers stand left of the node and callees right of it, as far as the first INVITE shows who is who. */
export function ladder(messages: readonly LadderMessage[]): Ladder {
  const left: string[] = [];
  const right: string[] = [];
  for (const { from, to } of messages) {
    for (const [party, isFrom] of [[from, true], [to, false]] as const) {
      if (party === NODE || left.includes(party) || right.includes(party)) continue;
      // Who speaks to the node first is a caller; whom the node speaks to first is called.
      (isFrom ? left : right).push(party);
    }
  }
  const parties = [...left, NODE, ...right];
  const start = messages[0]?.at_ms ?? 0;
  const rungs = messages.map(message => ({
    message,
    from: parties.indexOf(message.from),
    to: parties.indexOf(message.to),
    ...described(message.first_line),
    after_ms: message.at_ms - start,
  }));
  return { parties, rungs };
}

/** `INVITE sip:bob@…` is a request INVITE; `SIP/2.0 180 Ringing` is progress. */
export function described(firstLine: string): Pick<Rung, 'label' | 'kind'> {
  const response = /^SIP\/2\.0 (\d{3}) ?(.*)$/.exec(firstLine);
  if (!response) return { label: firstLine.split(' ')[0] ?? firstLine, kind: 'request' };
  const status = Number(response[1]);
  return { label: `${status} ${response[2] ?? ''}`.trim(), kind: status < 200 ? 'progress' : status < 300 ? 'success' : 'failure' };
}
