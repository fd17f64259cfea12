// One call: what is known of it, and what one can do with it. JsSIP keeps the dialog and the peer connection.
import type { RTCSession } from 'jssip/lib/RTCSession';
import { api, ApiError } from '../api/client';
import { openCamera, openMedia, playOn, choice, stop } from './devices';
import { callIdOf, fieldsOf, replacing, statusOf } from './jssip';
import { Offers } from './offers';
import { count, judge, type Counted, type Quality } from './quality';
import { endReason } from './reasons';
import type { CallView } from './view';
import { ways } from './ways';

/** After how long without a connection for sound a call is over: twice what a handover between networks takes. */
const SOUND_GIVEN_UP_MS = 12_000;
const JUDGED_EVERY_MS = 1000;
/** How often the node is told how a call sounds, for whoever looks at why it was bad. */
const REPORTED_EVERY_MS = 5000;
/** How long a call waits for addresses after the first one is known; a relay that is there has answered by then. */
const GATHERED_WITHIN_MS = 2000;

export interface Surroundings {
  domain: string;
  changed(): void;
  nodeIsHeard(): boolean;
  nameOf(address: string): string | undefined;
}

let made = 0;

export class Call {
  view: CallView;
  local: MediaStream | undefined;
  readonly remote = new MediaStream();
  #session: RTCSession;
  #surroundings: Surroundings;
  #audio = document.createElement('audio');
  #timer: number | undefined;
  #before: Counted | undefined;
  #heardAt = 0;
  #reportedAt = 0;
  #soundLostAt: number | undefined;
  #nodeWasLost = false;
  #offers: Offers;
  #referral: { accept: (init: (session: RTCSession) => void, options: object) => void; reject: () => void } | undefined;

  constructor(session: RTCSession, request: unknown, direction: 'in' | 'out', address: string, surroundings: Surroundings) {
    this.#session = session;
    this.#surroundings = surroundings;
    this.#offers = new Offers(session, direction === 'out');
    made += 1;
    this.view = {
      id: `call-${made}`,
      callId: callIdOf(request),
      direction,
      address,
      shownName: direction === 'in' ? (session.remote_identity.display_name ?? '') : '',
      state: direction === 'in' ? 'incoming' : 'dialling',
      started_ms: Date.now(),
      muted: false,
      held: false,
      heldByOther: false,
      video: false,
      remoteVideo: false,
      offersVideo: /^m=video [1-9]/m.test((request as { body?: string }).body ?? ''),
      soundInterrupted: false,
      isEcho: address === `echo@${surroundings.domain}`,
    };
    this.#audio.autoplay = true;
    this.#audio.srcObject = this.remote;
    document.body.append(this.#audio);
    this.#follow();
  }

  get session(): RTCSession {
    return this.#session;
  }

  get isOver(): boolean {
    return this.view.state === 'ended';
  }

  update(changes: Partial<CallView>): void {
    this.view = { ...this.view, ...changes };
    this.#surroundings.changed();
  }

  async answer(video: boolean): Promise<void> {
    if (this.view.state !== 'incoming') return;
    this.update({ state: 'connecting' });
    try {
      this.local = await openMedia(video);
    } catch (error) {
      // Still ringing: whoever allows the microphone now may answer yet.
      if (!this.isOver) this.update({ state: 'incoming' });
      throw error;
    }
    const pcConfig = await ways();
    if (this.isOver) {
      stop(this.local);
      return;
    }
    this.update({ video });
    this.#session.answer({ mediaStream: this.local, mediaConstraints: { audio: true, video: true }, pcConfig });
  }

  end(rejected?: { status: number; phrase: string }): void {
    if (this.isOver) return;
    const options = rejected ? { status_code: rejected.status, reason_phrase: rejected.phrase } : {};
    try {
      this.#session.terminate(options);
    } catch {
      // It ended meanwhile; the event that says so is on its way.
    }
  }

  mute(muted: boolean): void {
    if (muted) this.#session.mute({ audio: true });
    else this.#session.unmute({ audio: true });
  }

  async hold(held: boolean): Promise<boolean> {
    if (this.view.state !== 'talking' || this.view.held === held) return true;
    return this.#offers.make(done => (held ? this.#session.hold({}, done) : this.#session.unhold({}, done)));
  }

  digit(digit: string): void {
    // RFC 4733, as JsSIP names its predecessor.
    this.#session.sendDTMF(digit, { transportType: 'RFC2833' as never, duration: 120 });
  }

  async setVideo(on: boolean): Promise<void> {
    const connection = this.#session.connection;
    const local = this.local;
    if (!connection || !local || this.view.video === on) return;
    const transceiver = connection.getTransceivers().find(one => one.receiver.track.kind === 'video' && one.direction !== 'stopped');
    if (on) {
      const track = await openCamera();
      local.addTrack(track);
      if (transceiver) {
        await transceiver.sender.replaceTrack(track);
        transceiver.sender.setStreams(local);
        transceiver.direction = 'sendrecv';
      } else {
        connection.addTrack(track, local);
      }
    } else {
      for (const track of local.getVideoTracks()) {
        track.stop();
        local.removeTrack(track);
      }
      if (transceiver) {
        await transceiver.sender.replaceTrack(null);
        transceiver.direction = 'recvonly';
      }
    }
    this.update({ video: on });
    await this.#offers.make(done => this.#session.renegotiate({}, done));
  }

  /** Takes another microphone or camera while talking. */
  async changeDevices(): Promise<void> {
    if (this.view.state !== 'talking' || !this.local || !this.#session.connection) return;
    const fresh = await openMedia(this.view.video);
    for (const sender of this.#session.connection.getSenders()) {
      const track = fresh.getTracks().find(one => one.kind === sender.track?.kind);
      if (!track) continue;
      track.enabled = sender.track?.enabled ?? true;
      await sender.replaceTrack(track);
    }
    for (const track of this.local.getTracks()) {
      track.stop();
      this.local.removeTrack(track);
    }
    for (const track of fresh.getTracks()) this.local.addTrack(track);
    this.update({});
  }

  changeSpeaker(): void {
    void playOn(this.#audio, choice.get().speaker);
  }

  /** Passes the other side on, to an address or to whom `other` talks with. */
  transfer(uri: string, shown: string, other?: Call): void {
    const replaced = other ? replacing(other.session) : undefined;
    const target = replaced ? `${uri}?Replaces=${encodeURIComponent(replaced)}` : uri;
    this.update({ transfer: { to: shown, state: 'asked' } });
    const failed = (status?: number, phrase?: string) =>
      this.update({ transfer: { to: shown, state: 'failed', ...(status ? { reason: `${status} ${phrase ?? ''}`.trim() } : {}) } });
    this.#session.refer(target, {
      eventHandlers: {
        requestFailed: ({ response }: { response: unknown }) => {
          const { status, phrase } = statusOf(response);
          failed(status, phrase);
        },
        progress: () => this.update({ transfer: { to: shown, state: 'ringing' } }),
        accepted: () => this.end(),
        failed: ({ status_line }: { status_line?: { status_code?: number; reason_phrase?: string } }) =>
          failed(status_line?.status_code, status_line?.reason_phrase),
      },
    });
  }

  forgetTransfer(): void {
    const { transfer: _, ...rest } = this.view;
    this.view = rest as CallView;
    this.#surroundings.changed();
  }

  /** Follows the other side's wish to call somebody else, or does not. */
  async followReferral(follow: boolean): Promise<void> {
    const referral = this.#referral;
    this.#referral = undefined;
    this.update({ passedOnTo: undefined });
    if (!referral) return;
    if (!follow) {
      referral.reject();
      return;
    }
    const media = await openMedia(false);
    await this.hold(true);
    const pcConfig = await ways();
    referral.accept(() => {}, { mediaStream: media, mediaConstraints: { audio: true, video: false }, pcConfig });
  }

  nodeLost(): void {
    this.#nodeWasLost = true;
  }

  close(): void {
    window.clearInterval(this.#timer);
    this.#audio.srcObject = null;
    this.#audio.remove();
    stop(this.local);
  }

  #follow(): void {
    const session = this.#session;
    if (session.connection) this.#listenTo(session.connection);
    session.on('peerconnection', ({ peerconnection }) => this.#listenTo(peerconnection));
    let gathering: (() => void) | undefined;
    session.on('icecandidate', ({ candidate, ready }) => {
      // A relay that does not answer would hold the call up until its time is over.
      if (candidate.type === 'relay') ready();
      else if (gathering !== ready) window.setTimeout(ready, GATHERED_WITHIN_MS);
      gathering = ready;
    });
    session.on('sending', ({ request }) => this.update({ callId: callIdOf(request) }));
    session.on('progress', ({ originator }: { originator: string }) => {
      if (originator === 'remote' && this.view.state === 'dialling') this.update({ state: 'ringing' });
    });
    session.on('accepted', () => this.update({ state: 'connecting' }));
    session.on('confirmed', () => this.#talking());
    session.on('muted', ({ audio }) => { if (audio) this.update({ muted: true }); });
    session.on('unmuted', ({ audio }) => { if (audio) this.update({ muted: false }); });
    const holding = () => {
      const { local, remote } = session.isOnHold();
      this.update({ held: local, heldByOther: remote });
    };
    session.on('hold', holding);
    session.on('unhold', holding);
    session.on('refer', ({ request, accept, reject }) => {
      const to = (request as unknown as { refer_to?: { uri: { user: string; host: string } } }).refer_to?.uri;
      this.#referral?.reject();
      this.#referral = { accept: accept as never, reject };
      this.update({ passedOnTo: to ? `${decodeURIComponent(to.user ?? '')}@${to.host}` : '' });
    });
    session.on('failed', event => this.#ended(event));
    session.on('ended', event => this.#ended(event));
  }

  #talking(): void {
    if (this.view.state === 'talking' || this.isOver) return;
    this.#heardAt = Date.now();
    const senders = this.#session.connection?.getSenders() ?? [];
    this.local ??= new MediaStream(senders.flatMap(sender => sender.track ?? []));
    const remote = this.#session.connection?.remoteDescription?.sdp ?? '';
    this.update({
      state: 'talking',
      answered_ms: this.view.answered_ms ?? Date.now(),
      protection: /^a=ice-lite/m.test(remote) ? 'to_node' : 'all_the_way',
    });
    this.changeSpeaker();
    this.#timer ??= window.setInterval(() => void this.#judge(), JUDGED_EVERY_MS);
  }

  #listenTo(connection: RTCPeerConnection): void {
    const video = () => this.update({ remoteVideo: this.remote.getVideoTracks().some(track => !track.muted && track.readyState === 'live') });
    connection.addEventListener('track', ({ track }) => {
      for (const other of this.remote.getTracks().filter(one => one.kind === track.kind)) this.remote.removeTrack(other);
      this.remote.addTrack(track);
      if (track.kind === 'video') for (const event of ['mute', 'unmute', 'ended']) track.addEventListener(event, video);
      else void this.#audio.play().catch(() => {});
    });
    connection.addEventListener('iceconnectionstatechange', () => {
      const lost = ['disconnected', 'failed'].includes(connection.iceConnectionState);
      this.#soundLostAt = lost ? (this.#soundLostAt ?? Date.now()) : undefined;
      this.update({ soundInterrupted: lost });
    });
    connection.addEventListener('connectionstatechange', () => {
      // The other browser went, though nobody told that it would.
      if (connection.connectionState === 'failed') this.#soundIsLost();
    });
  }

  async #judge(): Promise<void> {
    const connection = this.#session.connection;
    if (!connection || this.isOver) return;
    if (this.#soundLostAt !== undefined && Date.now() - this.#soundLostAt > SOUND_GIVEN_UP_MS) {
      this.#soundIsLost();
      return;
    }
    const report = await connection.getStats().catch(() => undefined);
    if (!report || this.isOver) return;
    const now = count([...report.values()] as never, Date.now());
    if (!this.#before || now.received > this.#before.received || this.view.held || this.view.heldByOther) this.#heardAt = now.at_ms;
    const quality = judge(this.#before ?? now, now, this.#heardAt);
    this.#before = now;
    this.update({ quality });
    this.#report(quality, now.at_ms);
  }

  #report({ loss_percent, jitter_ms, rtt_ms, mos }: Quality, now_ms: number): void {
    if (now_ms - this.#reportedAt < REPORTED_EVERY_MS || this.view.held || this.view.heldByOther) return;
    this.#reportedAt = now_ms;
    const said = { loss_percent, jitter_ms, mos, ...(rtt_ms === undefined ? {} : { rtt_ms }) };
    // A node that does not know the call is not asked again.
    api.post(`/calls/${encodeURIComponent(this.view.callId)}/quality`, said).catch((error: unknown) => {
      if (error instanceof ApiError && error.status === 404) this.#reportedAt = Infinity;
    });
  }

  #soundIsLost(): void {
    if (this.isOver) return;
    try {
      this.#session.terminate({ cause: 'RTP Timeout' });
    } catch {
      // It ended meanwhile.
    }
  }

  #ended({ originator, message, cause }: { originator: string; message: unknown; cause: string }): void {
    if (this.isOver) return;
    const at = this.view.address.lastIndexOf('@');
    const domain = this.view.address.slice(at + 1);
    const nodeGone = cause === 'RTP Timeout' && (this.#nodeWasLost || !this.#surroundings.nodeIsHeard());
    const end = endReason({
      direction: this.view.direction,
      answered: this.view.answered_ms !== undefined,
      originator: originator as 'local' | 'remote' | 'system',
      cause: nodeGone ? 'Connection Error' : cause,
      ...statusOf(message),
      reasons: fieldsOf(message, 'Reason'),
      warnings: fieldsOf(message, 'Warning'),
      who: this.#surroundings.nameOf(this.view.address) || this.view.shownName || this.view.address.slice(0, Math.max(0, at)) || this.view.address,
      domain,
      own: domain === this.#surroundings.domain,
    });
    this.close();
    this.update({ state: 'ended', ended_ms: Date.now(), end, soundInterrupted: false, passedOnTo: undefined });
  }
}
