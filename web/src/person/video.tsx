// Both pictures of a video call.
import { useEffect, useRef } from 'react';
import type { CallView } from '../phone/view';
import { phone } from '../phone/phone';
import { texts } from '../texts';

export function Video({ call }: { call: CallView }) {
  const remote = useRef<HTMLVideoElement>(null);
  const local = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    const one = phone.find(call.id);
    // Sound comes from elsewhere, so these are mute. A new stream each time: an element does not notice that a track was changed.
    if (remote.current) remote.current.srcObject = one && call.remoteVideo ? new MediaStream(one.remote.getVideoTracks()) : null;
    if (local.current) local.current.srcObject = one?.local && call.video ? new MediaStream(one.local.getVideoTracks()) : null;
  }, [call.id, call.video, call.remoteVideo]);
  return (
    <div className="videos">
      {call.remoteVideo && <video ref={remote} className="video-large" autoPlay playsInline muted aria-label={texts.call.other} />}
      {call.video && <video ref={local} className={call.remoteVideo ? 'video-small' : 'video-large'} autoPlay playsInline muted aria-label={texts.call.self} />}
    </div>
  );
}
