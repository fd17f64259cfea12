// The few elements that views are made of: native HTML, so that keyboards and screen readers know them.
import { useEffect, useId, useRef, useState, type ButtonHTMLAttributes, type InputHTMLAttributes, type ReactNode } from 'react';
import { initials, tint } from '../format';
import { texts } from '../texts';
import { Icon, type IconName } from './icons';

type ButtonProps = ButtonHTMLAttributes<HTMLButtonElement> & { icon?: IconName; kind?: 'plain' | 'main' | 'go' | 'stop' | 'quiet'; size?: 'small' };

export function Button({ icon, kind = 'plain', size, children, className = '', ...rest }: ButtonProps) {
  return (
    <button type="button" {...rest} className={`button ${kind} ${size ?? ''} ${children ? '' : 'icon-only'} ${className}`}>
      {icon && <Icon name={icon} />}
      {children && <span>{children}</span>}
    </button>
  );
}

/** A button that is only a picture; `label` is what it is called. */
export function IconButton({ icon, label, filled = false, ...rest }: { icon: IconName; label: string; filled?: boolean } & ButtonHTMLAttributes<HTMLButtonElement>) {
  return (
    <button type="button" title={label} aria-label={label} {...rest} className={`icon-button ${rest.className ?? ''}`}>
      <Icon name={icon} filled={filled} />
    </button>
  );
}

export function Field({ label, hint, error, ...rest }: { label: string; hint?: string | undefined; error?: string | undefined } & InputHTMLAttributes<HTMLInputElement>) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input id={id} {...rest} aria-invalid={error ? true : undefined} aria-describedby={error || hint ? `${id}-more` : undefined} />
      {(error ?? hint) && <p id={`${id}-more`} className={error ? 'field-error' : 'field-hint'}>{error ?? hint}</p>}
    </div>
  );
}

export function Select({ label, value, onChange, options, hidden = false }: {
  label: string; value: string; onChange: (value: string) => void; options: readonly (readonly [string, string])[]; hidden?: boolean;
}) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id} className={hidden ? 'hidden' : undefined}>{label}</label>
      <select id={id} value={value} onChange={event => onChange(event.target.value)}>
        {options.map(([key, text]) => <option key={key} value={key}>{text}</option>)}
      </select>
    </div>
  );
}

export function Switch({ label, hint, on, onChange }: { label: string; hint?: string; on: boolean; onChange: (on: boolean) => void }) {
  const id = useId();
  return (
    <div className="switch-row">
      <div>
        <label htmlFor={id}>{label}</label>
        {hint && <p id={`${id}-more`} className="field-hint">{hint}</p>}
      </div>
      <input id={id} className="switch" type="checkbox" role="switch" checked={on} onChange={event => onChange(event.target.checked)} aria-describedby={hint ? `${id}-more` : undefined} />
    </div>
  );
}

export function Avatar({ name, large = false }: { name: string; large?: boolean }) {
  return <span className={`avatar tint-${tint(name)} ${large ? 'large' : ''}`} aria-hidden="true">{initials(name)}</span>;
}

export function Notice({ kind, title, children, actions, live }: { kind: 'error' | 'warning' | 'info' | 'ok'; title: string; children?: ReactNode; actions?: ReactNode; live?: boolean }) {
  const icon: Record<typeof kind, IconName> = { error: 'warning', warning: 'warning', info: 'info', ok: 'ok' };
  return (
    <div className={`notice ${kind}`} role={live ? (kind === 'error' ? 'alert' : 'status') : undefined}>
      <Icon name={icon[kind]} />
      <div className="notice-text">
        <p className="notice-title">{title}</p>
        {children}
      </div>
      {actions && <div className="notice-actions">{actions}</div>}
    </div>
  );
}

export function Empty({ icon, title, children }: { icon: IconName; title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <span className="empty-icon"><Icon name={icon} /></span>
      <p className="empty-title">{title}</p>
      {children && <div className="empty-text">{children}</div>}
    </div>
  );
}

/** A dialog on top of the page: keeps the focus, ends with Escape. */
export function Dialog({ title, onClose, children, actions }: { title: string; onClose: () => void; children: ReactNode; actions?: ReactNode }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog ref={ref} aria-labelledby={id} onCancel={event => { event.preventDefault(); onClose(); }}
      onClick={event => { if (event.target === ref.current) onClose(); }}>
      <div className="dialog">
        <header>
          <h2 id={id}>{title}</h2>
          <IconButton icon="close" label={texts.close} onClick={onClose} />
        </header>
        <div className="dialog-body">{children}</div>
        {actions && <footer>{actions}</footer>}
      </div>
    </dialog>
  );
}

export function Ask({ question, yes, onYes, onNo }: { question: string; yes: string; onYes: () => void; onNo: () => void }) {
  return (
    <Dialog title={yes} onClose={onNo} actions={<><Button onClick={onNo}>{texts.cancel}</Button><Button kind="stop" onClick={onYes}>{yes}</Button></>}>
      <p>{question}</p>
    </Dialog>
  );
}

export function Copyable({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);
  const copy = () => {
    void navigator.clipboard?.writeText(text).then(() => {
      setCopied(true);
      window.setTimeout(() => setCopied(false), 2000);
    }).catch(() => {});
  };
  return (
    <span className="copyable">
      <code>{text}</code>
      <IconButton icon={copied ? 'ok' : 'copy'} label={copied ? texts.copied : `${texts.copy}: ${label}`} onClick={copy} />
    </span>
  );
}

/** A view's heading; it takes the focus when the view changes, so that a screen reader begins there. */
export function Heading({ children, actions }: { children: ReactNode; actions?: ReactNode }) {
  return (
    <header className="heading">
      <h1 tabIndex={-1}>{children}</h1>
      {actions && <div className="heading-actions">{actions}</div>}
    </header>
  );
}

export function Card({ title, actions, children, className = '' }: { title?: string; actions?: ReactNode; children: ReactNode; className?: string }) {
  const id = useId();
  return (
    <section className={`card ${className}`} aria-labelledby={title ? id : undefined}>
      {title && <header className="card-head"><h2 id={id}>{title}</h2>{actions}</header>}
      {children}
    </section>
  );
}

/** What goes wrong in an action is said where it was asked for. */
export function useAction(): { error: Error | undefined; busy: boolean; run: (action: () => Promise<void>) => void; clear: () => void } {
  const [error, setError] = useState<Error>();
  const [busy, setBusy] = useState(false);
  return {
    error,
    busy,
    clear: () => setError(undefined),
    run: action => {
      setBusy(true);
      setError(undefined);
      action().catch((thrown: unknown) => setError(thrown instanceof Error ? thrown : new Error(String(thrown)))).finally(() => setBusy(false));
    },
  };
}

export function ErrorNotice({ error }: { error: Error | undefined }) {
  if (!error) return null;
  const hint = 'hint' in error && typeof error.hint === 'string' ? error.hint : '';
  return <Notice kind="error" title={error.message} live>{hint && <p>{hint}</p>}</Notice>;
}
