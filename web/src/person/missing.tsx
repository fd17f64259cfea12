// There is no microphone or camera: why, and where to click.
import { browserOf, type Browser } from '../browser';
import { NoDevice } from '../phone/devices';
import { texts } from '../texts';
import { Button, Notice } from '../ui/elements';
import { Icon } from '../ui/icons';

const t = texts.missing;

export function MissingDevice({ error, onRetry, onClose }: { error: Error; onRetry?: () => void; onClose?: () => void }) {
  if (!(error instanceof NoDevice)) {
    return <Notice kind="error" title={error.message} live actions={onClose && <Button size="small" onClick={onClose}>{texts.close}</Button>} />;
  }
  const { kind, why } = error;
  const browser = browserOf(navigator.userAgent, navigator.maxTouchPoints);
  const steps: readonly string[] = why === 'denied' ? t.denied[browser] : t.cure[why];
  return (
    <Notice kind="error" title={t[kind][why]} live actions={
      <>
        {onRetry && <Button size="small" kind="main" onClick={onRetry}>{texts.retry}</Button>}
        {onClose && <Button size="small" onClick={onClose}>{texts.close}</Button>}
      </>}>
      {why === 'denied' && browser !== 'safari' && <AddressBar browser={browser} />}
      <ol className="steps">{steps.map(step => <li key={step}>{step}</li>)}</ol>
    </Notice>
  );
}

/** The browser's address bar with what to click in it, as a picture for who sees it; the steps say the same. */
function AddressBar({ browser }: { browser: Browser }) {
  const symbol = { chromium: 'settings', android: 'settings', firefox: 'micOff', ios: 'textSize', safari: 'settings' } as const;
  return (
    <div className="address-bar" aria-hidden="true">
      <span className="address-symbol"><Icon name={symbol[browser]} /></span>
      <span>{location.host}</span>
    </div>
  );
}
