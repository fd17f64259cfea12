// The node's events: one WebSocket for as long as there is a session, opened again whenever it is lost.
import { createStore } from '../store';
import { backoff } from './backoff';
import type { NodeEvent } from './types';

const SESSION_OVER = 4401;

export type Line = 'connecting' | 'up' | 'down';
/** Whether the node is heard. */
export const line = createStore<Line>('connecting');

type Listener = (event: NodeEvent) => void;
const listeners = new Set<Listener>();

export function onEvent(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Opens the line; returns what closes it for good. */
export function listen(onSessionOver: () => void): () => void {
  let socket: WebSocket | undefined;
  let timer: number | undefined;
  let failures = 0;
  let closed = false;
  const open = () => {
    window.clearTimeout(timer);
    if (closed || socket?.readyState === WebSocket.CONNECTING) return;
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    socket = new WebSocket(`${scheme}://${location.host}/api/v1/events`);
    socket.onopen = () => {
      failures = 0;
      line.set('up');
    };
    socket.onmessage = ({ data }) => {
      let event: NodeEvent;
      try {
        event = JSON.parse(String(data)) as NodeEvent;
      } catch {
        return;
      }
      for (const listener of [...listeners]) listener(event);
    };
    socket.onclose = ({ code }) => {
      if (closed) return;
      if (code === SESSION_OVER) {
        onSessionOver();
        return;
      }
      line.set('down');
      timer = window.setTimeout(open, backoff(failures, Math.random()));
      failures += 1;
    };
  };
  const now = () => {
    if (line.get() === 'down') {
      failures = 0;
      open();
    }
  };
  window.addEventListener('online', now);
  open();
  return () => {
    closed = true;
    window.clearTimeout(timer);
    window.removeEventListener('online', now);
    socket?.close();
    line.set('connecting');
  };
}
