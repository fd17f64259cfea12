// What JsSIP has but its types do not tell.
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
