// What people type into a dial field, as a SIP URI (RFC 3261 §19.1); `tel:` numbers are completed with the served domain (RFC 3966).

export type Dialled = { uri: string; address: string } | { problem: 'empty' | 'spaces' | 'host' | 'scheme' };

// What `user` may hold unescaped: unreserved and user-unreserved.
const USER_CHARACTERS = /[^A-Za-z0-9\-_.!~*'()&=+$,;?/]/g;
const NUMBER = /^[+(]?[0-9][0-9 ()./*#-]*$/;
const HOST = /^(?=.{1,253}$)([A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\.?$|^\[[0-9A-Fa-f:.]+\]$/;

/**
 * `domain` is the one of whoever dials. His node may serve another: somebody with an address of her own dials numbers, and the echo, at
 * the node that speaks for her.
 */
export function parseDialled(typed: string, domain: string, served = domain): Dialled {
  let text = typed.trim();
  if (text === '') return { problem: 'empty' };
  const scheme = /^([a-z][a-z0-9+.-]*):(?![0-9]+$)/i.exec(text)?.[1]?.toLowerCase();
  if (scheme && !['sip', 'sips', 'tel'].includes(scheme)) return { problem: 'scheme' };
  if (scheme) text = text.slice(scheme.length + 1);
  // A name with parameters was copied from elsewhere: who it is ends before them.
  if (scheme) text = text.split(/[;?]/)[0] ?? '';
  const at = text.lastIndexOf('@');
  let user = at < 0 ? text : text.slice(0, at);
  const host = at >= 0 ? text.slice(at + 1) : NUMBER.test(user) || user === 'echo' ? served : domain;
  if (at < 0 && NUMBER.test(user)) user = user.replace(/[ ()./-]/g, '');
  if (/\s/.test(user) || /\s/.test(host)) return { problem: 'spaces' };
  if (user === '') return { problem: 'empty' };
  const port = /^(.*?)(?::([0-9]{1,5}))?$/.exec(host);
  if (!port || !HOST.test(port[1] ?? '')) return { problem: 'host' };
  const escaped = user.replace(/%[0-9A-Fa-f]{2}|[^]/gu, part => (part.length === 3 && part.startsWith('%') ? part : escape(part)));
  return { uri: `sip:${escaped}@${host.toLowerCase()}`, address: `${user}@${host.toLowerCase()}` };
}

function escape(character: string): string {
  return character.replace(USER_CHARACTERS, one =>
    [...new TextEncoder().encode(one)].map(byte => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''));
}

/** The end of the domain of a node that serves people with addresses of their own alone: a name for machines, which nobody is to read. */
export const MACHINES_DOMAIN = '.member.alt';

/** How an address is shown: without the domain where it is one's own, or of a machine. */
export function shortAddress(address: string, domain: string): string {
  const at = address.lastIndexOf('@');
  const host = address.slice(at + 1);
  return at > 0 && (host === domain || host.endsWith(MACHINES_DOMAIN)) ? address.slice(0, at) : address;
}
