// Calls at this node: those that are on, those that ended, and each one's ladder, media and quality.
import { Fragment, useState, type CSSProperties } from 'react';
import type { CallDetail, FinishedCall, Heard, LiveCall, QualityPoint, Sound } from '../api/types';
import { clock, duration, milliseconds, shortId, span } from '../format';
import { texts } from '../texts';
import { Card, Empty, ErrorNotice, Heading } from '../ui/elements';
import { Icon } from '../ui/icons';
import { usePolled } from './data';
import { ladder, NODE, type Rung } from './ladder';
import { Table } from './table';

const t = texts.calls;
const EVERY_MS = 2000;

export function CallsView() {
  const { data, error } = usePolled<{ live: LiveCall[]; finished: FinishedCall[] }>('/admin/calls', EVERY_MS);
  return (
    <>
      <Heading>{t.title}</Heading>
      <ErrorNotice error={error} />
      {!data ? !error && <p className="quiet-text">{texts.loading}</p> : (
        <div className="stack">
          <Card title={t.live}>
            {data.live.length === 0
              ? <Empty icon="phone" title={t.noLive} />
              : <Table caption={t.live} keyOf={call => call.call_id} rows={data.live} columns={[
                { title: t.from, cell: call => <CallLink call={call} />, main: true },
                { title: t.state, cell: call => t.states[call.state] ?? call.state },
                { title: t.sound, cell: call => score(call.sound) },
                { title: t.since, cell: call => duration(call.since_s), number: true },
              ]} />}
          </Card>
          <Card title={t.finished}>
            {data.finished.length === 0
              ? <Empty icon="clock" title={t.noFinished} />
              : <Table caption={t.finished} keyOf={call => call.call_id} rows={data.finished} columns={[
                { title: t.from, cell: call => <CallLink call={call} />, main: true },
                { title: t.how, cell: call => <>{t.outcome(call.status)}{call.status !== undefined && call.status >= 300 && <span className="quiet-text"> ({call.status})</span>}</> },
                { title: t.sound, cell: call => score(call.sound) },
                { title: t.lasted, cell: call => (call.lasted_s === undefined ? '–' : duration(call.lasted_s)), number: true },
                { title: t.ended, cell: call => ended(call), number: true },
              ]} />}
          </Card>
        </div>
      )}
    </>
  );
}

function CallLink({ call }: { call: { call_id: string; from: string; to: string } }) {
  return (
    <a href={`#/node/calls/${encodeURIComponent(call.call_id)}`} className="call-link">
      <span>{plain(call.from)}</span><Icon name="chevron" /><span className="hidden"> {t.to} </span><span>{plain(call.to)}</span>
    </a>
  );
}

/** An address as people say it. */
const plain = (uri: string) => uri.replace(/^sips?:/, '');

function ended(call: FinishedCall): string {
  // The status counts seconds since it ended; a moment is far larger than any of these.
  const since = call.ended_s > 1e9 ? Date.now() / 1000 - call.ended_s : call.ended_s;
  return t.ago(span(since));
}

function score(sound: Sound | null | undefined): string {
  const both = [sound?.heard_by_caller, sound?.heard_by_callee].flatMap(heard => (heard ? [heard.mos.toFixed(1)] : []));
  return both.length > 0 ? `${t.mosAxis} ${both.join(' / ')}` : '–';
}

export function CallDetailView({ callId }: { callId: string }) {
  const { data, error } = usePolled<CallDetail>(`/admin/calls/${encodeURIComponent(callId)}`, EVERY_MS);
  return (
    <>
      <p><a href="#/node/calls" className="back"><Icon name="back" />{t.back}</a></p>
      <Heading>{data ? `${plain(data.from)} → ${plain(data.to)}` : t.title}</Heading>
      <ErrorNotice error={error} />
      {data && (
        <div className="stack">
          <p className="quiet-text">{t.states[data.state] ?? data.state} · <code>{data.call_id}</code> · <a href={`#/node/log?call=${encodeURIComponent(data.call_id)}`}>{t.logOf}</a></p>
          <LadderCard call={data} />
          <Media sound={data.sound} />
          {(data.sound || data.quality.length > 0) && <Card title={t.quality}><Chart points={bestKnown(data.quality)} /></Card>}
        </div>
      )}
    </>
  );
}

function LadderCard({ call }: { call: CallDetail }) {
  const [open, setOpen] = useState<number>();
  const { parties, rungs } = ladder(call.messages);
  return (
    <Card title={t.ladder}>
      {rungs.length === 0 ? <p className="quiet-text">{t.noMessages}</p> : (
        <>
          <p className="quiet-text">{t.ladderLead(rungs.length)}{call.left_out > 0 && ` ${t.leftOut(call.left_out)}`}</p>
          <div className="ladder-frame" tabIndex={0} role="region" aria-label={t.messages}>
            <div className="ladder" style={{ '--parties': parties.length } as CSSProperties}>
              <div className="ladder-head" aria-hidden="true">
                <span />
                <div className="ladder-lanes">{parties.map(party => <span key={party} title={party} className={party === NODE ? 'is-node' : ''}>{partyName(party)}</span>)}</div>
              </div>
              <ol>
                {rungs.map((rung, index) => (
                  <Fragment key={index}>
                    <Row rung={rung} parties={parties} isOpen={open === index} onOpen={() => setOpen(open === index ? undefined : index)} />
                    {open === index && (
                      <li className="ladder-text">
                        <pre tabIndex={0} aria-label={t.message}>{rung.message.text}</pre>
                      </li>
                    )}
                  </Fragment>
                ))}
              </ol>
            </div>
          </div>
        </>
      )}
    </Card>
  );
}

/** Addresses are shown whole, other nodes by the beginning of their id. */
function partyName(party: string): string {
  if (party === NODE) return t.node;
  return /[.:]/.test(party) ? party : shortId(party);
}

function Row({ rung, parties, isOpen, onOpen }: { rung: Rung; parties: string[]; isOpen: boolean; onOpen: () => void }) {
  const name = (index: number) => partyName(parties[index] ?? '');
  const left = Math.min(rung.from, rung.to);
  const lanes = parties.length;
  const at = (lane: number) => ((lane + 0.5) / lanes) * 100;
  const toRight = rung.to > rung.from;
  return (
    <li>
      <button type="button" className={`rung ${rung.kind}`} aria-expanded={isOpen} onClick={onOpen} title={`${clock(rung.message.at_ms)} ${rung.message.transport}`}>
        <span className="rung-time numbers">+{(rung.after_ms / 1000).toFixed(3)}</span>
        <span className="rung-lanes">
          <svg viewBox="0 0 100 40" preserveAspectRatio="none" aria-hidden="true">
            {parties.map((party, lane) => <path key={party} className="lane" d={`M${at(lane)} 0V40`} />)}
            <path className={`arrow ${rung.kind}`} d={`M${at(rung.from)} 30H${at(rung.to)}`} />
          </svg>
          <span className="rung-label" style={{ left: `${at(left)}%`, width: `${at(Math.max(rung.from, rung.to)) - at(left)}%` }}>
            {toRight ? <>{rung.label} <span aria-hidden="true">▸</span></> : <><span aria-hidden="true">◂</span> {rung.label}</>}
          </span>
          <span className="hidden"> {t.way(name(rung.from), name(rung.to))}</span>
        </span>
      </button>
    </li>
  );
}

function Media({ sound }: { sound: Sound | null | undefined }) {
  if (!sound) return <Card title={t.media}><p className="quiet-text">{t.notCarried}</p></Card>;
  return (
    <Card title={t.media}>
      <p>{t.carried}</p>
      <div className="two">
        <HeardList title={t.heardBy.caller} heard={sound.heard_by_caller} protection={sound.protection_of_caller} />
        <HeardList title={t.heardBy.callee} heard={sound.heard_by_callee} protection={sound.protection_of_callee} />
      </div>
    </Card>
  );
}

function HeardList({ title, heard, protection }: { title: string; heard: Heard | null | undefined; protection: string | undefined }) {
  return (
    <div className="stack">
      <h3>{title}</h3>
      <dl className="facts">
        {heard && (
          <>
            <div><dt>{t.mosAxis}</dt><dd>{heard.mos.toFixed(2)}</dd></div>
            <div><dt>{t.codec}</dt><dd>{heard.codec ?? '–'}</dd></div>
            <div><dt>{texts.quality.loss}</dt><dd>{heard.loss_percent.toFixed(1)} %</dd></div>
            <div><dt>{texts.quality.jitter}</dt><dd>{milliseconds(heard.jitter_ms)}</dd></div>
            {typeof heard.round_trip_ms === 'number' && <div><dt>{texts.quality.rtt}</dt><dd>{milliseconds(heard.round_trip_ms)}</dd></div>}
          </>
        )}
        {protection && <div><dt>{t.protection}</dt><dd>{protection}</dd></div>}
      </dl>
    </div>
  );
}

/** Of what one hears at an end, what this node has measured; else what the phone there says. */
function bestKnown(points: readonly QualityPoint[]): QualityPoint[] {
  return (['caller', 'callee'] as const).flatMap(end => {
    const all = points.filter(point => point.end === end);
    const own = all.filter(point => point.by !== 'end');
    return own.length > 1 ? own : all;
  });
}

const CHART = { width: 600, height: 150, left: 28, bottom: 20 } as const;

/** MOS over time: a full line for what the caller hears, a dashed one for the callee. */
function Chart({ points }: { points: readonly QualityPoint[] }) {
  if (points.length < 2) return <p className="quiet-text">{t.noQuality}</p>;
  const times = points.map(point => point.at_s);
  const first = Math.min(...times);
  const length = Math.max(1, Math.max(...times) - first);
  const x = (at: number) => CHART.left + ((at - first) / length) * (CHART.width - CHART.left - 6);
  const y = (mos: number) => 6 + ((4.5 - mos) / 3.5) * (CHART.height - CHART.bottom - 6);
  const line = (end: QualityPoint['end']) => points.filter(point => point.end === end).map((point, index) => `${index === 0 ? 'M' : 'L'}${x(point.at_s).toFixed(1)} ${y(point.mos).toFixed(1)}`).join('');
  const worst = Math.min(...points.map(point => point.mos));
  return (
    <figure className="chart">
      <svg viewBox={`0 0 ${CHART.width} ${CHART.height}`} role="img" aria-label={`${t.quality}: ${t.mosAxis} ≥ ${worst.toFixed(1)}, ${span(length)}`}>
        {[1, 2, 3, 4].map(mos => (
          <g key={mos}>
            <path className="grid" d={`M${CHART.left} ${y(mos)}H${CHART.width}`} />
            <text x={CHART.left - 8} y={y(mos)} textAnchor="end" dominantBaseline="middle">{mos}</text>
          </g>
        ))}
        <text x={CHART.left} y={CHART.height - 4}>0 s</text>
        <text x={CHART.width - 4} y={CHART.height - 4} textAnchor="end">{span(length)}</text>
        <path className="curve caller" d={line('caller')} />
        <path className="curve callee" d={line('callee')} />
      </svg>
      {points.some(point => point.by === 'end') && <p className="fine">{t.reported}</p>}
      <figcaption className="legend">
        <span><svg className="path-sample" viewBox="0 0 34 12" aria-hidden="true"><path className="curve caller" d="M1 6H33" /></svg>{t.heardBy.caller}</span>
        <span><svg className="path-sample" viewBox="0 0 34 12" aria-hidden="true"><path className="curve callee" d="M1 6H33" /></svg>{t.heardBy.callee}</span>
      </figcaption>
    </figure>
  );
}
