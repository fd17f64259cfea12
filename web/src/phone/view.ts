// A call as views show it.
import type { Quality } from './quality';
import type { EndReason } from './reasons';

export type CallState = 'dialling' | 'ringing' | 'incoming' | 'connecting' | 'talking' | 'ended';

export interface Transfer {
  to: string;
  state: 'asked' | 'ringing' | 'failed';
  reason?: string;
}

export interface CallView {
  id: string;
  callId: string;
  direction: 'in' | 'out';
  address: string;
  /** What the caller calls himself. */
  shownName: string;
  state: CallState;
  started_ms: number;
  answered_ms?: number;
  ended_ms?: number;
  muted: boolean;
  held: boolean;
  heldByOther: boolean;
  video: boolean;
  remoteVideo: boolean;
  offersVideo: boolean;
  /** Whether the node has verified who calls; `undefined` as long as it has not said so. */
  verified?: boolean;
  /** How far the sound is encrypted from here: to the other phone, or to the node, which carries it on. */
  protection?: 'all_the_way' | 'to_node';
  soundInterrupted: boolean;
  quality?: Quality;
  transfer?: Transfer;
  /** The other side asks to call somebody else instead (RFC 3515). */
  passedOnTo?: string | undefined;
  isEcho: boolean;
  end?: EndReason;
  /** What was done about it already, once: a soft tone while another call was on, a word of a missed call, the wait before it is put away. */
  beeped?: true;
  toldMissed?: true;
  leaving?: true;
}
