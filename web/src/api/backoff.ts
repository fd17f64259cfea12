// How long to wait before the next try: doubling from a half second to ten, less up to a third by chance, so that all pages of a node
// that comes back do not knock at once.

const FIRST_MS = 500;
const LONGEST_MS = 10_000;

export function backoff(failures: number, random: number): number {
  const full = Math.min(FIRST_MS * 2 ** Math.min(failures, 10), LONGEST_MS);
  return Math.round(full * (1 - random / 3));
}
