// What JsSIP has but its types do not tell, and what of it has to be mended.
import RequestSender from 'jssip/lib/Dialog/RequestSender';
import type { RTCSession } from 'jssip/lib/RTCSession';

interface Message {
  getHeaders?(name: string): string[];
  status_code?: number;
  reason_phrase?: string;
}

export function fieldsOf(message: unknown, name: string): string[] {
  const { getHeaders } = (message ?? {}) as Message;
  return getHeaders?.call(message, name) ?? [];
}

export function statusOf(message: unknown): { status?: number; phrase?: string } {
  const { status_code, reason_phrase } = (message ?? {}) as Message;
  return {
    ...(typeof status_code === 'number' ? { status: status_code } : {}),
    ...(reason_phrase ? { phrase: reason_phrase } : {}),
  };
}

export function callIdOf(request: unknown): string {
  return (request as { call_id?: string }).call_id ?? '';
}

/** The dialog of a session as a Replaces header field names it to the other side (RFC 3891 §3): its own tag is the to-tag there. */
export function replacing(session: RTCSession): string | undefined {
  const dialog = (session as unknown as { _dialog?: { id: { call_id: string; local_tag: string; remote_tag: string } } })._dialog;
  if (!dialog) return undefined;
  const { call_id, local_tag, remote_tag } = dialog.id;
  return `${call_id};to-tag=${remote_tag};from-tag=${local_tag}`;
}

const refusals = new WeakMap<object, number>();

/** With what the last request within this session's dialog that was refused was. */
export function refusalOf(session: RTCSession): number | undefined {
  return refusals.get(session);
}

// JsSIP answers 491 by sending what it offered once more, unchanged, after exactly a second. So does the other end, so that both are refused
// again; and what was offered no longer fits when the other side's offer came first. `offers` does what RFC 3261 §14.1 asks for.
const receive = RequestSender.prototype._receiveResponse;
RequestSender.prototype._receiveResponse = function (response) {
  if (response.status_code >= 300) refusals.set(this._dialog.owner, response.status_code);
  if (response.method === 'INVITE' && response.status_code === 491) this._eventHandlers.onErrorResponse(response);
  else receive.call(this, response);
};
