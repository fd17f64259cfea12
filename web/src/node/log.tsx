// What the node has written down, newest first.
import { useEffect, useState } from 'react';
import { api } from '../api/client';
import { onEvent } from '../api/events';
import type { LogEntry } from '../api/types';
import { clock } from '../format';
import { texts } from '../texts';
import { Button, Card, Empty, ErrorNotice, Field, Heading, Select, Switch } from '../ui/elements';
import { atLeast, matches } from './filter';

const t = texts.log;
const PAGE = 100;
/** More lines nobody reads; older ones are asked for. */
const MOST = 1000;
const TYPED_AFTER_MS = 300;

export function LogView({ call: asked }: { call: string }) {
  const [level, setLevel] = useState('info');
  const [text, setText] = useState('');
  const [call, setCall] = useState(asked);
  const [follow, setFollow] = useState(true);
  const [entries, setEntries] = useState<readonly LogEntry[]>();
  const [more, setMore] = useState(false);
  const [error, setError] = useState<Error>();
  const query = new URLSearchParams({ level, limit: String(PAGE), ...(text.trim() ? { text: text.trim() } : {}), ...(call.trim() ? { call: call.trim() } : {}) }).toString();

  useEffect(() => {
    let current = true;
    const timer = window.setTimeout(() => {
      api.get<LogEntry[]>(`/admin/log?${query}`).then(
        list => {
          if (!current) return;
          setEntries(list);
          setMore(list.length === PAGE);
          setError(undefined);
        },
        (thrown: Error) => { if (current) setError(thrown); },
      );
    }, TYPED_AFTER_MS);
    return () => {
      current = false;
      window.clearTimeout(timer);
    };
  }, [query]);

  useEffect(() => {
    if (!follow) return;
    return onEvent(event => {
      if (event.type !== 'log' || !atLeast(event.entry.level, level) || !matches(event.entry, text, call)) return;
      setEntries(now => [event.entry, ...(now ?? []).filter(entry => entry.id !== event.entry.id)].slice(0, MOST));
    });
  }, [follow, level, text, call]);

  const older = () => {
    const last = entries?.[entries.length - 1];
    if (!last) return;
    api.get<LogEntry[]>(`/admin/log?${query}&before=${last.id}`).then(
      list => {
        setEntries(now => [...(now ?? []), ...list]);
        setMore(list.length === PAGE);
      },
      (thrown: Error) => setError(thrown),
    );
  };

  return (
    <>
      <Heading>{t.title}</Heading>
      <div className="filters">
        <Select label={t.level} value={level} onChange={setLevel} options={Object.entries(t.levels)} />
        <Field label={t.text} type="search" value={text} onChange={event => setText(event.target.value)} />
        <Field label={t.call} value={call} onChange={event => setCall(event.target.value)} autoComplete="off" spellCheck={false} />
        <Switch label={t.follow} on={follow} onChange={setFollow} />
      </div>
      <ErrorNotice error={error} />
      <Card className="log-card">
        {!entries ? !error && <p className="quiet-text">{texts.loading}</p> : entries.length === 0 ? <Empty icon="log" title={t.empty} /> : (
          <ol className="log">
            {entries.map(entry => <Line key={entry.id} entry={entry} />)}
          </ol>
        )}
        {more && <div className="more"><Button onClick={older}>{t.older}</Button></div>}
      </Card>
    </>
  );
}

function Line({ entry }: { entry: LogEntry }) {
  const fields = Object.entries(entry.fields ?? {});
  return (
    <li>
      <time dateTime={new Date(entry.at_ms).toISOString()} className="numbers">{clock(entry.at_ms)}</time>
      <span className={`log-level ${entry.level.toLowerCase()}`}>{entry.level.toUpperCase()}</span>
      <span className="log-text">
        {entry.message}
        {fields.map(([name, value]) => <span key={name} className="log-field"> {name}=<b>{typeof value === 'string' ? value : JSON.stringify(value)}</b></span>)}
      </span>
    </li>
  );
}
