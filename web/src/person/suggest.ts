// Whom somebody may mean who has typed this much.
import type { Contact, PastCall } from '../api/types';

export interface Suggestion {
  name: string;
  address: string;
}

const MOST = 6;

export function suggest(typed: string, contacts: readonly Contact[], past: readonly PastCall[]): Suggestion[] {
  const text = fold(typed.trim());
  if (text === '') return [];
  const ranked = new Map<string, Suggestion & { rank: number }>();
  const add = (name: string, address: string, favourite: boolean) => {
    if (ranked.has(address)) return;
    const rank = rankOf(text, name, address);
    if (rank !== undefined) ranked.set(address, { name, address, rank: rank - (favourite ? 0.5 : 0) });
  };
  for (const contact of contacts) add(contact.name, contact.address, contact.favourite);
  for (const call of past) add(call.name ?? '', call.address, false);
  return [...ranked.values()]
    .sort((one, other) => one.rank - other.rank || (one.name || one.address).localeCompare(other.name || other.address))
    .slice(0, MOST)
    .map(({ name, address }) => ({ name, address }));
}

/** The lower the better: the beginning of the name, of one of its words, of the address, or somewhere. */
function rankOf(text: string, name: string, address: string): number | undefined {
  const folded = fold(name);
  if (folded.startsWith(text)) return 0;
  if (folded.split(/[\s-]+/).some(word => word.startsWith(text))) return 1;
  if (fold(address).startsWith(text)) return 2;
  if (folded.includes(text) || fold(address).includes(text)) return 3;
  return undefined;
}

function fold(text: string): string {
  return text.normalize('NFD').replace(/\p{Diacritic}/gu, '').toLowerCase();
}
