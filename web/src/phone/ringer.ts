// What one hears that is no call: ringing, and the tone of a phone that rings elsewhere. Made, not recorded: nothing is loaded.
import { createStore } from '../store';
import { choice } from './devices';

type Sound = 'ringing' | 'ringback';

// Two soft notes that repeat; 425 Hz, one second of five, as in most of Europe (ITU-T E.180).
const SCORES: Record<Sound, { notes: [hz: number, from_s: number, lasts_s: number][]; every_s: number; loud: number }> = {
  ringing: { notes: [[659.3, 0, 0.35], [784, 0.35, 0.35], [659.3, 0.9, 0.35], [784, 1.25, 0.5]], every_s: 3, loud: 0.22 },
  ringback: { notes: [[425, 0, 1]], every_s: 5, loud: 0.08 },
};

/** Whether this page may be heard: browsers let none make sounds before somebody has clicked in it, but where it is often used. */
export const mayRing = createStore(true);

/** Finds out whether this page could ring now. */
export function tryRinging(): void {
  if (navigator.userActivation?.hasBeenActive !== false) return;
  const context = new AudioContext();
  const done = () => {
    mayRing.set(true);
    void context.close().catch(() => {});
    for (const event of GESTURES) window.removeEventListener(event, done);
  };
  context.onstatechange = () => { if (context.state === 'running') done(); };
  for (const event of GESTURES) window.addEventListener(event, done, { once: true });
  // What may run does so at once.
  window.setTimeout(() => mayRing.set(context.state !== 'suspended'), 1000);
}

const GESTURES = ['pointerdown', 'keydown'] as const;

let playing: { sound: Sound; end: () => void } | undefined;

/** Plays this sound again and again; `undefined` is silence. */
export function play(sound: Sound | undefined): void {
  if (playing?.sound === sound) return;
  playing?.end();
  playing = undefined;
  if (!sound) return;
  const { notes, every_s, loud } = SCORES[sound];
  const context = new AudioContext();
  const device = sound === 'ringing' ? choice.get().ringer : choice.get().speaker;
  if (device && 'setSinkId' in context) void (context as AudioContext & { setSinkId(id: string): Promise<void> }).setSinkId(device).catch(() => {});
  void context.resume().catch(() => {});
  const round = () => {
    for (const [hz, from, lasts] of notes) {
      const note = context.createOscillator();
      const gain = context.createGain();
      const start = context.currentTime + from + 0.02;
      note.frequency.value = hz;
      gain.gain.setValueAtTime(0, start);
      gain.gain.linearRampToValueAtTime(loud, start + 0.03);
      gain.gain.setValueAtTime(loud, start + lasts - 0.08);
      gain.gain.linearRampToValueAtTime(0, start + lasts);
      note.connect(gain).connect(context.destination);
      note.start(start);
      note.stop(start + lasts);
    }
  };
  round();
  const timer = window.setInterval(round, every_s * 1000);
  playing = {
    sound,
    end: () => {
      window.clearInterval(timer);
      void context.close();
    },
  };
}

/** A short beep: what the loudspeaker test plays. */
export function beep(device: string): void {
  const context = new AudioContext();
  if (device && 'setSinkId' in context) void (context as AudioContext & { setSinkId(id: string): Promise<void> }).setSinkId(device).catch(() => {});
  const note = context.createOscillator();
  const gain = context.createGain();
  gain.gain.value = 0.15;
  note.frequency.value = 523.25;
  note.connect(gain).connect(context.destination);
  note.start();
  note.stop(context.currentTime + 0.6);
  note.onended = () => void context.close();
}
