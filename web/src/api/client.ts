// Asks the node. Every failure becomes an `ApiError` whose sentence may be shown as it is.
import { texts } from '../texts';

export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, message: string, readonly hint: string) {
    super(message);
  }
}

// Answers come within 30 s or are given up by the node itself.
const PATIENCE_MS = 35_000;

let csrf = '';
let onSessionOver: () => void = () => {};

export function setCsrf(value: string): void {
  csrf = value;
}

/** What happens when the node says that the session is over. */
export function setOnSessionOver(listener: () => void): void {
  onSessionOver = listener;
}

async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = {};
  if (method !== 'GET') headers['X-Meshtone-Csrf'] = csrf;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method,
      headers,
      credentials: 'same-origin',
      signal: AbortSignal.timeout(PATIENCE_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch {
    throw new ApiError(0, 'unreachable', texts.api.unreachable, texts.api.unreachableHint);
  }
  if (!response.ok) {
    const said = (await response.json().catch(() => ({}))) as { error?: string; hint?: string; code?: string };
    const code = said.code ?? 'failed';
    if (code === 'no_session' && path !== '/session') onSessionOver();
    throw new ApiError(response.status, code, said.error ?? texts.api.failed(response.status), said.hint ?? '');
  }
  if (response.status === 204) return undefined as T;
  return (await response.json()) as T;
}

export const api = {
  get: <T>(path: string): Promise<T> => ask<T>('GET', path),
  post: <T>(path: string, body?: unknown): Promise<T> => ask<T>('POST', path, body ?? {}),
  put: <T>(path: string, body: unknown): Promise<T> => ask<T>('PUT', path, body),
  patch: <T>(path: string, body: unknown): Promise<T> => ask<T>('PATCH', path, body),
  delete: (path: string): Promise<void> => ask<void>('DELETE', path),
};
