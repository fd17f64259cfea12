// Who calls, told outside of the page: by the system where that was allowed, and in the title of the tab.
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

const TITLE = document.title;
const shown = new Map<string, { notification: Notification | undefined; who: string }>();

export function announce(who: string, verified: boolean, id: string): void {
  let notification: Notification | undefined;
  if (allowed.get() === 'granted' && !(document.visibilityState === 'visible' && document.hasFocus())) {
    try {
      notification = new Notification(texts.call.callsYou(who), { body: verified ? texts.call.verified : texts.call.incomingBody, tag: id, requireInteraction: true });
      notification.onclick = () => window.focus();
    } catch {
      // Some browsers of telephones let service workers alone do that; it rings all the same.
    }
  }
  shown.set(id, { notification, who });
  title();
}

export function withdraw(id: string): void {
  const known = shown.get(id);
  if (!known) return;
  known.notification?.close();
  shown.delete(id);
  title();
}

function title(): void {
  const [first] = shown.values();
  document.title = first ? `☎ ${texts.call.callsYou(first.who)}` : TITLE;
}
