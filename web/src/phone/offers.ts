// Changes of a call that goes on: one offer at a time (RFC 3264 §4), and what is done where both ends offer something at once.
import type { RTCSession } from 'jssip/lib/RTCSession';
import { refusalOf } from './jssip';

/** How long a change waits for others that are under way: as long as a few refusals in a row take. */
const MADE_WITHIN_MS = 20_000;
const LOOKED_AGAIN_MS = 50;
/** How often an offer that was refused is made again. */
const MOST_REFUSALS = 5;
/** Refusals that say "not just now" (RFC 3261 §14.1 and §14.2). With any other the call goes on as it was. */
const NOT_NOW = [491, 500, 503];

const pause = (ms: number) => new Promise<void>(resolve => window.setTimeout(resolve, ms));

/** How long to wait after both have refused each other; whoever began the call waits longer, so that they differ (RFC 3261 §14.1). */
export function waitAfterGlare(beganTheCall: boolean, chance: number): number {
  return beganTheCall ? 2100 + 1900 * chance : 2000 * chance;
}

export class Offers {
  #session: RTCSession;
  #beganTheCall: boolean;
  /** An offer waits for its answer; JsSIP knows of it only from the moment on at which it is sent. */
  #underWay = false;
  /** The other side does not know yet how the call is on this side. */
  #owed = false;
  #refusals = 0;

  constructor(session: RTCSession, beganTheCall: boolean) {
    this.#session = session;
    this.#beganTheCall = beganTheCall;
    this.#surviveRefusals();
    // An INVITE without an offer asks for one, which is no better just now; an UPDATE without one only says that the call goes on.
    const refuse = { status_code: 491, reason_phrase: 'Request Pending' };
    session.on('reinvite', ({ reject }) => { if (this.#underWay) reject(refuse); });
    session.on('update', ({ request, reject }) => { if (this.#underWay && request.body) reject(refuse); });
  }

  /** Makes an offer as soon as none is under way. `act` begins it, returns whether it could, and calls back when it was answered. */
  async make(act: (answered: () => void) => boolean): Promise<boolean> {
    const until = Date.now() + MADE_WITHIN_MS;
    while (!this.#session.isEnded() && Date.now() < until) {
      if (!this.#underWay && act(() => this.#answered())) {
        this.#underWay = true;
        return true;
      }
      await pause(LOOKED_AGAIN_MS);
    }
    return false;
  }

  #answered(): void {
    this.#underWay = false;
    this.#owed = false;
    this.#refusals = 0;
  }

  /** JsSIP ends a call of which an offer was refused; this goes on with it. */
  #surviveRefusals(): void {
    const session = this.#session;
    const terminate = session.terminate.bind(session);
    session.terminate = options => {
      if (this.#underWay && options?.cause === 'WebRTC Error' && session.isEstablished()) void this.#refused();
      else terminate(options);
    };
  }

  async #refused(): Promise<void> {
    this.#underWay = false;
    const connection = this.#session.connection;
    if (connection?.signalingState === 'have-local-offer') await connection.setLocalDescription({ type: 'rollback' }).catch(() => {});
    this.#refusals += 1;
    if (!NOT_NOW.includes(refusalOf(this.#session) ?? 0) || this.#refusals > MOST_REFUSALS) return;
    this.#owed = true;
    await pause(waitAfterGlare(this.#beganTheCall, Math.random()));
    if (this.#owed) await this.make(answered => this.#session.renegotiate({}, answered));
  }
}
