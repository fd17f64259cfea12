// What the node is asked for again and again while a view shows it.
import { useCallback, useEffect, useRef, useState } from 'react';
import { api } from '../api/client';
import { onEvent } from '../api/events';
import type { Status } from '../api/types';
import { createStore, useStore } from '../store';

export interface Polled<T> {
  data: T | undefined;
  error: Error | undefined;
  reload: () => void;
}

/** Asks at once, then every so often while somebody looks; what was answered last stays until there is something newer. */
export function usePolled<T>(path: string, every_ms: number): Polled<T> {
  const [data, setData] = useState<T>();
  const [error, setError] = useState<Error>();
  const asked = useRef(0);
  const load = useCallback(() => {
    asked.current += 1;
    const mine = asked.current;
    api.get<T>(path).then(
      got => {
        if (mine !== asked.current) return;
        setData(got);
        setError(undefined);
      },
      (thrown: Error) => { if (mine === asked.current) setError(thrown); },
    );
  }, [path]);
  useEffect(() => {
    setData(undefined);
    load();
    if (every_ms <= 0) return;
    const timer = window.setInterval(() => { if (document.visibilityState === 'visible') load(); }, every_ms);
    return () => {
      window.clearInterval(timer);
      asked.current += 1;
    };
  }, [load, every_ms]);
  return { data, error, reload: load };
}

const STATUS_EVERY_MS = 2000;

/** The last status, and when it came. */
const status = createStore<{ status: Status; at_ms: number } | undefined>(undefined);

onEvent(event => {
  if (event.type === 'status') status.set({ status: event.status, at_ms: Date.now() });
});

export function useStatus(): { status: Status | undefined; error: Error | undefined; age_s: number } {
  const { data, error } = usePolled<Status>('/admin/status', STATUS_EVERY_MS);
  const known = useStore(status);
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (data) status.set({ status: data, at_ms: Date.now() });
  }, [data]);
  useEffect(() => {
    const timer = window.setInterval(() => setNow(Date.now()), 1000);
    return () => window.clearInterval(timer);
  }, []);
  return { status: known?.status, error, age_s: known ? Math.max(0, Math.floor((now - known.at_ms) / 1000)) : 0 };
}
