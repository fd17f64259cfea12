// There is no microphone or camera: why, and where to click.
import { NoDevice } from '../phone/devices';
import { texts } from '../texts';
import { Button, Notice } from '../ui/elements';

export function MissingDevice({ error, onRetry, onClose }: { error: Error; onRetry?: () => void; onClose?: () => void }) {
  if (!(error instanceof NoDevice)) {
    return <Notice kind="error" title={error.message} live actions={onClose && <Button size="small" onClick={onClose}>{texts.close}</Button>} />;
  }
  const { kind, why } = error;
  return (
    <Notice kind="error" title={texts.missing[kind][why]} live actions={
      <>
        {onRetry && <Button size="small" kind="main" onClick={onRetry}>{texts.retry}</Button>}
        {onClose && <Button size="small" onClick={onClose}>{texts.close}</Button>}
      </>}>
      <ol className="steps">{texts.missing.cure[why].map(step => <li key={step}>{step}</li>)}</ol>
    </Notice>
  );
}
