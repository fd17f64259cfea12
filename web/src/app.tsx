// The frame around every view: where one can go, how it stands with the node, and the calls that are on.
import { lazy, Suspense, useEffect, useRef } from 'react';
import { line } from './api/events';
import type { Session } from './api/types';
import { ContactsView } from './person/contacts';
import { CallsPanel } from './person/calls';
import { DialView } from './person/dial';
import { HistoryView } from './person/history';
import { Login } from './person/login';
import { SettingsView } from './person/settings';
import { calls, registration, registrationText } from './phone/phone';
import { mayRing } from './phone/ringer';
import { place } from './router';
import { logOut, missedCount, past, saveSettings, settings, who } from './session';
import { useStore } from './store';
import { texts } from './texts';
import { Avatar, Button, Notice } from './ui/elements';
import { Icon, type IconName } from './ui/icons';

// Who only calls loads nothing of it.
const NodeViews = lazy(() => import('./node/views'));

interface Entry {
  to: string;
  icon: IconName;
  text: string;
  badge?: number;
}

const t = texts.nav;

export function App() {
  const now = useStore(who);
  switch (now.state) {
    case 'starting':
      return <main className="splash" aria-busy="true"><span className="hidden">{texts.loading}</span></main>;
    case 'unreachable':
      return (
        <main className="splash">
          <Notice kind="error" title={texts.api.unreachable} live><p>{texts.api.unreachableHint}</p></Notice>
        </main>
      );
    case 'out':
      return <Login {...(now.why ? { why: now.why } : {})} {...(now.hint ? { hint: now.hint } : {})} />;
    case 'in':
      return <Frame session={now.session} />;
  }
}

function Frame({ session }: { session: Session }) {
  const at = useStore(place);
  const { list } = useStore(past);
  const main = useRef<HTMLElement>(null);
  const isPerson = session.address !== '';
  const missed = missedCount(list);
  const person: Entry[] = isPerson
    ? [
        { to: '/', icon: 'phone', text: t.phone },
        { to: '/history', icon: 'clock', text: t.history, badge: missed },
        { to: '/contacts', icon: 'people', text: t.contacts },
        { to: '/settings', icon: 'settings', text: t.settings },
      ]
    : [];
  const node: Entry[] = session.administers
    ? [
        { to: '/node', icon: 'node', text: t.overview },
        { to: '/node/network', icon: 'network', text: t.network },
        { to: '/node/calls', icon: 'phone', text: t.calls },
        { to: '/node/people', icon: 'people', text: t.people },
        { to: '/node/log', icon: 'log', text: t.log },
        { to: '/node/setup', icon: 'sliders', text: t.setup },
      ]
    : [];
  const home = isPerson ? '/' : '/node';
  const here = at === '/' ? home : at;

  const first = useRef(true);
  useEffect(() => {
    window.scrollTo(0, 0);
    if (first.current) first.current = false;
    else main.current?.querySelector<HTMLElement>('h1')?.focus({ preventScroll: true });
  }, [here]);

  return (
    <div className="frame">
      <a className="skip" href="#main" onClick={event => { event.preventDefault(); main.current?.focus(); }}>{texts.skip}</a>
      <nav className="nav" aria-label={t.label}>
        <div className="brand"><span className="brand-mark" aria-hidden="true"><Icon name="node" /></span><span>{texts.product}</span></div>
        <NavList entries={person} here={here} />
        {node.length > 0 && isPerson && <p className="nav-title">{t.node}</p>}
        <NavList entries={node} here={here} />
        <Me session={session} />
      </nav>
      <main id="main" ref={main} tabIndex={-1}>
        <Banners />
        {isPerson && <CallsPanel session={session} />}
        <Suspense fallback={<p className="quiet-text">{texts.loading}</p>}><View here={here} session={session} /></Suspense>
      </main>
    </div>
  );
}

function View({ here, session }: { here: string; session: Session }) {
  if (here.startsWith('/node') && session.administers) return <NodeViews at={here} />;
  switch (here) {
    case '/history':
      return <HistoryView session={session} />;
    case '/contacts':
      return <ContactsView session={session} />;
    case '/settings':
      return <SettingsView session={session} />;
    default:
      return <DialView session={session} />;
  }
}

function NavList({ entries, here }: { entries: Entry[]; here: string }) {
  if (entries.length === 0) return null;
  const isHere = (to: string) => (to === '/' || to === '/node' ? here === to : here.startsWith(to));
  return (
    <ul>
      {entries.map(({ to, icon, text, badge }) => (
        <li key={to}>
          <a href={`#${to}`} aria-current={isHere(to) ? 'page' : undefined}>
            <Icon name={icon} />
            <span>{text}</span>
            {badge ? <span className="badge"><span aria-hidden="true">{badge}</span><span className="hidden">{t.missed(badge)}</span></span> : null}
          </a>
        </li>
      ))}
    </ul>
  );
}

function Me({ session }: { session: Session }) {
  const now = useStore(registration);
  const shown = session.address || texts.nav.node;
  return (
    <div className="me">
      <Avatar name={session.user || shown} />
      <div className="me-text">
        <p className="me-name">{session.user || shown}</p>
        {session.sip
          ? <p className={`me-state ${now.state}`} role="status"><span className="dot" aria-hidden="true" />{registrationText(now)}</p>
          : <p className="me-state">{texts.node.domainNow(session.domain)}</p>}
      </div>
      <Button kind="quiet" icon="out" onClick={() => void logOut()} aria-label={t.logOut} title={t.logOut} />
    </div>
  );
}

function Banners() {
  const now = useStore(line);
  const registered = useStore(registration);
  const on = useStore(calls);
  const { do_not_disturb, blocked } = useStore(settings);
  const rings = useStore(mayRing);
  const lost = now === 'down';
  return (
    <div className="banners">
      {lost && <Notice kind="warning" title={texts.api.lineDown} live>{on.some(call => call.state === 'talking') && <p>{texts.call.nodeLost}</p>}</Notice>}
      {!lost && registered.state === 'failed' && (
        <Notice kind="error" title={registrationText(registered)} live><p>{texts.registration.failedHint}</p></Notice>
      )}
      {!rings && registered.state === 'registered' && <Notice kind="info" title={texts.settings.ringOnceClicked}><p>{texts.settings.ringOnceClickedHelp}</p></Notice>}
      {do_not_disturb && (
        <Notice kind="info" title={texts.settings.disturbOn} actions={
          <Button size="small" onClick={() => void saveSettings({ do_not_disturb: false, blocked }).catch(() => {})}>{texts.settings.turnOff}</Button>} />
      )}
    </div>
  );
}
