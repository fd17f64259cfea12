// Where one is in the page: the part of the address after `#`, so that the node knows nothing of it.
import { createStore } from './store';

export const place = createStore<string>(now());

function now(): string {
  const hash = location.hash.replace(/^#/, '');
  return hash.startsWith('/') ? hash : '/';
}

window.addEventListener('hashchange', () => place.set(now()));

export function go(to: string): void {
  location.hash = to;
}

/** A one-time key that the address bar was opened with; it is taken out of there, and of the history, at once. */
export function takeKey(): string | undefined {
  const key = /^#key=([A-Za-z0-9_-]+)$/.exec(location.hash)?.[1];
  if (key) {
    history.replaceState(null, '', `${location.pathname}${location.search}`);
    place.set(now());
  }
  return key;
}
