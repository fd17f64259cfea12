// The telephone: a field, a keypad, a big button.
import { useEffect, useId, useRef, useState, type FormEvent, type KeyboardEvent } from 'react';
import type { Session } from '../api/types';
import { moment } from '../format';
import { shortAddress } from '../phone/dial';
import { calls } from '../phone/phone';
import { allowed, askToNotify } from '../phone/notifications';
import { contacts, past } from '../session';
import { useStore } from '../store';
import { texts } from '../texts';
import { Avatar, Button, Card, Copyable, Empty, Heading, IconButton, Notice } from '../ui/elements';
import { Icon } from '../ui/icons';
import { callProblem, placeCall, preparing } from './actions';
import { DeviceCheck } from './devices';
import { outcomeIcon } from './history';
import { MissingDevice } from './missing';
import { suggest, type Suggestion } from './suggest';

const t = texts.dial;
const KEYS: readonly (readonly [string, string])[] = [
  ['1', ''], ['2', 'ABC'], ['3', 'DEF'], ['4', 'GHI'], ['5', 'JKL'], ['6', 'MNO'], ['7', 'PQRS'], ['8', 'TUV'], ['9', 'WXYZ'], ['*', ''], ['0', '+'], ['#', ''],
];

export function Keypad({ onDigit }: { onDigit: (digit: string) => void }) {
  return (
    <div className="keypad" role="group" aria-label={t.keypad}>
      {KEYS.map(([digit, letters]) => (
        <button key={digit} type="button" onClick={() => onDigit(digit)} aria-label={/[*#]/.test(digit) ? t.digit(digit) : undefined}>
          <span>{digit}</span> <small>{letters}</small>
        </button>
      ))}
    </div>
  );
}

/** While somebody talks the keys of the telephone would be taken for those of the call: it opens when somebody else is to be called. */
export function DialView({ session }: { session: Session }) {
  const open = useStore(calls).filter(call => call.state !== 'ended');
  const isCalling = open.length > 0;
  const [another, setAnother] = useState(false);
  useEffect(() => { if (!isCalling) setAnother(false); }, [isCalling]);
  if (!isCalling || another) return <Dialler session={session} onCalled={() => setAnother(false)} />;
  return (
    <div>
      <h1 tabIndex={-1} className="hidden">{t.title}</h1>
      {open.some(call => call.state !== 'incoming') && <Button icon="add" onClick={() => setAnother(true)}>{t.another}</Button>}
    </div>
  );
}

function Dialler({ session, onCalled }: { session: Session; onCalled: () => void }) {
  const [typed, setTyped] = useState('');
  const [problem, setProblem] = useState<string>();
  const [checking, setChecking] = useState(false);
  const failed = useStore(callProblem);
  const busy = useStore(preparing);
  const call = (to: string, video = false) => {
    const wrong = placeCall(to, session, video);
    setProblem(wrong);
    if (wrong) return;
    setTyped('');
    onCalled();
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    call(typed);
  };
  return (
    <div className="columns">
      <div>
        <Heading>{t.title}</Heading>
        <AskToNotify />
        {failed && <MissingDevice error={failed.error} onRetry={failed.retry} onClose={() => callProblem.set(undefined)} />}
        <form className="dialler" onSubmit={submit} noValidate>
          <DialField value={typed} onChange={value => { setTyped(value); setProblem(undefined); }} onChoose={call} problem={problem} session={session} />
          <Keypad onDigit={digit => { setTyped(now => now + digit); setProblem(undefined); }} />
          <div className="dial-actions">
            <Button icon="video" onClick={() => call(typed, true)} disabled={busy}>{t.video}</Button>
            <Button kind="go" icon="phone" type="submit" disabled={busy}>{busy ? t.busy : t.call}</Button>
          </div>
        </form>
        <div className="under-dialler">
          <Button kind="quiet" icon="echo" onClick={() => call('echo')} disabled={busy} title={t.echoHelp}>{t.echo}</Button>
          <Button kind="quiet" icon="mic" aria-expanded={checking} onClick={() => setChecking(!checking)}>{texts.devices.choose}</Button>
        </div>
        {checking && <DeviceCheck />}
      </div>
      <Recent session={session} onCall={call} />
    </div>
  );
}

function DialField({ value, onChange, onChoose, problem, session }: {
  value: string; onChange: (value: string) => void; onChoose: (address: string) => void; problem: string | undefined; session: Session;
}) {
  const id = useId();
  const known = useStore(contacts);
  const { list } = useStore(past);
  const [chosen, setChosen] = useState(-1);
  const [open, setOpen] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const found = open ? suggest(value, known, list) : [];
  useEffect(() => setChosen(-1), [value]);
  const take = (suggestion: Suggestion) => {
    setOpen(false);
    onChoose(suggestion.address);
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key === 'ArrowDown' && found.length > 0) setChosen((chosen + 1) % found.length);
    else if (event.key === 'ArrowUp' && found.length > 0) setChosen((chosen + found.length) % (found.length + 1) - (chosen < 0 ? 1 : 0));
    else if (event.key === 'Escape' && found.length > 0) setOpen(false);
    else if (event.key === 'Enter' && found[chosen]) take(found[chosen]);
    else return;
    event.preventDefault();
  };
  return (
    <div className="dial-field">
      <label htmlFor={id} className="hidden">{t.label}</label>
      <input ref={field} id={id} name="to" value={value} placeholder={t.placeholder} autoComplete="off" autoCapitalize="none" autoCorrect="off" spellCheck={false} inputMode="text"
        role="combobox" aria-expanded={found.length > 0} aria-controls={`${id}-list`} aria-autocomplete="list" aria-activedescendant={chosen >= 0 ? `${id}-${chosen}` : undefined}
        aria-invalid={problem ? true : undefined} aria-describedby={problem ? `${id}-problem` : undefined}
        onChange={event => { setOpen(true); onChange(event.target.value); }} onKeyDown={onKey} onBlur={() => window.setTimeout(() => setOpen(false), 150)} />
      {value !== '' && <IconButton icon="backspace" label={t.erase} onClick={() => { onChange(value.slice(0, -1)); field.current?.focus(); }} />}
      <ul id={`${id}-list`} role="listbox" aria-label={t.suggestions} className="suggestions" hidden={found.length === 0}>
        {found.map((one, index) => (
          <li key={one.address} id={`${id}-${index}`} role="option" aria-selected={index === chosen} onMouseDown={event => { event.preventDefault(); take(one); }}>
            <Avatar name={one.name || one.address} />
            <span><b>{one.name || shortAddress(one.address, session.home)}</b>{one.name && <small>{shortAddress(one.address, session.home)}</small>}</span>
          </li>
        ))}
      </ul>
      {problem && <p id={`${id}-problem`} className="field-error" role="alert">{problem}</p>}
    </div>
  );
}

function Recent({ session, onCall }: { session: Session; onCall: (address: string) => void }) {
  const known = useStore(contacts);
  const { list, loaded } = useStore(past);
  const favourites = known.filter(contact => contact.favourite);
  const name = (address: string) => known.find(contact => contact.address === address)?.name;
  return (
    <div className="side">
      {favourites.length > 0 && (
        <Card title={t.favourites}>
          <ul className="favourites">
            {favourites.map(contact => (
              <li key={contact.id}>
                <button type="button" onClick={() => onCall(contact.address)}>
                  <Avatar name={contact.name} large />
                  <span><span className="hidden">{t.call} </span>{contact.name}</span>
                </button>
              </li>
            ))}
          </ul>
        </Card>
      )}
      {loaded && list.length === 0 && (
        <Card title={t.own}>
          <p><Copyable text={session.address} label={t.own} /></p>
          <p className="field-hint">{t.ownHelp}{session.number && ` ${t.ownNumber(session.number)}`}</p>
        </Card>
      )}
      <Card title={t.recent}>
        {list.length === 0
          ? <Empty icon="clock" title={loaded ? t.noRecent : texts.loading} />
          : (
            <ul className="rows">
              {list.slice(0, 8).map(call => {
                const shown = name(call.address) || call.name || shortAddress(call.address, session.home);
                return (
                  <li key={call.id} className="row">
                    <Avatar name={shown} />
                    <span className="row-main">
                      <b className={call.direction === 'in' && call.outcome === 'missed' ? 'missed' : ''}>{shown}</b>
                      <small><Icon name={outcomeIcon(call)} />{texts.history.outcome[call.outcome]} · {moment(call.started)}</small>
                    </span>
                    <IconButton icon="phone" label={texts.history.callBack(shown)} onClick={() => onCall(call.address)} />
                  </li>
                );
              })}
            </ul>
          )}
      </Card>
    </div>
  );
}

/** Asked once it is of use: somebody who never was called is not bothered. */
function AskToNotify() {
  const now = useStore(allowed);
  const on = useStore(calls);
  const { list } = useStore(past);
  const [later, setLater] = useState(() => localStorage.getItem('meshtone.notify') === 'later');
  if (now !== 'default' || later || on.length > 0 || !list.some(call => call.direction === 'in')) return null;
  return (
    <Notice kind="info" title={texts.ask.notify} actions={
      <>
        <Button size="small" kind="main" onClick={() => void askToNotify()}>{texts.ask.yes}</Button>
        <Button size="small" onClick={() => { localStorage.setItem('meshtone.notify', 'later'); setLater(true); }}>{texts.ask.no}</Button>
      </>} />
  );
}
