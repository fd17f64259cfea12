// Microphones, cameras and loudspeakers: which there are, which this browser was told to use, and why one cannot be had.
import { createStore } from '../store';

export interface Choice {
  microphone: string;
  camera: string;
  speaker: string;
  ringer: string;
}

const KEPT_AS = 'meshtone.devices';
const NONE: Choice = { microphone: '', camera: '', speaker: '', ringer: '' };

function kept(): Choice {
  try {
    return { ...NONE, ...(JSON.parse(localStorage.getItem(KEPT_AS) ?? '{}') as Partial<Choice>) };
  } catch {
    return NONE;
  }
}

/** The devices chosen on this machine; an empty one is whatever the system prefers. */
export const choice = createStore<Choice>(NONE);
/** All devices that the browser tells of; without permission they have no names. */
export const devices = createStore<MediaDeviceInfo[]>([]);

async function refreshDevices(): Promise<void> {
  if (!navigator.mediaDevices) return;
  devices.set(await navigator.mediaDevices.enumerateDevices().catch(() => []));
}

export function watchDevices(): void {
  choice.set(kept());
  choice.subscribe(() => {
    try {
      localStorage.setItem(KEPT_AS, JSON.stringify(choice.get()));
    } catch {
      // A browser that keeps nothing asks anew next time.
    }
  });
  navigator.mediaDevices?.addEventListener('devicechange', () => void refreshDevices());
  void refreshDevices();
}

/** Why there is no microphone or camera. */
export type Missing = 'insecure' | 'denied' | 'dismissed' | 'system' | 'none' | 'busy' | 'other';

export class NoDevice extends Error {
  constructor(readonly kind: 'microphone' | 'camera', readonly why: Missing, detail: string) {
    super(detail);
  }
}

/** Opens the chosen microphone, and the camera where wanted. */
export async function openMedia(camera: boolean): Promise<MediaStream> {
  const stream = await open('microphone', { audio: wanted('microphone', { echoCancellation: true, noiseSuppression: true, autoGainControl: true }) });
  if (camera) {
    try {
      const seen = await open('camera', { video: wanted('camera', { width: { ideal: 1280 }, height: { ideal: 720 } }) });
      for (const track of seen.getTracks()) stream.addTrack(track);
    } catch (error) {
      stop(stream);
      throw error;
    }
  }
  // Names are told once something was allowed.
  void refreshDevices();
  return stream;
}

export async function openCamera(): Promise<MediaStreamTrack> {
  const stream = await open('camera', { video: wanted('camera', { width: { ideal: 1280 }, height: { ideal: 720 } }) });
  const [track] = stream.getVideoTracks();
  if (!track) throw new NoDevice('camera', 'none', 'no track');
  return track;
}

export function stop(stream: MediaStream | undefined): void {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

function wanted(kind: 'microphone' | 'camera', constraints: MediaTrackConstraints): MediaTrackConstraints {
  const id = choice.get()[kind];
  // Not `exact`: whoever unplugs what he chose still wants to be heard.
  return id ? { ...constraints, deviceId: { ideal: id } } : constraints;
}

async function open(kind: 'microphone' | 'camera', constraints: MediaStreamConstraints): Promise<MediaStream> {
  if (!navigator.mediaDevices) throw new NoDevice(kind, 'insecure', 'no mediaDevices');
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch (error) {
    throw new NoDevice(kind, await why(kind, error), String(error));
  }
}

async function why(kind: 'microphone' | 'camera', error: unknown): Promise<Missing> {
  const { name = '', message = '' } = error as { name?: string; message?: string };
  switch (name) {
    case 'NotAllowedError':
    case 'SecurityError':
      if (/system/i.test(message)) return 'system';
      if (/dismiss/i.test(message)) return 'dismissed';
      return (await permission(kind)) === 'prompt' ? 'dismissed' : 'denied';
    case 'NotFoundError':
    case 'OverconstrainedError':
      return 'none';
    case 'NotReadableError':
    case 'AbortError':
      return 'busy';
    default:
      return 'other';
  }
}

export async function permission(kind: 'microphone' | 'camera'): Promise<PermissionState | 'unknown'> {
  try {
    return (await navigator.permissions.query({ name: kind as PermissionName })).state;
  } catch {
    return 'unknown';
  }
}

/** Plays through the chosen loudspeaker, where the browser lets a page choose. */
export async function playOn(element: HTMLMediaElement, device: string): Promise<void> {
  if ('setSinkId' in element) await element.setSinkId(device).catch(() => {});
}
