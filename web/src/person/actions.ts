// Placing a call, from whichever view: what fails before anything rings is said there.
import type { Session } from '../api/types';
import { parseDialled } from '../phone/dial';
import { onChosen } from '../phone/notifications';
import { phone, registration } from '../phone/phone';
import { go } from '../router';
import { createStore } from '../store';
import { texts } from '../texts';

/** How a call is rejected without a reason. */
export const BUSY = { status: 486, phrase: 'Busy Here' } as const;
/** What the last attempt failed of, and how to try it again. */
export const callProblem = createStore<{ error: Error; retry: () => void } | undefined>(undefined);
/** Whether a call is being prepared: the browser may be asking for the microphone. */
export const preparing = createStore(false);

/** Returns what is wrong with the address, if anything is. */
export function placeCall(typed: string, session: Session, video = false): string | undefined {
  const dialled = parseDialled(typed, session.home, session.domain);
  if ('problem' in dialled) return texts.dial.problem[dialled.problem];
  if (registration.get().state !== 'registered') return texts.dial.notReady;
  if (preparing.get()) return undefined;
  callProblem.set(undefined);
  preparing.set(true);
  phone
    .call(dialled.uri, dialled.address, video)
    .catch((thrown: unknown) => callProblem.set({ error: thrown instanceof Error ? thrown : new Error(String(thrown)), retry: () => void placeCall(typed, session, video) }))
    .finally(() => preparing.set(false));
  return undefined;
}

/** The same from a list: what is wrong is shown at the telephone. */
export function callFromList(address: string, session: Session): void {
  const problem = placeCall(address, session);
  if (problem) callProblem.set({ error: new Error(problem), retry: () => callFromList(address, session) });
  go('/');
}

/** Which call that rings somebody wants to see. */
export const attention = createStore('');

// What was chosen in a notification of the system.
onChosen(({ chosen, call, place }) => {
  const meant = call ? phone.ringing(call) : undefined;
  if (meant && chosen === 'answer') phone.answer(meant.view.id, false).catch(() => attention.set(meant.view.id));
  else if (meant && chosen === 'reject') meant.end(BUSY);
  else if (meant) attention.set(meant.view.id);
  if (place && chosen !== 'reject') go(place);
});
