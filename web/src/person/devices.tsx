// Which microphone, camera and loudspeaker, and whether they work: before anybody is called.
import { useEffect, useRef, useState } from 'react';
import { choice, devices, openCamera, openMedia, stop, type Choice } from '../phone/devices';
import { meter } from '../phone/meter';
import { beep } from '../phone/ringer';
import { phone, calls } from '../phone/phone';
import { useStore } from '../store';
import { texts } from '../texts';
import { Button, Card, Select } from '../ui/elements';
import { MissingDevice } from './missing';

const t = texts.devices;
/** What is quieter for that long is a microphone that hears nothing. */
const SILENCE = 0.05;
const SILENT_AFTER_MS = 3000;

export function DeviceCheck() {
  const chosen = useStore(choice);
  const all = useStore(devices);
  const options = (kind: MediaDeviceKind, name: string): [string, string][] => [
    ['', t.standard],
    ...all.filter(device => device.kind === kind && device.deviceId !== '' && device.deviceId !== 'default' && device.deviceId !== 'communications')
      .map((device, index): [string, string] => [device.deviceId, device.label || t.unnamed(name, index + 1)]),
  ];
  const choose = (changes: Partial<Choice>) => {
    choice.set({ ...chosen, ...changes });
    for (const view of calls.get()) void phone.find(view.id)?.changeDevices().catch(() => {});
  };
  const canChooseSpeaker = 'setSinkId' in HTMLMediaElement.prototype;
  return (
    <Card title={t.title} className="devices">
      <Select label={t.microphone} value={chosen.microphone} options={options('audioinput', t.microphone)} onChange={microphone => choose({ microphone })} />
      <MicrophoneTest key={chosen.microphone} />
      {canChooseSpeaker
        ? (
          <>
            <Select label={t.speaker} value={chosen.speaker} options={options('audiooutput', t.speaker)} onChange={speaker => choose({ speaker })} />
            <Select label={t.ringer} value={chosen.ringer} options={options('audiooutput', t.speaker)} onChange={ringer => choose({ ringer })} />
          </>
        )
        : <p className="field-hint">{t.sinkUnsupported}</p>}
      <div><Button size="small" icon="ringer" onClick={() => beep(chosen.speaker)}>{t.testSpeaker}</Button></div>
      <Select label={t.camera} value={chosen.camera} options={options('videoinput', t.camera)} onChange={camera => choose({ camera })} />
      <CameraTest key={`camera-${chosen.camera}`} />
    </Card>
  );
}

function MicrophoneTest() {
  const [stream, setStream] = useState<MediaStream>();
  const [error, setError] = useState<Error>();
  const [heard, setHeard] = useState<'listening' | 'silent' | 'fine'>('listening');
  const bar = useRef<HTMLMeterElement>(null);
  const start = () => {
    setError(undefined);
    setHeard('listening');
    openMedia(false).then(setStream, (thrown: Error) => setError(thrown));
  };
  useEffect(() => {
    if (!stream) return;
    const since = Date.now();
    let loudest = 0;
    const end = meter(stream, level => {
      loudest = Math.max(loudest, level);
      if (bar.current) bar.current.value = level;
      if (loudest > SILENCE) setHeard('fine');
      else if (Date.now() - since > SILENT_AFTER_MS) setHeard('silent');
    });
    return () => {
      end();
      stop(stream);
    };
  }, [stream]);
  if (error) return <MissingDevice error={error} onRetry={start} />;
  if (!stream) return <div><Button size="small" icon="mic" onClick={start}>{t.test}</Button></div>;
  return (
    <div className="level">
      <meter ref={bar} min={0} max={1} aria-label={t.level} />
      <p className="field-hint" role="status">{heard === 'listening' ? t.levelHelp : heard === 'fine' ? t.levelFine : t.levelSilent}</p>
      <div><Button size="small" icon="close" onClick={() => setStream(undefined)}>{t.stop}</Button></div>
    </div>
  );
}

function CameraTest() {
  const [track, setTrack] = useState<MediaStreamTrack>();
  const [error, setError] = useState<Error>();
  const video = useRef<HTMLVideoElement>(null);
  const start = () => {
    setError(undefined);
    openCamera().then(setTrack, (thrown: Error) => setError(thrown));
  };
  useEffect(() => {
    if (!track) return;
    if (video.current) video.current.srcObject = new MediaStream([track]);
    return () => track.stop();
  }, [track]);
  if (error) return <MissingDevice error={error} onRetry={start} />;
  if (!track) return <div><Button size="small" icon="video" onClick={start}>{t.testCamera}</Button></div>;
  return (
    <div className="level">
      <video ref={video} autoPlay muted playsInline aria-label={t.seesYou} className="preview" />
      <div><Button size="small" icon="close" onClick={() => setTrack(undefined)}>{t.stop}</Button></div>
    </div>
  );
}
