// Who vouches for this page, and how to make a system trust the overlay's authority, so that browsers warn of nothing.
import { useEffect, useState } from 'react';
import { api } from '../api/client';
import type { Authority } from '../api/types';
import { systemOf, type System } from '../browser';
import { moment } from '../format';
import { texts } from '../texts';
import { Copyable, ErrorNotice, Notice, Select } from './elements';

const t = texts.trust;

export function Trust() {
  const [authority, setAuthority] = useState<Authority>();
  const [error, setError] = useState<Error>();
  useEffect(() => { api.get<Authority>('/authority').then(setAuthority, setError); }, []);
  if (!authority) return error ? <ErrorNotice error={error} /> : <p className="quiet-text">{texts.loading}</p>;
  const { page } = authority;
  return (
    <div className="stack">
      {page && <Notice kind={page.from === 'own' ? 'warning' : 'ok'} title={page.explanation} />}
      {page && (
        <dl className="facts">
          <div><dt>{t.names}</dt><dd>{page.names.join(', ')}</dd></div>
          <div><dt>{t.until}</dt><dd>{moment(page.expires)}</dd></div>
          <div><dt>{t.print}</dt><dd><Copyable text={page.sha256} label={t.print} /></dd></div>
        </dl>
      )}
      {page?.from !== 'acme' && page?.from !== 'file' && <TrustAuthority authority={authority} />}
    </div>
  );
}

function TrustAuthority({ authority }: { authority: Authority }) {
  const [system, setSystem] = useState<System>(() => systemOf(navigator.userAgent, navigator.maxTouchPoints));
  return (
    <section className="stack" aria-label={t.title}>
      <h3>{t.title}</h3>
      <p>{t.why}</p>
      <ol className="steps">
        <li><a href={authority.file} download={t.fileName}>{t.download}</a></li>
        <li>
          {t.compare}
          <Copyable text={authority.sha256} label={t.authorityPrint} />
        </li>
      </ol>
      <Select label={t.system} value={system} onChange={value => setSystem(value as System)} options={Object.entries(t.systems)} />
      <ol className="steps" start={3}>{t.steps[system].map(step => <li key={step}>{step}</li>)}</ol>
      <p className="fine">{t.careful}</p>
    </section>
  );
}
