// Which log lines somebody wants to see: for those that come by themselves, as the node chooses those that are asked for.
import type { LogEntry } from '../api/types';

const LEVELS = ['error', 'warn', 'info', 'debug', 'trace'];

export function atLeast(level: string, wanted: string): boolean {
  const rank = LEVELS.indexOf(level.toLowerCase());
  return rank >= 0 && rank <= LEVELS.indexOf(wanted);
}

export function matches(entry: LogEntry, text: string, call: string): boolean {
  const fields = Object.values(entry.fields ?? {}).map(value => (typeof value === 'string' ? value : JSON.stringify(value)));
  if (call.trim() && !fields.includes(call.trim())) return false;
  const all = [entry.message, entry.target, ...fields].join(' ').toLowerCase();
  return text.toLowerCase().split(/\s+/).every(word => all.includes(word));
}
