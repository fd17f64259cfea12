// The telephone of the page: registered at the node for as long as there is a session, with all its calls.
import { UA, WebSocketInterface } from 'jssip';
import type { RTCSession } from 'jssip/lib/RTCSession';
import { onEvent } from '../api/events';
import type { PastCall, Session } from '../api/types';
import { createStore } from '../store';
import { texts } from '../texts';
import { Call } from './call';
import { shortAddress } from './dial';
import { choice, openMedia, stop } from './devices';
import { statusOf } from './jssip';
import { announce, tellMissed, withdraw } from './notifications';
import { beep, play, tryRinging } from './ringer';
import type { CallView } from './view';
import { forgetWays, ways } from './ways';

export type Registration =
  | { state: 'off' }
  | { state: 'connecting' }
  | { state: 'registered' }
  | { state: 'failed'; status?: number; phrase?: string };

export const calls = createStore<readonly CallView[]>([]);
export const registration = createStore<Registration>({ state: 'off' });

/** More at once nobody follows; further callers hear that the line is busy. */
const MAX_CALLS = 4;
/** How long a call that ended as somebody wanted stays in view. */
const FAREWELL_MS = 5000;
/** Of how many callers it is remembered what the node has said of them. */
const MAX_KNOWN = 50;
const REGISTERED_FOR_S = 600;
const RINGS_FOR_S = 120;

class Phone {
  #ua: UA | undefined;
  #session: Session | undefined;
  #calls: Call[] = [];
  #known = new Map<string, { verified: boolean; name: string }>();
  #unlisten: (() => void) | undefined;
  /** Takes the next call by itself: it takes the place of one that was answered. */
  #takesPlace = false;
  #dialled = { address: '', video: false };
  nameOf: (address: string) => string | undefined = () => undefined;

  start(session: Session): void {
    this.stop();
    const { sip } = session;
    if (!sip) return;
    this.#session = session;
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const ua = new UA({
      sockets: [new WebSocketInterface(`${scheme}://${location.host}${sip.ws}`)],
      uri: sip.uri,
      authorization_user: sip.username,
      password: sip.password,
      ...(sip.realm ? { realm: sip.realm } : {}),
      instance_id: instance(),
      register_expires: REGISTERED_FOR_S,
      no_answer_timeout: RINGS_FOR_S,
      session_timers: true,
      connection_recovery_min_interval: 1,
      connection_recovery_max_interval: 10,
      user_agent: 'Meshtone page',
    });
    this.#ua = ua;
    registration.set({ state: 'connecting' });
    ua.on('registered', () => {
      registration.set({ state: 'registered' });
      tryRinging();
    });
    ua.on('unregistered', () => { if (this.#ua === ua) registration.set({ state: 'connecting' }); });
    ua.on('registrationFailed', ({ response }) => registration.set({ state: 'failed', ...statusOf(response) }));
    ua.on('disconnected', () => {
      if (this.#ua !== ua) return;
      registration.set({ state: 'connecting' });
      for (const call of this.#calls) call.nodeLost();
    });
    ua.on('newRTCSession', ({ session: begun, request, originator }: { session: RTCSession; request: unknown; originator: string }) => this.#begin(begun, request, originator));
    this.#unlisten = onEvent(event => {
      if (event.type === 'call' && 'direction' in event.call && event.call.direction === 'in') this.#learn(event.call);
    });
    ua.start();
  }

  stop(): void {
    for (const call of this.#calls) {
      call.end();
      call.close();
    }
    this.#calls = [];
    forgetWays();
    this.#unlisten?.();
    const ua = this.#ua;
    this.#ua = undefined;
    ua?.stop();
    registration.set({ state: 'off' });
    this.#changed();
  }

  find(id: string): Call | undefined {
    return this.#calls.find(call => call.view.id === id);
  }

  /** The call that rings here with this Call-ID. */
  ringing(callId: string): Call | undefined {
    return this.#calls.find(call => call.view.callId === callId && call.view.state === 'incoming');
  }

  /** Calls; throws `NoDevice` before anything rings if there is no microphone. */
  async call(uri: string, address: string, video: boolean): Promise<void> {
    const ua = this.#ua;
    if (!ua) return;
    const media = await openMedia(video);
    this.#forgetEnded();
    await this.#holdOthers();
    const pcConfig = await ways();
    this.#dialled = { address, video };
    try {
      const session = ua.call(uri, { mediaStream: media, mediaConstraints: { audio: true, video }, pcConfig });
      const call = this.#calls.find(one => one.session === session);
      if (call) call.local = media;
      else stop(media);
    } catch (error) {
      stop(media);
      throw error;
    }
  }

  async answer(id: string, video: boolean): Promise<void> {
    const call = this.find(id);
    if (!call) return;
    play(undefined);
    await call.answer(video);
    await this.#holdOthers(call);
  }

  async resume(id: string): Promise<void> {
    const call = this.find(id);
    if (!call) return;
    await this.#holdOthers(call);
    await call.hold(false);
  }

  dismiss(id: string): void {
    this.#calls = this.#calls.filter(call => call.view.id !== id || !call.isOver);
    this.#changed();
  }

  async #holdOthers(but?: Call): Promise<void> {
    const others = this.#calls.filter(call => call !== but && call.view.state === 'talking' && !call.view.held);
    await Promise.all(others.map(call => call.hold(true)));
  }

  #begin(session: RTCSession, request: unknown, originator: string): void {
    const remote = originator === 'remote';
    const { domain = '' } = this.#session ?? {};
    if (remote && this.#calls.filter(call => !call.isOver).length >= MAX_CALLS) {
      window.setTimeout(() => session.terminate({ status_code: 486, reason_phrase: 'Busy Here' }));
      return;
    }
    const { user, host } = session.remote_identity.uri;
    const address = !remote && this.#dialled.address ? this.#dialled.address : `${unescape(String(user ?? ''))}@${host}`;
    const call = new Call(session, request, remote ? 'in' : 'out', address, {
      domain,
      changed: () => this.#changed(),
      nodeIsHeard: () => this.#ua?.isConnected() === true,
      nameOf: one => this.nameOf(one),
    });
    if (!remote) {
      call.view = { ...call.view, video: this.#dialled.video };
      this.#dialled = { address: '', video: false };
    }
    this.#forgetEnded();
    this.#calls = [...this.#calls, call];
    session.on('replaces', ({ accept }) => {
      this.#takesPlace = true;
      (accept as () => void)();
    });
    if (remote) {
      const known = this.#known.get(address);
      if (known) call.view = { ...call.view, verified: known.verified };
      if (this.#takesPlace) {
        this.#takesPlace = false;
        window.setTimeout(() => void this.answer(call.view.id, false).catch(() => call.end({ status: 480, phrase: 'No microphone' })));
      } else {
        this.#announce(call);
      }
    }
    this.#changed();
  }

  #announce(call: Call): void {
    announce(this.#whoIs(call.view), call.view.verified === true, call.view.callId);
  }

  #whoIs({ address, shownName }: CallView): string {
    return this.nameOf(address) ?? (shownName || shortAddress(address, this.#session?.home ?? ''));
  }

  #learn(past: PastCall): void {
    this.#known.delete(past.address);
    this.#known.set(past.address, { verified: past.verified, name: past.name ?? '' });
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= MAX_KNOWN) break;
      this.#known.delete(oldest);
    }
    for (const call of this.#calls) {
      if (call.view.direction !== 'in' || call.view.address !== past.address || call.isOver) continue;
      call.update({ verified: past.verified });
      if (call.view.state === 'incoming') this.#announce(call);
    }
  }

  #forgetEnded(): void {
    this.#calls = this.#calls.filter(call => !call.isOver);
  }

  #changed(): void {
    for (const call of this.#calls) {
      const { id, callId, state, end } = call.view;
      if (state !== 'incoming') withdraw(callId);
      if (end?.missed && !call.view.toldMissed) {
        call.view = { ...call.view, toldMissed: true };
        tellMissed(this.#whoIs(call.view), callId);
      }
      if (state === 'ended' && end?.fine && !call.view.leaving) {
        call.view = { ...call.view, leaving: true };
        window.setTimeout(() => this.dismiss(id), FAREWELL_MS);
      }
    }
    calls.set(this.#calls.map(call => call.view));
    this.#sound();
  }

  #sound(): void {
    const open = this.#calls.filter(call => !call.isOver).map(call => call.view);
    const talking = open.some(call => ['talking', 'connecting'].includes(call.state));
    const incoming = open.find(call => call.state === 'incoming');
    if (incoming && talking) {
      // Whoever talks is told once, softly.
      if (!incoming.beeped) {
        const call = this.find(incoming.id);
        if (call) call.view = { ...call.view, beeped: true };
        beep(choice.get().speaker);
      }
      play(undefined);
    } else if (incoming) {
      play('ringing');
    } else {
      play(open.some(call => call.state === 'ringing') && !talking ? 'ringback' : undefined);
    }
  }
}

/** Names this tab (RFC 5626 §4.1), so that after a reload it takes the place of what it was before instead of ringing beside it. */
function instance(): string {
  const KEPT_AS = 'meshtone.instance';
  const kept = sessionStorage.getItem(KEPT_AS);
  if (kept) return kept;
  const hex = [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, '0')).join('');
  const made = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20)}`;
  sessionStorage.setItem(KEPT_AS, made);
  return made;
}

function unescape(user: string): string {
  try {
    return decodeURIComponent(user);
  } catch {
    return user;
  }
}

export const phone = new Phone();

// Whoever closes the page in the middle of a call is asked first.
window.addEventListener('beforeunload', event => {
  if (calls.get().some(call => !['ended', 'incoming'].includes(call.state))) event.preventDefault();
});

choice.subscribe(() => {
  for (const view of calls.get()) phone.find(view.id)?.changeSpeaker();
});

/** What the state of the telephone is, in words. */
export function registrationText(now: Registration): string {
  switch (now.state) {
    case 'off':
      return texts.registration.off;
    case 'connecting':
      return texts.registration.connecting;
    case 'registered':
      return texts.registration.registered;
    case 'failed':
      return texts.registration.failed(now.status, now.phrase);
  }
}
