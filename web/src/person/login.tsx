// Who are you? And why one might not be able to call from here.
import { useEffect, useRef, useState, type FormEvent } from 'react';
import { logIn, pageInfo } from '../session';
import { useStore } from '../store';
import { texts } from '../texts';
import { Button, ErrorNotice, Field, Notice, useAction } from '../ui/elements';
import { Icon } from '../ui/icons';
import { Trust } from '../ui/trust';

const t = texts.login;

/** Asked of the node only once somebody wants to know. */
function Certificate() {
  const [open, setOpen] = useState(false);
  return (
    <details className="fine" onToggle={event => setOpen(event.currentTarget.open)}>
      <summary>{t.certificate}</summary>
      {open && <Trust />}
    </details>
  );
}

export function Login({ why, hint }: { why?: string; hint?: string }) {
  const info = useStore(pageInfo);
  const [address, setAddress] = useState('');
  const [password, setPassword] = useState('');
  const [missing, setMissing] = useState(false);
  const { error, busy, run } = useAction();
  const form = useRef<HTMLFormElement>(null);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setMissing(address.trim() === '' || password === '');
    if (address.trim() === '' || password === '') return;
    run(async () => {
      await logIn(address.trim(), password);
    });
  };
  useEffect(() => {
    // Whoever typed a wrong password types it anew.
    if (error) form.current?.querySelector<HTMLInputElement>('input[type=password]')?.select();
  }, [error]);
  return (
    <main className="login">
      <div className="login-card">
        <span className="brand-mark large" aria-hidden="true"><Icon name="node" /></span>
        <h1>{texts.product}</h1>
        <p className="quiet-text">{t.lead(info?.domain ?? '')}</p>
        {why && <Notice kind="warning" title={why} live>{hint && <p>{hint}</p>}</Notice>}
        {!window.isSecureContext && (
          <Notice kind="warning" title={t.insecure}><p>{t.insecureCure}</p></Notice>
        )}
        <form ref={form} onSubmit={submit} noValidate>
          <Field label={t.address} name="address" autoComplete="username" autoCapitalize="none" autoCorrect="off" spellCheck={false} autoFocus
            value={address} onChange={event => setAddress(event.target.value)} />
          <Field label={t.password} name="password" type="password" autoComplete="current-password"
            value={password} onChange={event => setPassword(event.target.value)} error={missing ? t.empty : undefined} />
          <ErrorNotice error={error} />
          <Button kind="main" type="submit" disabled={busy} className="wide">{busy ? t.busy : t.submit}</Button>
        </form>
        {info?.enrol && <p><a href="/enroll">{t.enrol}</a></p>}
        <p className="fine">{t.kept}</p>
        <p className="fine">{t.forgotten}</p>
        {location.protocol === 'https:' && <Certificate />}
      </div>
    </main>
  );
}
