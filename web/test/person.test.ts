import { describe, expect, it } from 'vitest';
import { backoff } from '../src/api/backoff';
import { duration, initials, moment, shortId, span, tint } from '../src/format';
import { suggest } from '../src/person/suggest';
import type { PastCall } from '../src/api/types';

describe('suggestions', () => {
  const contacts = [
    { id: '1', name: 'Zoë Bauer', address: 'zoe@home.example', favourite: false },
    { id: '2', name: 'Bob Baker', address: 'bob@home.example', favourite: false },
    { id: '3', name: 'Anna Bo', address: 'anna@home.example', favourite: true },
  ];
  const past: PastCall[] = [{ id: 'a', direction: 'in', address: 'bobby@example.net', verified: false, started: 1, outcome: 'missed', seen: true }];
  it('puts the beginning of a name before that of a word, and known people before callers', () => {
    expect(suggest('bo', contacts, past).map(one => one.address)).toEqual(['bob@home.example', 'anna@home.example', 'bobby@example.net']);
  });
  it('does not mind accents, and says nothing about nothing', () => {
    expect(suggest('zoe', contacts, past)[0]?.name).toBe('Zoë Bauer');
    expect(suggest('  ', contacts, past)).toEqual([]);
  });
});

describe('times', () => {
  it('are as people say them', () => {
    expect([0, 59, 61, 3661].map(duration)).toEqual(['0:00', '0:59', '1:01', '1:01:01']);
    expect([0, 61, 3600, 100_000].map(span)).toEqual(['0 s', '1 min 1 s', '1 h', '1 d 3 h']);
    const now = new Date(2026, 11, 1, 12, 0).getTime();
    expect(moment(new Date(2026, 11, 1, 9, 5).getTime() / 1000, now)).toMatch(/9:05/);
    expect(moment(new Date(2026, 10, 30, 9, 5).getTime() / 1000, now)).toMatch(/Yesterday/);
  });
});

describe('names', () => {
  it('have initials and a tint that stays', () => {
    expect(['Bob Baker', 'carol@home.example', '201', ''].map(initials)).toEqual(['BB', 'C', '2', '?']);
    expect(tint('Bob')).toBe(tint('Bob'));
    expect(shortId('0xi2wrtvju33vrrfd8i5')).toBe('0xi2wrtv');
  });
});

describe('waiting before the next try', () => {
  it('doubles up to ten seconds, and differs by chance', () => {
    expect([0, 1, 2, 20].map(failures => backoff(failures, 0))).toEqual([500, 1000, 2000, 10_000]);
    expect(backoff(20, 1)).toBeLessThan(backoff(20, 0));
  });
});
