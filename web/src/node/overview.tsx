// Whether all is well, in sentences, and what to do where it is not.
import type { Health, Link, Status } from '../api/types';
import { milliseconds, moment, shortId, span } from '../format';
import { texts } from '../texts';
import { Card, Copyable, Empty, ErrorNotice, Heading, Notice } from '../ui/elements';
import { Icon } from '../ui/icons';
import { useStatus } from './data';
import { Table } from './table';

const t = texts.node;
/** From when on one is told that what is shown may not be so any more. */
const STALE_AFTER_S = 8;

export function Overview() {
  const { status, error, age_s } = useStatus();
  return (
    <>
      <Heading>{texts.nav.overview}</Heading>
      {!status ? (error ? <ErrorNotice error={error} /> : <p className="quiet-text">{texts.loading}</p>) : (
        <div className="stack">
          {age_s > STALE_AFTER_S && <Notice kind="warning" title={t.stale(age_s)} live />}
          <HealthCard health={status.health} />
          <Tiles status={status} />
          <div className="two">
            <Identity status={status} />
            <Reach status={status} />
          </div>
          <Card title={t.registered}>
            {status.registrations.length === 0
              ? <Empty icon="phone" title={t.noPhones}><p>{t.noPhonesHelp}</p></Empty>
              : <Table caption={t.registered} keyOf={row => `${row.address} ${row.contact}`} rows={status.registrations} columns={[
                { title: t.address, cell: row => row.address, main: true },
                { title: t.contact, cell: row => <code className="clip">{row.contact}</code> },
                { title: t.transport, cell: row => row.transport.toUpperCase() },
                { title: t.expires, cell: row => span(row.expires_s), number: true },
              ]} />}
          </Card>
          {(status.trunks?.length ?? 0) > 0 && (
            <Card title={t.trunks}>
              <Table caption={t.trunks} keyOf={row => row.name} rows={status.trunks ?? []} columns={[
                { title: texts.people.name, cell: row => row.name, main: true },
                { title: texts.calls.state, cell: row => row.reason ? `${row.state}: ${row.reason}` : row.state },
                { title: texts.nav.calls, cell: row => `${row.calls} / ${row.max_calls}`, number: true },
              ]} />
            </Card>
          )}
        </div>
      )}
    </>
  );
}

function HealthCard({ health }: { health: Health[] }) {
  const serious = health.filter(item => item.severity !== 'info');
  const worst = health[0]?.severity;
  return (
    <section className={`health ${serious.length === 0 ? 'fine-health' : worst}`} aria-label={serious.length === 0 ? t.healthy : t.problems(serious.length)}>
      <div className="health-head" role="status">
        <span className="health-icon"><Icon name={serious.length === 0 ? 'ok' : 'warning'} /></span>
        <div>
          <h2>{serious.length === 0 ? t.healthy : t.problems(serious.length)}</h2>
          {health.length === 0 && <p>{t.healthyHelp}</p>}
        </div>
      </div>
      {health.length > 0 && (
        <ul>
          {health.map(item => (
            <li key={item.code + item.sentence} className={item.severity}>
              <span className="severity">{t.severity[item.severity]}</span>
              <div>
                <p>{item.sentence}</p>
                {item.cure && <p className="cure"><b>{t.cure}:</b> {item.cure}</p>}
              </div>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

/** The path of a link is said in words; over a relay it says so. */
const isRelayed = (link: Link) => /relay/i.test(link.path);

function Tiles({ status }: { status: Status }) {
  const relayed = status.links.filter(isRelayed).length;
  const fastest = Math.min(...status.links.map(link => link.rtt_ms));
  const tiles: [string, number, string, string][] = [
    ['/node/network', status.links.length, t.neighbours, status.links.length === 0 ? t.alone : `${t.direct(status.links.length - relayed)}, ${t.relayed(relayed)} · ${milliseconds(fastest)}`],
    ['/node', status.registrations.length, t.registered, t.registeredHere],
    ['/node/calls', status.calls.length, t.liveCalls, t.callsNow(status.calls.length)],
    ['/node/people', status.accounts?.users ?? 0, texts.people.users, t.domainNow(status.domain)],
  ];
  return (
    <ul className="tiles">
      {tiles.map(([to, value, name, more]) => (
        <li key={name}><a href={`#${to}`}><span className="tile-name">{name}</span><span className="tile-value">{value}</span><span className="tile-more">{more}</span></a></li>
      ))}
    </ul>
  );
}

function Identity({ status }: { status: Status }) {
  return (
    <Card title={texts.network.self}>
      <dl className="facts">
        <div><dt>{t.id}</dt><dd><Copyable text={status.node} label={t.id} /></dd></div>
        <div><dt>{t.domain}</dt><dd>{t.domainNow(status.domain)}</dd></div>
        <div><dt>{t.version}</dt><dd>{status.version}</dd></div>
        <div><dt>{t.up}</dt><dd>{span(status.uptime_s)}</dd></div>
        {status.certified_until !== undefined && <div><dt>{t.certificate}</dt><dd>{moment(status.certified_until)}</dd></div>}
      </dl>
    </Card>
  );
}

function Reach({ status }: { status: Status }) {
  const { role } = status;
  const relayed = status.links.filter(isRelayed);
  const reached = role?.reached;
  return (
    <Card title={t.reach}>
      <dl className="facts">
        {role && <div><dt>{t.role}</dt><dd>{role.serves ? t.serves : t.uses}, {role.why}</dd></div>}
        <div><dt>{t.reach}</dt><dd>{reached ? `${t.reachedBy(reached.reached, reached.dialled)}${reached.address ? ` ${t.reachedAt(reached.address)}` : ''}` : t.notTested}</dd></div>
        <div><dt>{t.relays}</dt><dd>{relayed.length === 0 ? t.noRelays : `${t.somRelayed(relayed.length)} ${relayed.map(link => shortId(link.node)).join(', ')}`}</dd></div>
        {(status.peer?.length ?? 0) > 0 && <div><dt>{t.peerLine}</dt><dd>{status.peer?.map(line => <Copyable key={line} text={line} label={t.peerLine} />)}</dd></div>}
      </dl>
    </Card>
  );
}
