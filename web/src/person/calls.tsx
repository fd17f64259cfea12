// The calls that are on: one card each, above whatever view one is at.
import { useEffect, useRef, useState } from 'react';
import type { Session } from '../api/types';
import { duration } from '../format';
import { shortAddress } from '../phone/dial';
import type { CallView } from '../phone/view';
import { calls, phone, registration } from '../phone/phone';
import { SILENT_AFTER_MS } from '../phone/quality';
import { contacts } from '../session';
import { useStore } from '../store';
import { texts } from '../texts';
import { Avatar, Button, IconButton, Notice } from '../ui/elements';
import { Icon } from '../ui/icons';
import { attention, BUSY, callFromList } from './actions';
import { Keypad } from './dial';
import { MissingDevice } from './missing';
import { QualityBars } from './quality';
import { TransferDialog } from './transfer';
import { Video } from './video';

const t = texts.call;

export function CallsPanel({ session }: { session: Session }) {
  const list = useStore(calls);
  if (list.length === 0) return null;
  return (
    <section className="calls" aria-label={t.region}>
      {list.map(call => <CallCard key={call.id} call={call} session={session} />)}
    </section>
  );
}

function CallCard({ call, session }: { call: CallView; session: Session }) {
  const known = useStore(contacts);
  const who = call.isEcho ? texts.dial.echo : (known.find(contact => contact.address === call.address)?.name || call.shownName || shortAddress(call.address, session.home));
  const address = shortAddress(call.address, session.home);
  return (
    <article className={`call ${call.state} ${call.held ? 'is-held' : ''}`} aria-label={who} data-state={call.state}>
      {(call.video || call.remoteVideo) && call.state === 'talking' && <Video call={call} />}
      <div className="call-head">
        <Avatar name={who} large />
        <div className="call-who">
          <p className="call-name">{who}</p>
          <p className="call-more">
            {address !== who && !call.isEcho && <span>{address}</span>}
            {call.direction === 'in' && call.verified !== undefined && <Verified verified={call.verified} />}
          </p>
          <State call={call} />
        </div>
        {call.state === 'talking' && <Trust call={call} />}
      </div>
      <Troubles call={call} />
      {call.state === 'incoming' && <Incoming call={call} who={who} />}
      {(call.state === 'dialling' || call.state === 'ringing' || call.state === 'connecting') && (
        <div className="call-actions"><Button kind="stop" icon="hangUp" onClick={() => phone.find(call.id)?.end()}>{t.cancel}</Button></div>
      )}
      {call.state === 'talking' && <Talking call={call} who={who} session={session} />}
      {call.state === 'ended' && <Ended call={call} session={session} />}
    </article>
  );
}

function Verified({ verified }: { verified: boolean }) {
  return verified
    ? <span className="trust good" title={t.verifiedHelp}><Icon name="verified" />{t.verified}</span>
    : <span className="trust" title={t.unverifiedHelp}><Icon name="question" />{t.unverified}</span>;
}

function Trust({ call }: { call: CallView }) {
  const all = call.protection === 'all_the_way';
  return (
    <div className="call-trust">
      <span className="trust good" title={all ? t.lockAllHelp : t.lockNodeHelp}><Icon name="lock" />{all ? t.lockAll : t.lockNode}</span>
      <QualityBars quality={call.quality} />
    </div>
  );
}

function State({ call }: { call: CallView }) {
  const text = (() => {
    switch (call.state) {
      case 'incoming':
        return call.offersVideo ? t.incomingVideo : t.incoming;
      case 'dialling':
        return t.dialling;
      case 'ringing':
        return t.ringing;
      case 'connecting':
        return t.connecting;
      case 'talking':
        return call.held && call.heldByOther ? t.heldByBoth : call.held ? t.held : call.heldByOther ? t.heldByOther : t.talking;
      case 'ended':
        return call.end?.sentence ?? t.ended;
    }
  })();
  return (
    <p className="call-state">
      <span role="status">{text}</span>
      {call.state === 'talking' && call.answered_ms && <Timer since_ms={call.answered_ms} />}
      {call.state === 'talking' && call.muted && <span className="trust"><Icon name="micOff" />{t.muted}</span>}
    </p>
  );
}

function Timer({ since_ms }: { since_ms: number }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = window.setInterval(() => setNow(Date.now()), 1000);
    return () => window.clearInterval(timer);
  }, []);
  return <span role="timer" aria-label={t.timer} className="numbers">{duration((now - since_ms) / 1000)}</span>;
}

/** What is wrong with a call while it lasts. */
function Troubles({ call }: { call: CallView }) {
  const registered = useStore(registration);
  if (call.state !== 'talking') return null;
  const silent = call.quality?.silent_ms ?? 0;
  return (
    <>
      {registered.state !== 'registered' && <Notice kind="warning" title={t.nodeLost} live />}
      {call.soundInterrupted
        ? <Notice kind="warning" title={t.soundInterrupted} live />
        : silent > SILENT_AFTER_MS && !call.held && !call.heldByOther && <Notice kind="warning" title={t.nothingHeard(Math.round(silent / 1000))} />}
      {call.passedOnTo && (
        <Notice kind="info" title={t.passedOn(call.passedOnTo)} live actions={
          <>
            <Button size="small" kind="main" onClick={() => void phone.find(call.id)?.followReferral(true)}>{t.passedOnYes}</Button>
            <Button size="small" onClick={() => void phone.find(call.id)?.followReferral(false)}>{t.passedOnNo}</Button>
          </>} />
      )}
      {call.transfer && (
        <Notice kind={call.transfer.state === 'failed' ? 'error' : 'info'} live title={
          call.transfer.state === 'failed' ? texts.transfer.failed(call.transfer.to, call.transfer.reason)
            : call.transfer.state === 'ringing' ? texts.transfer.ringing(call.transfer.to) : texts.transfer.asked(call.transfer.to)}
          actions={call.transfer.state === 'failed' && <Button size="small" onClick={() => phone.find(call.id)?.forgetTransfer()}>{texts.close}</Button>} />
      )}
      {call.isEcho && <p className="field-hint">{t.echoHint}</p>}
    </>
  );
}

const REJECTIONS = [
  { ...BUSY, text: t.reasons.busy },
  { status: 480, phrase: 'Temporarily Unavailable', text: t.reasons.later },
  { status: 603, phrase: 'Decline', text: t.reasons.never },
] as const;

function Incoming({ call, who }: { call: CallView; who: string }) {
  const [error, setError] = useState<Error>();
  const [choosing, setChoosing] = useState(false);
  const answerButton = useRef<HTMLButtonElement>(null);
  const answer = (video: boolean) => {
    setError(undefined);
    phone.answer(call.id, video).catch((thrown: Error) => setError(thrown));
  };
  const wanted = useStore(attention);
  useEffect(() => {
    if (wanted !== call.id) return;
    answerButton.current?.focus();
    attention.set('');
  }, [wanted, call.id]);
  useEffect(() => {
    // Who is about to press a key at something else shall not answer by it.
    const at = document.activeElement;
    if (!(at instanceof HTMLElement) || at === document.body || at.tabIndex < 0) answerButton.current?.focus();
  }, []);
  return (
    <>
      {error && <MissingDevice error={error} onRetry={() => answer(false)} />}
      <div className="call-actions incoming-actions">
        <button type="button" ref={answerButton} className="button go" onClick={() => answer(false)} aria-label={`${t.answer}: ${who}`}><Icon name="phone" /><span>{t.answer}</span></button>
        {call.offersVideo && <Button kind="go" icon="video" onClick={() => answer(true)}>{t.answerVideo}</Button>}
        <Button kind="stop" icon="hangUp" onClick={() => phone.find(call.id)?.end(BUSY)}>{t.reject}</Button>
        <Button aria-expanded={choosing} onClick={() => setChoosing(!choosing)}>{t.rejectWith}</Button>
      </div>
      {choosing && (
        <div className="call-actions" role="group" aria-label={t.rejectWith}>
          {REJECTIONS.map(({ status, phrase, text }) => (
            <Button key={status} size="small" onClick={() => phone.find(call.id)?.end({ status, phrase })}>{text}</Button>
          ))}
        </div>
      )}
    </>
  );
}

function Talking({ call, who, session }: { call: CallView; who: string; session: Session }) {
  const [keys, setKeys] = useState('');
  const [keypad, setKeypad] = useState(false);
  const [transferring, setTransferring] = useState(false);
  const [error, setError] = useState<Error>();
  const one = () => phone.find(call.id);
  const video = () => {
    setError(undefined);
    one()?.setVideo(!call.video).catch((thrown: Error) => setError(thrown));
  };
  return (
    <>
      {error && <MissingDevice error={error} onRetry={video} onClose={() => setError(undefined)} />}
      <div className="call-tools" role="group" aria-label={who}>
        <Tool icon={call.muted ? 'micOff' : 'mic'} text={call.muted ? t.unmute : t.mute} on={call.muted} onClick={() => one()?.mute(!call.muted)} />
        <Tool icon={call.held ? 'play' : 'pause'} text={call.held ? t.resume : t.hold} on={call.held} onClick={() => void (call.held ? phone.resume(call.id) : one()?.hold(true))} />
        <Tool icon="keypad" text={t.keypad} expanded={keypad} onClick={() => setKeypad(!keypad)} />
        <Tool icon={call.video ? 'videoOff' : 'video'} text={call.video ? t.videoOff : t.videoOn} on={call.video} onClick={video} />
        {!call.isEcho && <Tool icon="transfer" text={t.transfer} onClick={() => setTransferring(true)} />}
        <Button kind="stop" icon="hangUp" onClick={() => one()?.end()}>{t.hangUp}</Button>
      </div>
      {keypad && (
        <div className="call-keypad">
          <output aria-label={t.keypad}>{keys}</output>
          <Keypad onDigit={digit => { setKeys(now => (now + digit).slice(-24)); one()?.digit(digit); }} />
        </div>
      )}
      {transferring && <TransferDialog call={call} who={who} session={session} onClose={() => setTransferring(false)} />}
    </>
  );
}

function Tool({ icon, text, on, expanded, onClick }: { icon: Parameters<typeof Icon>[0]['name']; text: string; on?: boolean; expanded?: boolean; onClick: () => void }) {
  return (
    <button type="button" className={`tool ${on ? 'on' : ''}`} aria-expanded={expanded} onClick={onClick}>
      <span className="tool-icon"><Icon name={icon} /></span>
      <span>{text}</span>
    </button>
  );
}

function Ended({ call, session }: { call: CallView; session: Session }) {
  const { end } = call;
  const side = end ? texts.reasons.side[end.side] : '';
  return (
    <div className="call-end">
      {end && !end.fine && (
        <div className="call-reason">
          {side && <p>{texts.reasons.whose} <span className="side-tag">{side}</span></p>}
          {end.hint && <p>{end.hint}</p>}
          {end.technical && <details><summary>{t.details}</summary><code>{end.technical}</code></details>}
        </div>
      )}
      <div className="call-actions">
        {!call.isEcho && <Button icon="phone" onClick={() => { phone.dismiss(call.id); callFromList(call.address, session); }}>{t.callAgain}</Button>}
        <IconButton icon="close" label={t.dismiss} onClick={() => phone.dismiss(call.id)} />
      </div>
    </div>
  );
}
