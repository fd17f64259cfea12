// The overlay as a picture: the ring, this node's links, and who stores what.
import { useState, type FormEvent } from 'react';
import { api } from '../api/client';
import type { Overlay, OverlayNode, Place } from '../api/types';
import { milliseconds, shortId } from '../format';
import { texts } from '../texts';
import { Button, Card, Copyable, Empty, ErrorNotice, Field, Heading, useAction } from '../ui/elements';
import { Icon } from '../ui/icons';
import { usePolled } from './data';
import { chord, labelAt, labelled, onRing } from './ring';
import { Table } from './table';

const t = texts.network;
const EVERY_MS = 2000;
const RADIUS = 150;
/** How high and wide a label is, as shares of the radius. */
const LABEL = [0.13, 0.85] as const;

type Way = keyof typeof t.path;
const wayOf = (node: OverlayNode): Way => node.link?.path ?? 'none';

export function NetworkView() {
  const { data, error } = usePolled<Overlay>('/admin/overlay', EVERY_MS);
  const [place, setPlace] = useState<Place>();
  return (
    <>
      <Heading>{t.title}</Heading>
      <ErrorNotice error={error} />
      {!data ? !error && <p className="quiet-text">{texts.loading}</p> : (
        <div className="stack">
          <div className="network">
            <Card className="ring-card">
              <p className="quiet-text">{t.lead}</p>
              <Ring overlay={data} place={place} />
              <Legend place={place} />
            </Card>
            <Finder place={place} onPlace={setPlace} />
          </div>
          <Card title={t.table}>
            {data.nodes.length === 0
              ? <Empty icon="network" title={t.alone}><p>{t.aloneHelp}</p></Empty>
              : <Table caption={t.table} keyOf={node => node.id} rows={[...data.nodes].sort((one, other) => rank(one) - rank(other))} columns={[
                { title: t.id, cell: node => <Copyable text={node.id} label={t.id} />, main: true },
                { title: t.way, cell: node => <Path way={wayOf(node)} /> },
                { title: t.rtt, cell: node => (node.link ? milliseconds(node.link.rtt_ms) : '–'), number: true },
                { title: t.domains, cell: node => (node.domains?.length ? node.domains.join(', ') : '–') },
                { title: t.at, cell: node => <code>{node.link?.address ?? '–'}</code> },
              ]} />}
          </Card>
        </div>
      )}
    </>
  );
}

function rank(node: OverlayNode): number {
  return node.link ? node.link.rtt_ms : 1e9 + node.position;
}

function Path({ way }: { way: Way }) {
  return <span className={`path ${way}`}><PathSample way={way} />{t.path[way]}</span>;
}

/** Ways differ in colour, in stroke and in the form at the end. */
function PathSample({ way }: { way: Way }) {
  return (
    <svg className="path-sample" viewBox="0 0 34 12" aria-hidden="true">
      {way !== 'none' && <path className={`link ${way}`} d="M1 6H26" />}
      <g transform="translate(28 6)"><Mark way={way} /></g>
    </svg>
  );
}

function Mark({ way }: { way: Way }) {
  switch (way) {
    case 'direct':
      return <circle r="4.5" className="mark-direct" />;
    case 'relayed':
      return <path d="M0-5.500 5.500 0 0 5.500-5.500 0Z" className="mark-relayed" />;
    case 'introduced':
      return <path d="M0-5 5 4H-5Z" className="mark-introduced" />;
    case 'none':
      return <circle r="4" className="mark-none" />;
  }
}

function Ring({ overlay, place }: { overlay: Overlay; place: Place | undefined }) {
  const { self, nodes } = overlay;
  // Linked nodes come first to their labels.
  const sorted = [...nodes].sort((one, other) => rank(one) - rank(other));
  const linked = nodes.filter(node => node.link).length;
  const labels = labelled([self.position, ...sorted.map(node => node.position)], ...LABEL);
  const stores = new Set(place?.closest ?? []);
  const at = place ? onRing(place.position, RADIUS) : undefined;
  return (
    <svg className="ring" viewBox="-280 -186 560 372" role="img" aria-label={t.picture(linked, overlay.known)}>
      <circle r={RADIUS} className="ring-line" />
      {sorted.filter(node => node.link).map(node => <path key={node.id} className={`link ${wayOf(node)}`} d={chord(self.position, node.position, RADIUS)} />)}
      {place && at && (
        <g>
          {sorted.filter(node => stores.has(node.id)).map(node => <path key={node.id} className="link stores" d={chord(place.position, node.position, RADIUS)} />)}
          {stores.has(self.id) && <path className="link stores" d={chord(place.position, self.position, RADIUS)} />}
          <path className="place" transform={`translate(${at.x.toFixed(1)} ${at.y.toFixed(1)})`} d="M-7-7 7 7M7-7-7 7" />
        </g>
      )}
      {sorted.map((node, index) => {
        const point = onRing(node.position, RADIUS);
        const label = labelAt(node.position, RADIUS + 14);
        return (
          <g key={node.id}>
            <title>{`${node.id} · ${t.path[wayOf(node)]}${node.link ? ` · ${milliseconds(node.link.rtt_ms)}` : ''}`}</title>
            {stores.has(node.id) && <circle cx={point.x} cy={point.y} r="11" className="stores-ring" />}
            <g transform={`translate(${point.x.toFixed(1)} ${point.y.toFixed(1)})`}><Mark way={wayOf(node)} /></g>
            {labels[index + 1] && (
              <text x={label.x} y={label.y} textAnchor={label.anchor} dominantBaseline="middle">
                {shortId(node.id)}{node.link && <tspan className="rtt"> {milliseconds(node.link.rtt_ms)}</tspan>}
              </text>
            )}
          </g>
        );
      })}
      <Self position={self.position} stores={stores.has(self.id)} />
    </svg>
  );
}

function Self({ position, stores }: { position: number; stores: boolean }) {
  const point = onRing(position, RADIUS);
  const beside = labelAt(position, RADIUS + 18);
  const label = beside.anchor === 'middle' ? labelAt(position, RADIUS + 26) : beside;
  return (
    <g>
      {stores && <circle cx={point.x} cy={point.y} r="15" className="stores-ring" />}
      <circle cx={point.x} cy={point.y} r="9" className="self" />
      <text x={label.x} y={label.y} textAnchor={label.anchor} dominantBaseline="middle" className="self-label">{t.self}</text>
    </g>
  );
}

function Legend({ place }: { place: Place | undefined }) {
  return (
    <ul className="legend" aria-label={t.legend}>
      {(['direct', 'relayed', 'introduced', 'none'] as const).map(way => <li key={way}><Path way={way} /></li>)}
      {place && (
        <li>
          <span className="path">
            <svg className="path-sample" viewBox="0 0 34 12" aria-hidden="true"><path className="link stores" d="M1 6H22" /><circle className="stores-ring" cx="28" cy="6" r="5" /></svg>
            {t.holds}
          </span>
        </li>
      )}
    </ul>
  );
}

function Finder({ place, onPlace }: { place: Place | undefined; onPlace: (place: Place | undefined) => void }) {
  const [address, setAddress] = useState('');
  const { error, busy, run } = useAction();
  const find = (event: FormEvent) => {
    event.preventDefault();
    if (address.trim() === '') onPlace(undefined);
    else run(async () => onPlace(await api.get<Place>(`/admin/overlay/place?address=${encodeURIComponent(address.trim())}`)));
  };
  return (
    <Card title={t.find} className="finder">
      <form onSubmit={find} className="form">
        <Field label={t.findLabel} value={address} onChange={event => setAddress(event.target.value)} placeholder="bob@example.org" autoComplete="off" autoCapitalize="none" spellCheck={false} />
        <div><Button type="submit" kind="main" icon="search" disabled={busy}>{t.findButton}</Button></div>
      </form>
      <ErrorNotice error={error} />
      {place && (
        <div className="found" role="status">
          <p><Icon name="close" /> {t.place}: <b>{place.address}</b></p>
          <p>{t.stored(place.closest.length)}</p>
          <ul>{place.closest.map(id => <li key={id}><code>{shortId(id)}</code></li>)}</ul>
          {place.found.length === 0 ? <p>{t.notFound}</p> : (
            <>
              <p>{t.found(place.found.length)}:</p>
              <ul>{place.found.map((record, index) => <li key={index}>{record.kind}, {t.by} <code>{shortId(record.by)}</code></li>)}</ul>
            </>
          )}
        </div>
      )}
    </Card>
  );
}
