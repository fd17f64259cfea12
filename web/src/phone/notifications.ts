// Who calls or has called, told outside of the page: by the system where that was allowed, and in the title of the tab. Nothing is asked of
// anybody else's push service, so this works for as long as the tab is open.
import { createStore } from '../store';
import { texts } from '../texts';

export type Allowed = 'granted' | 'denied' | 'default' | 'unsupported';

export const allowed = createStore<Allowed>('Notification' in window ? Notification.permission : 'unsupported');

// Whoever changes his mind in the browser's own settings need not load the page again.
void navigator.permissions?.query({ name: 'notifications' }).then(
  status => status.addEventListener('change', () => { if ('Notification' in window) allowed.set(Notification.permission); }),
  () => {},
);

export async function askToNotify(): Promise<void> {
  if (!('Notification' in window)) return;
  allowed.set(await Notification.requestPermission());
}

/** What was chosen in a notification: of a call that rings, or where in the page to go. */
export interface Chosen {
  chosen: 'answer' | 'reject' | 'show';
  call?: string;
  place?: string;
}

/** The service worker, once there is one; browsers have none on pages whose certificate they do not trust. */
const worker: Promise<ServiceWorkerRegistration | undefined> = start();

async function start(): Promise<ServiceWorkerRegistration | undefined> {
  try {
    await navigator.serviceWorker.register('/worker.js');
    return await navigator.serviceWorker.ready;
  } catch {
    return undefined;
  }
}

let follow: (chosen: Chosen) => void = () => {};

/** Sets what is done when somebody chose something in a notification. */
export function onChosen(listener: (chosen: Chosen) => void): void {
  follow = listener;
}

navigator.serviceWorker?.addEventListener('message', ({ data }: MessageEvent<Chosen>) => follow(data));

const TITLE = document.title;
const ringing = new Map<string, { who: string; close: () => void }>();

const isLookedAt = () => document.visibilityState === 'visible' && document.hasFocus();

/** Tells who calls; the same call again, with what is known of it by now, takes the place of what was told before. */
export function announce(who: string, verified: boolean, id: string): void {
  const known = ringing.get(id) ?? { who, close: () => {} };
  ringing.set(id, known);
  title();
  if (allowed.get() !== 'granted' || isLookedAt()) return;
  const options = { body: verified ? texts.call.verified : texts.call.incomingBody, tag: id, requireInteraction: true };
  const chosen: Chosen = { chosen: 'show', call: id, place: '/' };
  const actions = [{ action: 'answer', title: texts.call.answer }, { action: 'reject', title: texts.call.reject }];
  void notify(texts.call.callsYou(who), options, chosen, actions).then(close => {
    // It may have stopped ringing meanwhile.
    if (ringing.get(id) === known) known.close = close;
    else close();
  });
}

/** Tells of a call that nobody answered, until somebody looks. */
export function tellMissed(who: string, id: string): void {
  if (allowed.get() !== 'granted' || isLookedAt()) return;
  void notify(texts.call.missedFrom(who), { tag: `missed-${id}` }, { chosen: 'show', place: '/history' }, []).then(close => {
    window.addEventListener('focus', close, { once: true });
  });
}

export function withdraw(id: string): void {
  const known = ringing.get(id);
  if (!known) return;
  known.close();
  ringing.delete(id);
  title();
}

/** Shows a notification, and returns what takes it away. */
async function notify(name: string, options: NotificationOptions, chosen: Chosen, actions: { action: string; title: string }[]): Promise<() => void> {
  const by = await worker;
  if (by?.active) {
    // It is the worker that shows it, as it then knows of which tab it is.
    by.active.postMessage({ name, options: { ...options, actions, data: chosen } });
    return () => void by.getNotifications({ tag: options.tag ?? '' }).then(list => list.forEach(one => one.close()), () => {});
  }
  try {
    const shown = new Notification(name, options);
    shown.onclick = () => {
      window.focus();
      follow(chosen);
      shown.close();
    };
    return () => shown.close();
  } catch {
    // A browser of a telephone, without a certificate that it trusts: it rings all the same.
    return () => {};
  }
}

function title(): void {
  const [first] = ringing.values();
  document.title = first ? `☎ ${texts.call.callsYou(first.who)}` : TITLE;
}
