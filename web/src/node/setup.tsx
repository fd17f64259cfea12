// How this node was started, and which programs may ask it.
import { useState, type FormEvent } from 'react';
import { api } from '../api/client';
import type { Setting, Token } from '../api/types';
import { moment } from '../format';
import { texts } from '../texts';
import { Ask, Button, Card, Copyable, Dialog, Empty, ErrorNotice, Field, Heading, IconButton, Notice, Select, useAction } from '../ui/elements';
import { usePolled } from './data';
import { Table } from './table';

const t = texts.setup;

export function SetupView() {
  return (
    <>
      <Heading>{t.title}</Heading>
      <div className="stack">
        <Settings />
        <Tokens />
        <Card title={t.watch}><p className="quiet-text">{t.watchHelp}</p></Card>
      </div>
    </>
  );
}

function Settings() {
  const { data, error } = usePolled<Setting[] | { settings: Setting[] }>('/admin/settings', 0);
  const list = Array.isArray(data) ? data : data?.settings;
  return (
    <Card title={t.settings}>
      <p className="quiet-text">{t.lead}</p>
      <ErrorNotice error={error} />
      {list && <Table caption={t.settings} keyOf={setting => setting.name} rows={list} columns={[
        { title: t.name, cell: setting => <code>{setting.name}</code>, main: true },
        { title: t.value, cell: setting => say(setting.value) },
        { title: t.where, cell: setting => setting.where },
      ]} />}
    </Card>
  );
}

function say(value: unknown): string {
  if (value === null || value === undefined || value === '') return texts.node.none;
  if (value === true) return t.yes;
  if (value === false) return t.no;
  if (Array.isArray(value)) return value.length === 0 ? texts.node.none : value.map(say).join(', ');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

function Tokens() {
  const { data, error, reload } = usePolled<Token[]>('/admin/tokens', 10_000);
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState<Token>();
  const [revoking, setRevoking] = useState<Token>();
  const action = useAction();
  return (
    <Card title={t.tokens} actions={<Button icon="add" onClick={() => setMaking(true)}>{t.create}</Button>}>
      <p className="quiet-text">{t.tokensHelp}</p>
      <ErrorNotice error={action.error ?? error} />
      {data && (data.length === 0
        ? <Empty icon="key" title={t.noTokens} />
        : <Table caption={t.tokens} keyOf={token => token.id} rows={data} columns={[
          { title: t.tokenName, cell: token => <b>{token.name}</b>, main: true },
          { title: t.scope, cell: token => token.scopes.map(scope => t.scopes[scope] ?? scope).join(', ') },
          { title: t.lastUsed, cell: token => (token.last_used ? moment(token.last_used) : t.never), number: true },
          { title: texts.nav.more, actions: true, cell: token => <span className="row-actions"><IconButton icon="trash" label={t.revokeWho(token.name)} onClick={() => setRevoking(token)} /></span> },
        ]} />)}
      {making && <MakeToken onClose={() => setMaking(false)} onMade={token => { setMaking(false); setMade(token); reload(); }} />}
      {made?.token && (
        <Dialog title={made.name} onClose={() => setMade(undefined)} actions={<Button kind="main" onClick={() => setMade(undefined)}>{texts.close}</Button>}>
          <Notice kind="warning" title={t.created} />
          <Copyable text={made.token} label={made.name} />
        </Dialog>
      )}
      {revoking && <Ask question={t.revokeAsk(revoking.name)} yes={texts.people.revoke} onNo={() => setRevoking(undefined)} onYes={() => {
        setRevoking(undefined);
        action.run(async () => { await api.delete(`/admin/tokens/${encodeURIComponent(revoking.id)}`); reload(); });
      }} />}
    </Card>
  );
}

function MakeToken({ onClose, onMade }: { onClose: () => void; onMade: (token: Token) => void }) {
  const [name, setName] = useState('');
  const [scope, setScope] = useState('metrics');
  const { error, busy, run } = useAction();
  const create = (event: FormEvent) => {
    event.preventDefault();
    run(async () => onMade(await api.post<Token>('/admin/tokens', { name: name.trim(), scopes: [scope] })));
  };
  return (
    <Dialog title={t.create} onClose={onClose}>
      <form className="form" onSubmit={create} noValidate>
        <Field label={t.tokenName} value={name} onChange={event => setName(event.target.value)} autoComplete="off" autoFocus />
        <Select label={t.scope} value={scope} onChange={setScope} options={Object.entries(t.scopes)} />
        <ErrorNotice error={error} />
        <div className="form-actions"><span className="spring" /><Button onClick={onClose}>{texts.cancel}</Button><Button kind="main" type="submit" disabled={busy || name.trim() === ''}>{t.create}</Button></div>
      </form>
    </Dialog>
  );
}
