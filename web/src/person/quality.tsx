// How a call sounds: four bars, and the figures behind them.
import { milliseconds } from '../format';
import type { Quality } from '../phone/quality';
import { texts } from '../texts';

const t = texts.quality;

export function QualityBars({ quality }: { quality: Quality | undefined }) {
  if (!quality) return <span className="quality">{t.unknown}</span>;
  const name = t.label(quality.bars);
  const figures: [string, string][] = [
    [t.mos, quality.mos.toFixed(1)],
    [t.loss, `${quality.loss_percent.toFixed(1)} %`],
    ...(quality.remoteLoss_percent === undefined ? [] : [[t.remoteLoss, `${quality.remoteLoss_percent.toFixed(1)} %`] as [string, string]]),
    [t.jitter, milliseconds(quality.jitter_ms)],
    ...(quality.rtt_ms === undefined ? [] : [[t.rtt, milliseconds(quality.rtt_ms)] as [string, string]]),
  ];
  return (
    <details className="quality">
      <summary aria-label={`${t.title}: ${name}`} title={`${t.title}: ${name}`}>
        <svg viewBox="0 0 20 16" className={`bars bars-${quality.bars}`} aria-hidden="true">
          {[0, 1, 2, 3].map(bar => <rect key={bar} x={bar * 5} y={12 - bar * 4} width="3.4" height={4 + bar * 4} rx="1" className={bar < quality.bars ? 'full' : 'hollow'} />)}
        </svg>
        <span>{name}</span>
      </summary>
      <dl>{figures.map(([term, value]) => <div key={term}><dt>{term}</dt><dd>{value}</dd></div>)}</dl>
    </details>
  );
}
