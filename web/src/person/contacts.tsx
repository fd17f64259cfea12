// Whom one knows: kept with the account.
import { useState, type FormEvent } from 'react';
import type { Contact, Session } from '../api/types';
import { parseDialled, shortAddress } from '../phone/dial';
import { contacts, removeContact, saveContact } from '../session';
import { useStore } from '../store';
import { texts } from '../texts';
import { Avatar, Button, Card, Dialog, Empty, ErrorNotice, Field, Heading, IconButton, Switch, useAction } from '../ui/elements';
import { callFromList } from './actions';

const t = texts.contacts;

export function ContactsView({ session }: { session: Session }) {
  const list = useStore(contacts);
  const [search, setSearch] = useState('');
  const [editing, setEditing] = useState<Contact>();
  const { error, run } = useAction();
  const wanted = search.trim().toLowerCase();
  const shown = list.filter(contact => `${contact.name} ${contact.address}`.toLowerCase().includes(wanted));
  const add = () => setEditing({ id: '', name: '', address: '', favourite: false });
  return (
    <>
      <Heading actions={<Button kind="main" icon="add" onClick={add}>{t.add}</Button>}>{t.title}</Heading>
      <ErrorNotice error={error} />
      {list.length > 0 && <div className="search"><Field label={t.search} type="search" value={search} onChange={event => setSearch(event.target.value)} /></div>}
      <Card>
        {shown.length === 0
          ? <Empty icon="people" title={list.length === 0 ? t.empty : t.nobody}>{list.length === 0 && <p>{t.emptyHelp}</p>}</Empty>
          : (
            <ul className="rows">
              {shown.map(contact => (
                <li key={contact.id} className="row">
                  <Avatar name={contact.name} />
                  <span className="row-main"><b>{contact.name}</b><small>{shortAddress(contact.address, session.home)}</small></span>
                  <span className="row-actions">
                    <IconButton icon="star" filled={contact.favourite} aria-pressed={contact.favourite} label={`${t.favourite}: ${contact.name}`}
                      onClick={() => run(() => saveContact({ ...contact, favourite: !contact.favourite }))} />
                    <IconButton icon="edit" label={t.editWho(contact.name)} onClick={() => setEditing(contact)} />
                    <IconButton icon="phone" label={t.call(contact.name)} onClick={() => callFromList(contact.address, session)} />
                  </span>
                </li>
              ))}
            </ul>
          )}
      </Card>
      {editing && <EditContact contact={editing} session={session} onClose={() => setEditing(undefined)} />}
    </>
  );
}

export function EditContact({ contact, session, onClose }: { contact: Contact; session: Session; onClose: () => void }) {
  const isNew = contact.id === '';
  const [name, setName] = useState(contact.name);
  const [address, setAddress] = useState(contact.address);
  const [favourite, setFavourite] = useState(contact.favourite);
  const [problem, setProblem] = useState<string>();
  const { error, busy, run } = useAction();
  const save = (event: FormEvent) => {
    event.preventDefault();
    const dialled = parseDialled(address, session.home, session.domain);
    if (name.trim() === '' || address.trim() === '') setProblem(t.needsBoth);
    else if ('problem' in dialled) setProblem(texts.dial.problem[dialled.problem]);
    else {
      setProblem(undefined);
      run(async () => {
        await saveContact({ id: contact.id || newId(), name: name.trim(), address: dialled.address, favourite });
        onClose();
      });
    }
  };
  return (
    <Dialog title={isNew ? t.add : t.edit} onClose={onClose}>
      <form onSubmit={save} noValidate className="form">
        <Field label={t.name} value={name} onChange={event => setName(event.target.value)} autoComplete="off" autoFocus />
        <Field label={t.address} value={address} onChange={event => setAddress(event.target.value)} autoComplete="off" autoCapitalize="none" spellCheck={false} error={problem} />
        <Switch label={t.favourite} on={favourite} onChange={setFavourite} />
        <ErrorNotice error={error} />
        <div className="form-actions">
          {!isNew && <Button kind="stop" icon="trash" disabled={busy} onClick={() => run(async () => { await removeContact(contact.id); onClose(); })}>{texts.remove}</Button>}
          <span className="spring" />
          <Button onClick={onClose}>{texts.cancel}</Button>
          <Button kind="main" type="submit" disabled={busy}>{texts.save}</Button>
        </div>
      </form>
    </Dialog>
  );
}

/** A random UUID; `randomUUID` is there on protected pages only. */
function newId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, '0')).join('');
}
