// How sound may go where nothing reaches this browser: through the node's TURN server.
import { api } from '../api/client';
import type { IceServer, Session } from '../api/types';

/** The login is asked for anew when so much of its time is left: long enough for a call to begin with it. */
const RENEWED_BEFORE_MS = 10 * 60_000;

let known: { servers: RTCIceServer[]; until: number } = { servers: [], until: 0 };

/** Forgets the login of whoever was here before. */
export function forgetWays(): void {
  known = { servers: [], until: 0 };
}

/** The node's TURN server with a fresh login; none where there is none, or where the node does not answer now. */
export async function ways(now: () => number = Date.now): Promise<RTCConfiguration> {
  if (now() >= known.until) {
    const { ice } = await api.get<Session>('/session').catch((): { ice?: IceServer[] } => ({}));
    const servers = ice ?? [];
    const lasts = Math.min(...servers.map(server => server.expires_s * 1000 - RENEWED_BEFORE_MS));
    known = {
      servers: servers.map(({ urls, username, credential }) => ({ urls, username, credential })),
      until: Number.isFinite(lasts) ? now() + lasts : 0,
    };
  }
  return { iceServers: known.servers };
}
