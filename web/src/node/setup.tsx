// How this node is set, who vouches for its page, and which programs may ask it.
import { useState, type FormEvent } from 'react';
import { api } from '../api/client';
import type { Setting, Token } from '../api/types';
import { moment } from '../format';
import { texts } from '../texts';
import { Ask, Button, Card, Copyable, Dialog, Empty, ErrorNotice, Field, Heading, IconButton, Notice, Select, Switch, useAction } from '../ui/elements';
import { Trust } from '../ui/trust';
import { usePolled } from './data';
import { Table } from './table';

const t = texts.setup;

export function SetupView() {
  return (
    <>
      <Heading>{t.title}</Heading>
      <div className="stack">
        <Settings />
        <Card title={t.certificate}><Trust /></Card>
        <Tokens />
        <Card title={t.watch}><p className="quiet-text">{t.watchHelp}</p></Card>
      </div>
    </>
  );
}

function Settings() {
  const { data, error, reload } = usePolled<Setting[]>('/admin/settings', 0);
  const [changing, setChanging] = useState<Setting>();
  // What can be changed here comes first.
  const sorted = data && [...data].sort((one, other) => Number(other.changeable) - Number(one.changeable));
  const waiting = data?.filter(setting => setting.pending !== undefined) ?? [];
  return (
    <Card title={t.settings}>
      <p className="quiet-text">{t.lead}</p>
      <ErrorNotice error={error} />
      {waiting.length > 0 && <Notice kind="warning" title={t.waiting(waiting.length)}><p>{t.waitingHelp}</p></Notice>}
      {sorted && <Table caption={t.settings} keyOf={setting => setting.name} rows={sorted} columns={[
        { title: t.name, cell: setting => <><code>{setting.name}</code><small className="setting-help">{setting.help}</small></>, main: true },
        { title: t.value, cell: setting => <>{say(setting.kind, setting.value)}{setting.pending !== undefined && <small className="setting-help">{t.next(say(setting.kind, setting.pending))}</small>}</> },
        { title: t.where, cell: setting => setting.where },
        { title: texts.nav.more, actions: true, cell: setting => setting.changeable && (
          <span className="row-actions"><IconButton icon="edit" label={t.change(setting.name)} onClick={() => setChanging(setting)} /></span>
        ) },
      ]} />}
      {changing && <ChangeSetting setting={changing} onClose={() => setChanging(undefined)} onChanged={() => { setChanging(undefined); reload(); }} />}
    </Card>
  );
}

function ChangeSetting({ setting, onClose, onChanged }: { setting: Setting; onClose: () => void; onChanged: () => void }) {
  const [value, setValue] = useState(setting.pending ?? setting.value);
  const { error, busy, run } = useAction();
  const save = (next: unknown) => run(async () => {
    await api.patch('/admin/settings', { [setting.name]: next });
    onChanged();
  });
  const typed = (): unknown => {
    if (setting.kind === 'switch') return value === 'true';
    // What is no number is refused by the node, with what it should be.
    if (setting.kind === 'number' && value.trim() !== '' && Number.isFinite(Number(value))) return Number(value);
    return value.trim();
  };
  return (
    <Dialog title={setting.name} onClose={onClose}>
      <form className="form" onSubmit={event => { event.preventDefault(); save(typed()); }} noValidate>
        <p className="quiet-text">{setting.help}</p>
        {setting.kind === 'choice' && <Select label={t.value} value={value} onChange={setValue} options={(setting.choices ?? []).map(choice => [choice, choice])} />}
        {setting.kind === 'switch' && <Switch label={t.on} on={value === 'true'} onChange={on => setValue(String(on))} />}
        {(setting.kind === 'text' || setting.kind === 'number') && (
          <Field label={t.value} value={value} onChange={event => setValue(event.target.value)} autoComplete="off" spellCheck={false} autoFocus inputMode={setting.kind === 'number' ? 'decimal' : 'text'} />
        )}
        <p className="field-hint">{setting.restart ? t.needsRestart : t.atOnce}</p>
        <ErrorNotice error={error} />
        <div className="form-actions">
          {(setting.from === 'page' || setting.pending !== undefined) && <Button onClick={() => save(null)} disabled={busy} title={t.takeBackHelp}>{t.takeBack}</Button>}
          <span className="spring" />
          <Button onClick={onClose}>{texts.cancel}</Button>
          <Button kind="main" type="submit" disabled={busy}>{texts.save}</Button>
        </div>
      </form>
    </Dialog>
  );
}

function say(kind: Setting['kind'], value: string): string {
  if (kind === 'switch') return value === 'true' ? t.yes : t.no;
  return value === '' ? texts.node.none : value;
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
