// What one wants: not to be disturbed, by whom never, and how to be told.
import { useState, type FormEvent } from 'react';
import type { Session } from '../api/types';
import { parseDialled, shortAddress } from '../phone/dial';
import { allowed, askToNotify } from '../phone/notifications';
import { saveSettings, settings } from '../session';
import { useStore } from '../store';
import { texts } from '../texts';
import { Button, Card, ErrorNotice, Field, Heading, IconButton, Switch, useAction } from '../ui/elements';
import { DeviceCheck } from './devices';

const t = texts.settings;

export function SettingsView({ session }: { session: Session }) {
  const now = useStore(settings);
  const notify = useStore(allowed);
  const { error, run } = useAction();
  const [entry, setEntry] = useState('');
  const [problem, setProblem] = useState<string>();
  // What the switch was set to, until the node has answered.
  const [wanted, setWanted] = useState<boolean>();
  const disturb = (on: boolean) => {
    setWanted(on);
    run(() => saveSettings({ ...now, do_not_disturb: on }).finally(() => setWanted(undefined)));
  };
  const block = (event: FormEvent) => {
    event.preventDefault();
    const dialled = parseDialled(entry, session.home, session.domain);
    if ('problem' in dialled) {
      setProblem(texts.dial.problem[dialled.problem === 'empty' ? 'host' : dialled.problem]);
      return;
    }
    setProblem(undefined);
    if (!now.blocked.includes(dialled.address)) run(async () => { await saveSettings({ ...now, blocked: [...now.blocked, dialled.address] }); setEntry(''); });
  };
  return (
    <>
      <Heading>{t.title}</Heading>
      <ErrorNotice error={error} />
      <div className="stack narrow">
        <Card>
          <Switch label={t.disturb} hint={t.disturbHelp} on={wanted ?? now.do_not_disturb} onChange={disturb} />
        </Card>
        <Card title={t.notifications}>
          <p className="field-hint">{notify === 'granted' ? t.granted : notify === 'denied' ? t.denied : notify === 'unsupported' ? t.unsupported : t.notificationsHelp}</p>
          {notify === 'default' && <div><Button icon="bell" onClick={() => void askToNotify()}>{t.allow}</Button></div>}
        </Card>
        <DeviceCheck />
        <Card title={t.blocked}>
          <p className="field-hint">{t.blockedHelp}</p>
          {now.blocked.length === 0
            ? <p className="quiet-text">{t.nobodyBlocked}</p>
            : (
              <ul className="rows">
                {now.blocked.map(address => (
                  <li key={address} className="row">
                    <span className="row-main"><b>{shortAddress(address, session.home)}</b></span>
                    <IconButton icon="close" label={t.unblock(address)} onClick={() => run(() => saveSettings({ ...now, blocked: now.blocked.filter(one => one !== address) }))} />
                  </li>
                ))}
              </ul>
            )}
          <form onSubmit={block} className="inline-form" noValidate>
            <Field label={t.blockLabel} value={entry} onChange={event => setEntry(event.target.value)} error={problem} autoComplete="off" autoCapitalize="none" spellCheck={false} />
            <Button type="submit" icon="block">{t.block}</Button>
          </form>
        </Card>
        <Card title={t.account}>
          <dl className="facts">
            <div><dt>{t.address}</dt><dd>{session.address}</dd></div>
            {session.number && <div><dt>{t.number}</dt><dd>{session.number}</dd></div>}
          </dl>
          <p className="field-hint">{t.session}</p>
          <p className="field-hint"><a href="/licenses.txt" target="_blank" rel="noreferrer">{t.licenses}</a></p>
        </Card>
      </div>
    </>
  );
}
