// Who may register here, and which machines may join.
import { useState, type FormEvent } from 'react';
import { api } from '../api/client';
import type { Invite, InviteRole, NewInvite, NewPassword, User } from '../api/types';
import { moment } from '../format';
import { texts } from '../texts';
import { Ask, Button, Card, Copyable, Dialog, Empty, ErrorNotice, Field, Heading, IconButton, Notice, Select, useAction } from '../ui/elements';
import { usePolled } from './data';
import { Qr } from './qr';
import { Table } from './table';

const t = texts.people;
const EVERY_MS = 5000;

export function PeopleView() {
  return (
    <>
      <Heading>{t.title}</Heading>
      <div className="stack">
        <Users />
        <Invites />
      </div>
    </>
  );
}

function Users() {
  const { data, error, reload } = usePolled<{ domain: string; users: User[] }>('/admin/users', EVERY_MS);
  const [adding, setAdding] = useState(false);
  const [numbering, setNumbering] = useState<User>();
  const [asking, setAsking] = useState<{ user: string; what: 'remove' | 'password' }>();
  const [shown, setShown] = useState<NewPassword>();
  const action = useAction();
  const confirmed = () => {
    if (!asking) return;
    const { user, what } = asking;
    setAsking(undefined);
    action.run(async () => {
      if (what === 'remove') await api.delete(`/admin/users/${encodeURIComponent(user)}`);
      else setShown(await api.post<NewPassword>(`/admin/users/${encodeURIComponent(user)}/password`));
      reload();
    });
  };
  return (
    <Card title={t.users} actions={<Button kind="main" icon="add" onClick={() => setAdding(true)}>{t.add}</Button>}>
      <ErrorNotice error={action.error ?? error} />
      {data && (data.users.length === 0
        ? <Empty icon="people" title={t.noUsers}><p>{t.noUsersHelp}</p></Empty>
        : <Table caption={t.users} keyOf={user => user.user} rows={data.users} columns={[
          { title: t.name, cell: user => <b>{user.user}</b>, main: true },
          { title: t.numberOnly, cell: user => user.number ?? '–' },
          { title: t.phones, cell: user => t.phonesNow(user.phones), number: true },
          {
            title: texts.nav.more,
            actions: true,
            cell: user => (
              <span className="row-actions">
                <IconButton icon="edit" label={t.editNumber(user.user)} onClick={() => setNumbering(user)} />
                <IconButton icon="key" label={t.newPassword(user.user)} onClick={() => setAsking({ user: user.user, what: 'password' })} />
                <IconButton icon="trash" label={t.removeUser(user.user)} onClick={() => setAsking({ user: user.user, what: 'remove' })} />
              </span>
            ),
          },
        ]} />)}
      {adding && <AddUser onClose={() => setAdding(false)} onAdded={made => { setAdding(false); setShown(made); reload(); }} />}
      {numbering && <EditNumber user={numbering} onClose={() => { setNumbering(undefined); reload(); }} />}
      {asking && <Ask question={asking.what === 'remove' ? t.removeAsk(asking.user) : t.passwordAsk(asking.user)} yes={asking.what === 'remove' ? texts.remove : t.password} onYes={confirmed} onNo={() => setAsking(undefined)} />}
      {shown && <Credentials made={shown} onClose={() => setShown(undefined)} />}
    </Card>
  );
}

function AddUser({ onClose, onAdded }: { onClose: () => void; onAdded: (made: NewPassword) => void }) {
  const [user, setUser] = useState('');
  const [number, setNumber] = useState('');
  const { error, busy, run } = useAction();
  const add = (event: FormEvent) => {
    event.preventDefault();
    run(async () => onAdded(await api.post<NewPassword>('/admin/users', { user: user.trim(), ...(number.trim() ? { number: number.trim() } : {}) })));
  };
  return (
    <Dialog title={t.add} onClose={onClose}>
      <form className="form" onSubmit={add} noValidate>
        <Field label={t.name} value={user} onChange={event => setUser(event.target.value)} autoComplete="off" autoCapitalize="none" spellCheck={false} autoFocus />
        <Field label={t.number} value={number} onChange={event => setNumber(event.target.value)} autoComplete="off" inputMode="tel" />
        <ErrorNotice error={error} />
        <div className="form-actions"><span className="spring" /><Button onClick={onClose}>{texts.cancel}</Button><Button kind="main" type="submit" disabled={busy || user.trim() === ''}>{t.add}</Button></div>
      </form>
    </Dialog>
  );
}

function EditNumber({ user, onClose }: { user: User; onClose: () => void }) {
  const [number, setNumber] = useState(user.number ?? '');
  const { error, busy, run } = useAction();
  const save = (event: FormEvent) => {
    event.preventDefault();
    run(async () => {
      await api.patch(`/admin/users/${encodeURIComponent(user.user)}`, { number: number.trim() });
      onClose();
    });
  };
  return (
    <Dialog title={t.editNumber(user.user)} onClose={onClose}>
      <form className="form" onSubmit={save} noValidate>
        <Field label={t.number} value={number} onChange={event => setNumber(event.target.value)} autoComplete="off" inputMode="tel" autoFocus />
        <ErrorNotice error={error} />
        <div className="form-actions"><span className="spring" /><Button onClick={onClose}>{texts.cancel}</Button><Button kind="main" type="submit" disabled={busy}>{texts.save}</Button></div>
      </form>
    </Dialog>
  );
}

function Credentials({ made, onClose }: { made: NewPassword; onClose: () => void }) {
  const facts: [string, string][] = [[t.user, made.user], [t.domain, made.domain], [t.passwordLabel, made.password], ...(made.server ? [[t.server, made.server] as [string, string]] : [])];
  return (
    <Dialog title={t.credentials} onClose={onClose} actions={<Button kind="main" onClick={onClose}>{texts.close}</Button>}>
      <Notice kind="warning" title={t.shownOnce} />
      <dl className="facts">{facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd><Copyable text={value} label={name} /></dd></div>)}</dl>
    </Dialog>
  );
}

function Invites() {
  const { data, error, reload } = usePolled<Invite[]>('/admin/invites', EVERY_MS);
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<Invite>();
  const [made, setMade] = useState<NewInvite>();
  const action = useAction();
  return (
    <Card title={t.invites} actions={<Button kind="main" icon="add" onClick={() => setMaking(true)}>{t.invite}</Button>}>
      <ErrorNotice error={action.error ?? error} />
      {data && (data.length === 0
        ? <Empty icon="key" title={t.noInvites} />
        : <Table caption={t.invites} keyOf={invite => invite.id} rows={data} columns={[
          { title: t.role, cell: invite => <b>{t.roleShort(invite.role)}</b>, main: true },
          { title: t.personOnly, cell: invite => invite.person ?? '–' },
          { title: texts.calls.state, cell: invite => (invite.used ? t.used : t.open) },
          { title: t.expires, cell: invite => moment(invite.expires), number: true },
          { title: texts.nav.more, actions: true, cell: invite => <span className="row-actions"><IconButton icon="trash" label={t.revokeWho(t.roleShort(invite.role))} onClick={() => setRevoking(invite)} /></span> },
        ]} />)}
      {making && <MakeInvite onClose={() => setMaking(false)} onMade={one => { setMaking(false); setMade(one); reload(); }} />}
      {made && (
        <Dialog title={t.ticket} onClose={() => setMade(undefined)} actions={<Button kind="main" onClick={() => setMade(undefined)}>{texts.close}</Button>}>
          <p>{t.ticketHelp}</p>
          <Copyable text={made.command} label={t.ticket} />
          <Qr svg={made.qr} label={t.qr} />
          <p className="field-hint">{t.roleShort(made.role)} · {t.expires}: {moment(made.expires)}</p>
        </Dialog>
      )}
      {revoking && <Ask question={t.revokeAsk} yes={t.revoke} onNo={() => setRevoking(undefined)} onYes={() => {
        setRevoking(undefined);
        action.run(async () => { await api.delete(`/admin/invites/${encodeURIComponent(revoking.id)}`); reload(); });
      }} />}
    </Card>
  );
}

function MakeInvite({ onClose, onMade }: { onClose: () => void; onMade: (made: NewInvite) => void }) {
  const [role, setRole] = useState<string>('home');
  const [valid, setValid] = useState('3600');
  const [person, setPerson] = useState('');
  const { error, busy, run } = useAction();
  const create = (event: FormEvent) => {
    event.preventDefault();
    run(async () => onMade(await api.post<NewInvite>('/admin/invites', { role: role as InviteRole, valid_s: Number(valid), ...(person.trim() ? { person: person.trim() } : {}) })));
  };
  return (
    <Dialog title={t.invite} onClose={onClose}>
      <form className="form" onSubmit={create} noValidate>
        <Select label={t.role} value={role} onChange={setRole} options={Object.entries(t.roles)} />
        <Select label={t.valid} value={valid} onChange={setValid} options={Object.entries(t.validFor)} />
        {role === 'member' && <Field label={t.person} value={person} onChange={event => setPerson(event.target.value)} autoComplete="off" autoCapitalize="none" spellCheck={false} />}
        <ErrorNotice error={error} />
        <div className="form-actions"><span className="spring" /><Button onClick={onClose}>{texts.cancel}</Button><Button kind="main" type="submit" disabled={busy}>{t.create}</Button></div>
      </form>
    </Dialog>
  );
}
