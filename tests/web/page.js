// Two phones in one page: JsSIP and SIP.js behind one small interface. Each keeps a list of what happened to it, which the
// test judges; nothing here decides whether that was right.
import JsSIP from 'jssip';
import { Inviter, Messager, Registerer, RegistererState, SessionState, UserAgent } from 'sip.js';

const MEDIA = { audio: true, video: false };
const PEER_CONNECTION = { iceServers: [] };
const PATIENCE_MS = 20000;

class Phone {
  constructor(name) {
    this.name = name;
    this.events = [];
    this.waiting = [];
  }

  happened(event) {
    this.events.push(event);
    this.waiting = this.waiting.filter(check => !check());
  }

  // Resolves once `event` has happened `times` times altogether.
  wait(event, times = 1) {
    return new Promise((resolve, reject) => {
      const late = () => reject(new Error(`${this.name}: no ${event} after ${JSON.stringify(this.events)}`));
      const timer = setTimeout(late, PATIENCE_MS);
      const check = () => {
        if (this.events.filter(other => other === event).length < times) return false;
        clearTimeout(timer);
        resolve();
        return true;
      };
      if (!check()) this.waiting.push(check);
    });
  }
}

class JsSipPhone extends Phone {
  constructor({ user, password, domain, server, video, bundle, ice }) {
    super('JsSIP');
    this.domain = domain;
    // A tone is what a browser takes for noise, and takes out after half a second.
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    this.media = { audio, video: Boolean(video) };
    this.connection = { iceServers: ice ?? [], ...(bundle ? { bundlePolicy: bundle } : {}) };
    this.ua = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(server)],
      uri: `sip:${user}@${domain}`,
      password,
      session_timers: false,
      register_expires: 300,
    });
    this.ua.on('registered', () => this.happened('registered'));
    this.ua.on('unregistered', () => this.happened('unregistered'));
    this.ua.on('registrationFailed', ({ cause }) => this.happened(`registration failed: ${cause}`));
    this.ua.on('newMessage', ({ originator, request }) => {
      if (originator === 'remote') this.happened(`message: ${request.body}`);
    });
    this.ua.on('newRTCSession', ({ originator, session }) => {
      this.session = session;
      session.on('progress', () => this.happened('ringing'));
      session.on('confirmed', () => this.happened('established'));
      session.on('failed', ({ cause }) => this.happened(`failed: ${cause}`));
      session.on('ended', () => this.happened('ended'));
      // Servers that some interface does not reach are tried for a long time; one relay is enough for a call.
      session.on('icecandidate', ({ candidate, ready }) => { if (candidate.type === 'relay') ready(); });
      if (originator === 'remote') {
        this.happened('incoming');
        if (this.answers !== false) session.answer({ mediaConstraints: this.media, pcConfig: this.connection });
      }
    });
  }

  async register() {
    this.ua.start();
    await this.wait('registered');
  }

  async unregister() {
    this.ua.unregister();
    await this.wait('unregistered');
    this.ua.stop();
  }

  call(user) {
    this.ua.call(`sip:${user}@${this.domain}`, { mediaConstraints: this.media, pcConfig: this.connection });
  }

  hangUp() {
    // The other side may have been faster.
    if (!this.session.isEnded()) this.session.terminate();
  }

  message(user, text) {
    const eventHandlers = {
      succeeded: () => this.happened('message delivered'),
      failed: ({ cause }) => this.happened(`message failed: ${cause}`),
    };
    this.ua.sendMessage(`sip:${user}@${this.domain}`, text, { eventHandlers });
  }
}

class SipJsPhone extends Phone {
  constructor({ user, password, domain, server }) {
    super('SIP.js');
    this.domain = domain;
    this.ua = new UserAgent({
      uri: UserAgent.makeURI(`sip:${user}@${domain}`),
      transportOptions: { server },
      authorizationUsername: user,
      authorizationPassword: password,
      logLevel: 'warn',
      sessionDescriptionHandlerFactoryOptions: { peerConnectionConfiguration: PEER_CONNECTION, iceGatheringTimeout: 500 },
      delegate: {
        onInvite: async invitation => {
          this.watch(invitation);
          this.happened('incoming');
          await invitation.progress();
          await invitation.accept({ sessionDescriptionHandlerOptions: { constraints: MEDIA } });
        },
        onMessage: async message => {
          this.happened(`message: ${message.request.body}`);
          await message.accept();
        },
      },
    });
  }

  watch(session) {
    this.session = session;
    session.stateChange.addListener(state => {
      if (state === SessionState.Established) this.happened('established');
      if (state === SessionState.Terminated) this.happened('ended');
    });
  }

  async register() {
    await this.ua.start();
    this.registerer = new Registerer(this.ua, { expires: 300 });
    this.registerer.stateChange.addListener(state => {
      this.happened(state === RegistererState.Registered ? 'registered' : 'unregistered');
    });
    await this.registerer.register({
      requestDelegate: { onReject: ({ message }) => this.happened(`registration failed: ${message.statusCode}`) },
    });
    await this.wait('registered');
  }

  async unregister() {
    await this.registerer.unregister();
    await this.wait('unregistered');
    await this.ua.stop();
  }

  call(user) {
    const inviter = new Inviter(this.ua, UserAgent.makeURI(`sip:${user}@${this.domain}`), {
      sessionDescriptionHandlerOptions: { constraints: MEDIA },
    });
    this.watch(inviter);
    inviter.invite({
      requestDelegate: {
        onProgress: ({ message }) => {
          if (message.statusCode === 180) this.happened('ringing');
        },
        onReject: ({ message }) => this.happened(`failed: ${message.statusCode}`),
      },
    });
  }

  hangUp() {
    this.session.bye();
  }

  message(user, text) {
    new Messager(this.ua, UserAgent.makeURI(`sip:${user}@${this.domain}`), text).message({
      requestDelegate: {
        onAccept: () => this.happened('message delivered'),
        onReject: ({ message }) => this.happened(`message failed: ${message.statusCode}`),
      },
    });
  }
}

const MAKERS = { jssip: JsSipPhone, 'sip.js': SipJsPhone };

// One call from `caller` to `callee`, ended by the one named; returns when both know that it is over.
async function talk(caller, callee, calleeUser, calleeHangsUp, times) {
  caller.call(calleeUser);
  await callee.wait('incoming');
  await caller.wait('ringing');
  await Promise.all([caller.wait('established', times), callee.wait('established', times)]);
  (calleeHangsUp ? callee : caller).hangUp();
  await Promise.all([caller.wait('ended', times), callee.wait('ended', times)]);
}

// Everything that two phones do with each other, in both directions.
window.run = async ({ phones }) => {
  const [one, other] = phones.map(options => new MAKERS[options.library](options));
  let error = null;
  try {
    await Promise.all([one.register(), other.register()]);
    await talk(one, other, phones[1].user, false, 1);
    await talk(other, one, phones[0].user, true, 2);
    one.message(phones[1].user, 'from one');
    await Promise.all([one.wait('message delivered'), other.wait('message: from one')]);
    other.message(phones[0].user, 'from other');
    await Promise.all([other.wait('message delivered'), one.wait('message: from other')]);
    await Promise.all([one.unregister(), other.unregister()]);
  } catch (thrown) {
    error = String(thrown);
  }
  return { error, events: [one.events, other.events] };
};

// What is heard at the other end of a connection: the strongest frequency of each half second, and how strong it is.
function hear(connection, heard) {
  const context = new AudioContext({ sampleRate: 48000 });
  connection.addEventListener('track', ({ track }) => {
    if (track.kind !== 'audio') return;
    const stream = new MediaStream([track]);
    // Chromium decodes nothing that is played nowhere.
    const element = document.body.appendChild(document.createElement('audio'));
    element.autoplay = true;
    element.srcObject = stream;
    const analyser = context.createAnalyser();
    analyser.fftSize = 8192;
    context.createMediaStreamSource(stream).connect(analyser);
    const levels = new Float32Array(analyser.frequencyBinCount);
    setInterval(() => {
      analyser.getFloatFrequencyData(levels);
      let strongest = 10;
      for (let bin = 10; bin < levels.length; bin += 1) if (levels[bin] > levels[strongest]) strongest = bin;
      heard.push([(strongest * 48000) / 8192, levels[strongest]]);
    }, 500);
  });
}

// What is seen of the other end of a connection: every fifth of a second the sum of some pixels and the brightest of them, so that a
// picture that stands still or is black is known as such; and at the end what the browser has counted.
function see(connection) {
  const seen = { pictures: [] };
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [64, 48];
  const context = canvas.getContext('2d', { willReadFrequently: true });
  connection.addEventListener('track', ({ track }) => {
    if (track.kind !== 'video') return;
    const element = document.body.appendChild(document.createElement('video'));
    element.autoplay = element.muted = element.playsInline = true;
    element.srcObject = new MediaStream([track]);
    setInterval(() => {
      if (!element.videoWidth) return;
      context.drawImage(element, 0, 0, canvas.width, canvas.height);
      const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
      let [sum, brightest] = [0, 0];
      for (let at = 0; at < data.length; at += 4) {
        sum = (sum * 31 + data[at] + data[at + 1] + data[at + 2]) % 1000003;
        brightest = Math.max(brightest, data[at + 1]);
      }
      seen.pictures.push([sum, brightest]);
    }, 200);
  });
  // A connection that was closed counts nothing any more: what it said last holds.
  setInterval(async () => {
    const counted = {};
    for (const report of (await connection.getStats()).values()) {
      if (report.type === 'inbound-rtp' && report.kind === 'video') {
        const { framesDecoded, framesReceived, pliCount, firCount, packetsLost } = report;
        counted.inbound = { framesDecoded, framesReceived, pliCount, firCount, packetsLost };
      }
      if (report.type === 'outbound-rtp' && report.kind === 'video') {
        const { pliCount, firCount, keyFramesEncoded, framesEncoded } = report;
        counted.outbound = { pliCount, firCount, keyFramesEncoded, framesEncoded };
      }
      if (report.type === 'transport') counted.transports = (counted.transports ?? 0) + 1;
    }
    if (counted.inbound) seen.counted = counted;
  }, 500);
  return seen;
}

// One JsSIP phone that makes or takes one call after the other, listens for some seconds, and hangs up. Where it is to let one ring,
// somebody else has to answer.
window.listen = async (options, calls) => {
  const phone = new JsSipPhone(options);
  const [heard, seen] = [[], []];
  let error = null;
  phone.ua.on('newRTCSession', ({ session }) => {
    const sounds = [];
    heard.push(sounds);
    const watch = connection => {
      hear(connection, sounds);
      if (options.video) seen.push(see(connection));
    };
    if (session.connection) watch(session.connection);
    else session.on('peerconnection', ({ peerconnection }) => watch(peerconnection));
  });
  try {
    await phone.register();
    let calling = 0;
    for (const target of calls) {
      phone.answers = target !== 'RING';
      if (target && phone.answers) phone.call(target);
      else await window.said('waiting');
      if (!phone.answers) {
        await phone.wait('failed: Canceled');
        continue;
      }
      calling += 1;
      await phone.wait('established', calling);
      await new Promise(resolve => setTimeout(resolve, 5000));
      phone.hangUp();
      await phone.wait('ended', calling);
    }
    await phone.unregister();
  } catch (thrown) {
    error = String(thrown);
  }
  return { error, events: phone.events, heard, seen };
};

// How a bare WebSocket to `server` fares from this page.
window.knock = server =>
  new Promise(resolve => {
    const socket = new WebSocket(server, 'sip');
    socket.onopen = () => {
      socket.close();
      resolve('open');
    };
    socket.onerror = () => resolve('refused');
  });
