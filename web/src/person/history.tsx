// All calls of the account at this node, those of desk phones too.
import { useEffect, useState } from 'react';
import type { PastCall, Session } from '../api/types';
import { duration, moment } from '../format';
import { shortAddress } from '../phone/dial';
import { contacts, forgetPast, markSeen, past, readOlder, saveSettings, settings } from '../session';
import { useStore } from '../store';
import { texts } from '../texts';
import { Ask, Avatar, Button, Card, Empty, ErrorNotice, Heading, IconButton, useAction } from '../ui/elements';
import { Icon, type IconName } from '../ui/icons';
import { callFromList } from './actions';
import { EditContact } from './contacts';

const t = texts.history;
const SEEN_AFTER_MS = 1500;

export function outcomeIcon(call: PastCall): IconName {
  if (call.outcome === 'missed' || call.outcome === 'not_disturbed') return 'missed';
  if (call.outcome === 'blocked') return 'block';
  return call.direction === 'in' ? 'incoming' : 'outgoing';
}

export function HistoryView({ session }: { session: Session }) {
  const { list, more, loaded } = useStore(past);
  const known = useStore(contacts);
  const now = useStore(settings);
  const [onlyMissed, setOnlyMissed] = useState(false);
  const [asking, setAsking] = useState(false);
  const [adding, setAdding] = useState<PastCall>();
  const { error, busy, run } = useAction();
  useEffect(() => {
    const timer = window.setTimeout(() => void markSeen(), SEEN_AFTER_MS);
    return () => window.clearTimeout(timer);
  }, [list]);
  const shown = onlyMissed ? list.filter(call => call.outcome === 'missed' || call.outcome === 'not_disturbed') : list;
  return (
    <>
      <Heading actions={list.length > 0 && <Button kind="quiet" icon="trash" onClick={() => setAsking(true)}>{t.clear}</Button>}>{t.title}</Heading>
      <ErrorNotice error={error} />
      <div className="segments" role="group" aria-label={t.filter}>
        <button type="button" aria-pressed={!onlyMissed} onClick={() => setOnlyMissed(false)}>{t.all}</button>
        <button type="button" aria-pressed={onlyMissed} onClick={() => setOnlyMissed(true)}>{t.missed}</button>
      </div>
      <Card>
        {shown.length === 0
          ? <Empty icon="clock" title={!loaded ? texts.loading : onlyMissed ? t.noMissed : t.empty}>{!onlyMissed && loaded && <p>{t.emptyHelp}</p>}</Empty>
          : (
            <ul className="rows">
              {shown.map(call => {
                const contact = known.find(one => one.address === call.address);
                const who = contact?.name || call.name || shortAddress(call.address, session.home);
                const isBlocked = now.blocked.includes(call.address);
                const lasted = call.answered && call.ended ? ` · ${duration(call.ended - call.answered)}` : '';
                return (
                  <li key={call.id} className="row">
                    <Avatar name={who} />
                    <span className="row-main">
                      <b className={call.outcome === 'missed' ? 'missed' : ''}>{who}
                        {call.direction === 'in' && call.verified && <span className="mark" title={texts.call.verifiedHelp}><Icon name="verified" /><span className="hidden">{texts.call.verified}</span></span>}
                        {!call.seen && call.outcome === 'missed' && <span className="new-dot" aria-hidden="true" />}
                      </b>
                      <small>
                        <Icon name={outcomeIcon(call)} /><span className="hidden">{call.direction === 'in' ? t.in : t.out}: </span>
                        {t.outcome[call.outcome]}{lasted} · {moment(call.started)}
                      </small>
                      {call.reason && (call.outcome === 'failed' || call.outcome === 'refused') && <small>{t.why(call.status, call.reason)}</small>}
                    </span>
                    <span className="row-actions">
                      {!contact && <IconButton icon="add" label={t.addContact(who)} onClick={() => setAdding(call)} />}
                      {call.direction === 'in' && (
                        <IconButton icon="block" label={isBlocked ? t.unblock(who) : t.block(who)} aria-pressed={isBlocked} onClick={() => run(() => saveSettings({
                          ...now, blocked: isBlocked ? now.blocked.filter(one => one !== call.address) : [...now.blocked, call.address] }))} />
                      )}
                      <IconButton icon="phone" label={t.callBack(who)} onClick={() => callFromList(call.address, session)} />
                    </span>
                  </li>
                );
              })}
            </ul>
          )}
        {more && !onlyMissed && <div className="more"><Button disabled={busy} onClick={() => run(readOlder)}>{t.more}</Button></div>}
      </Card>
      {asking && <Ask question={t.clearAsk} yes={t.clear} onNo={() => setAsking(false)} onYes={() => { setAsking(false); run(forgetPast); }} />}
      {adding && <EditContact contact={{ id: '', name: adding.name ?? '', address: adding.address, favourite: false }} session={session} onClose={() => setAdding(undefined)} />}
    </>
  );
}
