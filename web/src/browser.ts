// Which browser and system this is: what one has to click differs, what the page does never.
import type { texts } from './texts';

export type Browser = keyof typeof texts.missing.denied;

export type System = keyof typeof texts.trust.steps;

/** Whose address bar it is; where to click differs by that alone. */
export function browserOf(userAgent: string, touches: number): Browser {
  if (isOfApplesTelephones(userAgent, touches)) return 'ios';
  if (/Firefox/.test(userAgent)) return /Android/.test(userAgent) ? 'android' : 'firefox';
  if (/Android/.test(userAgent)) return 'android';
  return /Safari/.test(userAgent) && !/Chrom/.test(userAgent) ? 'safari' : 'chromium';
}

/** Where trust is kept: Firefox keeps its own on computers, all other browsers go by their system. */
export function systemOf(userAgent: string, touches: number): System {
  if (/Android/.test(userAgent)) return 'android';
  if (isOfApplesTelephones(userAgent, touches)) return 'ios';
  if (/Firefox/.test(userAgent)) return 'firefox';
  if (/Windows/.test(userAgent)) return 'windows';
  return /Macintosh/.test(userAgent) ? 'macos' : 'linux';
}

/** Tablets of Apple say that they are computers, which have no touch screens. */
function isOfApplesTelephones(userAgent: string, touches: number): boolean {
  return /iPhone|iPad/.test(userAgent) || (/Macintosh/.test(userAgent) && touches > 1);
}
