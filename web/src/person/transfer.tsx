// Passing a call on: at once, or after asking.
import { useState, type FormEvent } from 'react';
import type { Session } from '../api/types';
import type { CallView } from '../phone/view';
import { parseDialled, shortAddress } from '../phone/dial';
import { calls, phone } from '../phone/phone';
import { contacts } from '../session';
import { useStore } from '../store';
import { texts } from '../texts';
import { Button, Dialog, Field } from '../ui/elements';
import { placeCall } from './actions';

const t = texts.transfer;

export function TransferDialog({ call, who, session, onClose }: { call: CallView; who: string; session: Session; onClose: () => void }) {
  const all = useStore(calls);
  const known = useStore(contacts);
  const [to, setTo] = useState('');
  const [problem, setProblem] = useState<string>();
  const others = all.filter(one => one.id !== call.id && one.state === 'talking' && !one.isEcho);
  const name = (one: CallView) => known.find(contact => contact.address === one.address)?.name || one.shownName || shortAddress(one.address, session.home);
  const blind = (event: FormEvent) => {
    event.preventDefault();
    const dialled = parseDialled(to, session.home, session.domain);
    if ('problem' in dialled) {
      setProblem(texts.dial.problem[dialled.problem]);
      return;
    }
    phone.find(call.id)?.transfer(dialled.uri, shortAddress(dialled.address, session.home));
    onClose();
  };
  const ask = () => {
    const wrong = placeCall(to, session);
    setProblem(wrong);
    if (!wrong) onClose();
  };
  const connect = (other: CallView) => {
    const dialled = parseDialled(other.address, session.home, session.domain);
    const partner = phone.find(other.id);
    if ('problem' in dialled || !partner) return;
    phone.find(call.id)?.transfer(dialled.uri, name(other), partner);
    onClose();
  };
  return (
    <Dialog title={t.title} onClose={onClose}>
      <p className="quiet-text">{t.lead(who)}</p>
      {others.length > 0 && (
        <div className="transfer-others">
          {others.map(other => <Button key={other.id} kind="main" icon="transfer" onClick={() => connect(other)}>{t.to_call(name(other))}</Button>)}
        </div>
      )}
      <form onSubmit={blind} noValidate className="form">
        <Field label={t.to} value={to} onChange={event => { setTo(event.target.value); setProblem(undefined); }} placeholder={texts.dial.placeholder} error={problem} hint={t.askHelp}
          autoComplete="off" autoCapitalize="none" spellCheck={false} autoFocus={others.length === 0} />
        <div className="form-actions">
          <span className="spring" />
          <Button icon="phone" onClick={ask}>{t.ask}</Button>
          <Button kind="main" icon="transfer" type="submit">{t.blind}</Button>
        </div>
      </form>
    </Dialog>
  );
}
