// Who is logged in, and what of his is kept at the node.
import { api, ApiError, setCsrf, setOnSessionOver } from './api/client';
import { listen, onEvent } from './api/events';
import type { Contact, PageInfo, PastCall, Session, Settings } from './api/types';
import { phone } from './phone/phone';
import { createStore } from './store';
import { takeKey } from './router';
import { texts } from './texts';

export type Who =
  | { state: 'starting' }
  | { state: 'unreachable' }
  | { state: 'out'; why?: string; hint?: string }
  | { state: 'in'; session: Session };

export const who = createStore<Who>({ state: 'starting' });
export const pageInfo = createStore<PageInfo | undefined>(undefined);
export const contacts = createStore<readonly Contact[]>([]);
export const past = createStore<{ list: readonly PastCall[]; more: boolean; loaded: boolean }>({ list: [], more: false, loaded: false });
export const settings = createStore<Settings>({ do_not_disturb: false, blocked: [] });

const PAGE_OF_CALLS = 50;
const AGAIN_MS = 3000;

let closeLine: (() => void) | undefined;

export async function begin(): Promise<void> {
  const key = takeKey();
  setOnSessionOver(() => leave(texts.api.sessionOver));
  phone.nameOf = nameOf;
  try {
    pageInfo.set(await api.get<PageInfo>('/page'));
    if (key) {
      try {
        enter(await api.post<Session>('/session/key', { key }));
        return;
      } catch (error) {
        // Perhaps the link was used before in this very browser: then its session is still there.
        const session = await api.get<Session>('/session').catch(() => undefined);
        if (session?.administers) enter(session);
        else who.set({ state: 'out', why: error instanceof ApiError && error.code !== 'wrong_key' ? error.message : texts.login.keyFailed, hint: texts.login.keyCure });
        return;
      }
    }
    enter(await api.get<Session>('/session'));
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) {
      who.set({ state: 'out' });
      return;
    }
    who.set({ state: 'unreachable' });
    window.setTimeout(() => void begin(), AGAIN_MS);
  }
}

export async function logIn(address: string, password: string): Promise<void> {
  enter(await api.post<Session>('/session', { address, password }));
}

export async function logOut(): Promise<void> {
  phone.stop();
  await api.delete('/session').catch(() => {});
  leave();
}

function enter(told: Omit<Session, 'home'>): void {
  const session: Session = { ...told, home: told.address.slice(told.address.lastIndexOf('@') + 1) || told.domain };
  setCsrf(session.csrf);
  who.set({ state: 'in', session });
  closeLine?.();
  closeLine = listen(() => leave(texts.api.sessionOver));
  if (session.sip) phone.start(session);
  if (session.address) void readAll();
}

function leave(why?: string): void {
  closeLine?.();
  closeLine = undefined;
  phone.stop();
  setCsrf('');
  contacts.set([]);
  past.set({ list: [], more: false, loaded: false });
  who.set({ state: 'out', ...(why ? { why } : {}) });
}

function mine(): boolean {
  const now = who.get();
  return now.state === 'in' && now.session.address !== '';
}

async function readAll(): Promise<void> {
  await Promise.allSettled([readContacts(), readPast(), readSettings()]);
}

async function readContacts(): Promise<void> {
  contacts.set(await api.get<Contact[]>('/me/contacts'));
}

async function readPast(): Promise<void> {
  const list = await api.get<PastCall[]>(`/me/calls?limit=${PAGE_OF_CALLS}`);
  past.set({ list, more: list.length === PAGE_OF_CALLS, loaded: true });
}

// How often the settings were asked for, changed, or told: an answer that is overtaken by one of these is no news any more.
let settingsTurn = 0;

async function settle(answer: Promise<Settings>): Promise<void> {
  const turn = ++settingsTurn;
  const now = await answer;
  if (turn === settingsTurn) settings.set(now);
}

async function readSettings(): Promise<void> {
  await settle(api.get<Settings>('/me/settings'));
}

export async function readOlder(): Promise<void> {
  const { list } = past.get();
  const last = list[list.length - 1];
  if (!last) return;
  const older = await api.get<PastCall[]>(`/me/calls?limit=${PAGE_OF_CALLS}&before=${encodeURIComponent(last.id)}`);
  past.set(now => ({ ...now, list: [...now.list, ...older], more: older.length === PAGE_OF_CALLS }));
}

export async function forgetPast(): Promise<void> {
  await api.delete('/me/calls');
  past.set({ list: [], more: false, loaded: true });
}

export async function markSeen(): Promise<void> {
  if (!past.get().list.some(call => !call.seen)) return;
  past.set(now => ({ ...now, list: now.list.map(call => (call.seen ? call : { ...call, seen: true })) }));
  await api.post('/me/calls/seen').catch(() => {});
}

export async function saveContact(contact: Contact): Promise<void> {
  const { id, ...rest } = contact;
  const saved = await api.put<Contact>(`/me/contacts/${id}`, rest);
  contacts.set(now => byName([...now.filter(one => one.id !== id), saved]));
}

export async function removeContact(id: string): Promise<void> {
  await api.delete(`/me/contacts/${id}`);
  contacts.set(now => now.filter(one => one.id !== id));
}

export async function saveSettings(next: Settings): Promise<void> {
  await settle(api.put<Settings>('/me/settings', next));
}

export function nameOf(address: string): string | undefined {
  return contacts.get().find(contact => contact.address === address)?.name;
}

export function missedCount(list: readonly PastCall[]): number {
  return list.filter(call => !call.seen && call.direction === 'in' && (call.outcome === 'missed' || call.outcome === 'not_disturbed')).length;
}

function byName(list: Contact[]): Contact[] {
  return list.sort((one, other) => one.name.localeCompare(other.name));
}

onEvent(event => {
  if (!mine()) return;
  switch (event.type) {
    case 'hello':
      // Also after the line was lost: what happened meanwhile is read anew.
      void readAll();
      break;
    case 'call': {
      const call = event.call;
      if (!('direction' in call)) break;
      past.set(now => ({ ...now, list: [call, ...now.list.filter(one => one.id !== call.id)].sort((one, other) => other.started - one.started) }));
      break;
    }
    case 'settings':
      settingsTurn += 1;
      settings.set({ do_not_disturb: event.do_not_disturb, blocked: event.blocked });
      break;
    case 'contacts':
      void readContacts().catch(() => {});
      break;
    case 'registration':
    case 'status':
    case 'log':
      break;
  }
});
