// Why a call ended, told truthfully: what happened, and whose side it was on.
import { texts } from '../texts';

export type Side = 'nobody' | 'you' | 'your_node' | 'them' | 'their_node' | 'network';

export interface EndReason {
  /** Whether it ended as somebody wanted. */
  fine: boolean;
  /** Whether it rang here, and nobody took it. */
  missed?: true;
  side: Side;
  sentence: string;
  hint?: string;
  /** What the other side said, for whoever wants to know exactly: `486 Busy Here`. */
  technical?: string;
}

export interface Ended {
  direction: 'in' | 'out';
  /** Whether both had spoken. */
  answered: boolean;
  originator: 'local' | 'remote' | 'system';
  /** What JsSIP calls it. */
  cause: string;
  status?: number;
  phrase?: string;
  /** Reason header fields (RFC 3326). */
  reasons?: string[];
  /** Warning header fields (RFC 3261 §20.43). */
  warnings?: string[];
  /** Who is at the other end. */
  who: string;
  /** His domain, and whether it is one's own. */
  domain: string;
  own: boolean;
}

const r = texts.reasons;

export function endReason(end: Ended): EndReason {
  const reason = explain(end);
  const technical = technically(end);
  return technical ? { ...reason, technical } : reason;
}

function explain(end: Ended): EndReason {
  if (end.originator === 'remote' && end.direction === 'in' && !end.answered && !end.status) return missed(end);
  if (end.answered) return over(end);
  if (end.originator === 'local' && end.cause === 'Canceled') return { fine: true, side: 'you', sentence: r.youCancelled };
  if (end.direction === 'in' && end.originator === 'local' && /Rejected|Busy|Unavailable/.test(end.cause)) {
    return { fine: true, side: 'you', sentence: r.youRejected };
  }
  if (end.status !== undefined) return byStatus(end, end.status);
  return byCause(end);
}

/** A call that rang here and was not answered here. */
function missed(end: Ended): EndReason {
  const status = reasonCause(end, 'SIP');
  if (status === 200) return { fine: true, side: 'nobody', sentence: r.elsewhere };
  if (status === 600 || status === 603 || status === 486) return { fine: true, side: 'you', sentence: r.rejectedElsewhere };
  return { fine: true, missed: true, side: 'them', sentence: r.callerGaveUp(end.who) };
}

function over(end: Ended): EndReason {
  if (end.cause === 'RTP Timeout') return { fine: false, side: 'network', sentence: r.soundLost(end.who), hint: r.soundLostHint };
  if (end.cause === 'Connection Error' || end.cause === 'Request Timeout') {
    return { fine: false, side: 'your_node', sentence: r.nodeLost, hint: r.nodeLostHint };
  }
  if (end.cause === 'Dialog Error') return { fine: false, side: 'their_node', sentence: r.dialogLost(end.who) };
  if (end.originator === 'remote') {
    const q850 = reasonCause(end, 'Q.850');
    if (q850 !== undefined && q850 !== 16) return { fine: false, side: 'network', sentence: r.cutOff(q850) };
    const sip = reasonCause(end, 'SIP');
    if (sip !== undefined && sip >= 400) return { fine: false, side: 'network', sentence: r.cutOff(sip) };
    return { fine: true, side: 'them', sentence: r.theyHungUp(end.who) };
  }
  return { fine: true, side: 'you', sentence: r.youHungUp };
}

function byStatus(end: Ended, status: number): EndReason {
  const { who, domain, own } = end;
  const phrase = end.phrase ?? '';
  // Our own refusals, by the sentence that the node gives with them, come before what the bare number would mean.
  switch (status) {
    case 401:
    case 407:
      return { fine: false, side: 'you', sentence: r.notLoggedIn, hint: r.notLoggedInHint };
    case 403:
      if (/emergency/i.test(phrase)) return { fine: false, side: 'your_node', sentence: r.noEmergency };
      if (/too many calls/i.test(phrase)) return { fine: false, side: 'your_node', sentence: r.tooManyCalls };
      if (/may not call out|relays to no other host|such an address/i.test(phrase)) return { fine: false, side: 'your_node', sentence: r.mayNotCallOut(domain) };
      return { fine: false, side: 'their_node', sentence: r.forbidden(who, phrase) };
    case 404:
      if (/domain/i.test(phrase)) return { fine: false, side: 'you', sentence: r.noSuchDomain(domain), hint: r.checkAddress };
      return { fine: false, side: 'you', sentence: r.noSuchUser(who, domain), hint: r.checkAddress };
    case 604:
      return { fine: false, side: 'you', sentence: r.noSuchUser(who, domain), hint: r.checkAddress };
    case 408:
    case 504:
      return own
        ? { fine: false, side: 'them', sentence: r.noAnswerOwn(who) }
        : { fine: false, side: 'their_node', sentence: r.nodeDidNotAnswer(who) };
    case 410:
    case 301:
    case 302:
      return { fine: false, side: 'them', sentence: r.moved(who) };
    case 415:
    case 488:
    case 606:
      return { fine: false, side: 'them', sentence: r.noCommonMedia(who), ...warningHint(end) };
    case 433:
      return { fine: false, side: 'them', sentence: r.anonymousRefused(who) };
    case 480:
      if (/No way to that address/i.test(phrase)) return { fine: false, side: 'network', sentence: r.noWay(who) };
      if (/provider/i.test(phrase)) return { fine: false, side: 'network', sentence: r.providerAway };
      if (/cannot be verified/i.test(phrase)) return { fine: false, side: 'network', sentence: r.callerUnverifiable };
      if (/protected/i.test(phrase)) return { fine: false, side: 'network', sentence: r.unprotectedWay(who) };
      return { fine: false, side: 'them', sentence: r.offline(who) };
    case 486:
    case 600:
      if (/disturb/i.test(phrase)) return { fine: true, side: 'them', sentence: r.theyDoNotDisturb(who) };
      return { fine: true, side: 'them', sentence: r.busy(who) };
    case 487:
      return end.originator === 'local' ? { fine: true, side: 'you', sentence: r.youCancelled } : { fine: true, side: 'them', sentence: r.noAnswer(who) };
    case 603:
    case 607:
      return { fine: true, side: 'them', sentence: r.declined(who) };
    case 484:
      return { fine: false, side: 'you', sentence: r.incomplete, hint: r.checkAddress };
    case 416:
      return { fine: false, side: 'you', sentence: r.badAddress, hint: r.checkAddress };
    case 502:
      return { fine: false, side: 'their_node', sentence: r.gateway(who) };
    case 503:
      return { fine: false, side: own ? 'your_node' : 'their_node', sentence: r.overloaded(own ? r.yourNode : r.nodeOf(who)), hint: r.tryLater };
    default:
      if (status >= 500) return { fine: false, side: own ? 'your_node' : 'their_node', sentence: r.failedAt(own ? r.yourNode : r.nodeOf(who), status, phrase) };
      return { fine: false, side: 'them', sentence: r.refused(who, status, phrase) };
  }
}

function byCause(end: Ended): EndReason {
  switch (end.cause) {
    case 'Connection Error':
      return { fine: false, side: 'your_node', sentence: r.nodeUnreachable, hint: r.nodeUnreachableHint };
    case 'Request Timeout':
      return { fine: false, side: 'your_node', sentence: r.nodeSilent, hint: r.tryLater };
    case 'No Answer':
    case 'Expires':
      return end.direction === 'in' ? { fine: true, missed: true, side: 'you', sentence: r.youDidNotAnswer } : { fine: true, side: 'them', sentence: r.noAnswer(end.who) };
    case 'No ACK':
      return { fine: false, side: 'network', sentence: r.noAck(end.who) };
    case 'User Denied Media Access':
      return { fine: false, side: 'you', sentence: r.noMicrophone };
    case 'Incompatible SDP':
    case 'Missing SDP':
    case 'Bad Media Description':
      return { fine: false, side: 'them', sentence: r.noCommonMedia(end.who) };
    case 'WebRTC Error':
    case 'Internal Error':
      return { fine: false, side: 'you', sentence: r.browserFailed };
    case 'Canceled':
      return { fine: true, side: 'you', sentence: r.youCancelled };
    default:
      return { fine: false, side: 'nobody', sentence: r.unknown(end.cause) };
  }
}

/** The cause that a Reason header field of this protocol gives (RFC 3326 §2). */
export function reasonCause(end: Pick<Ended, 'reasons'>, protocol: string): number | undefined {
  for (const field of end.reasons ?? []) {
    for (const value of field.split(',')) {
      const [name, ...parameters] = value.split(';').map(part => part.trim());
      if (name?.toLowerCase() !== protocol.toLowerCase()) continue;
      const cause = parameters.find(parameter => /^cause\s*=/i.test(parameter));
      const number = cause === undefined ? NaN : Number(cause.split('=')[1]?.trim());
      if (Number.isInteger(number)) return number;
    }
  }
  return undefined;
}

/** The words of the first Warning: `399 host "text"`. */
function warningHint(end: Ended): { hint?: string } {
  const text = /"((?:[^"\\]|\\.)*)"/.exec(end.warnings?.[0] ?? '')?.[1];
  return text ? { hint: r.theySay(text.replace(/\\(.)/g, '$1')) } : {};
}

function technically(end: Ended): string | undefined {
  const parts = [];
  if (end.status !== undefined) parts.push(`${end.status} ${end.phrase ?? ''}`.trim());
  parts.push(...(end.reasons ?? []).map(text => `Reason: ${text}`), ...(end.warnings ?? []).map(text => `Warning: ${text}`));
  return parts.length > 0 ? parts.join(' · ') : undefined;
}
