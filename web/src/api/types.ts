// What the node says and is told: docs/api.md.

export interface SipCredential {
  uri: string;
  username: string;
  password: string;
  realm?: string;
  ws: string;
  expires_s: number;
}

/** STUN and TURN, with a login that is good for so many seconds to begin with. */
export interface IceServer {
  urls: string[];
  username: string;
  credential: string;
  expires_s: number;
}

export interface Session {
  address: string;
  user: string;
  domain: string;
  /** The domain of one's own address, where names without one are looked for; the page adds it. */
  home: string;
  number?: string;
  csrf: string;
  expires_s: number;
  administers: boolean;
  sip?: SipCredential;
  ice?: IceServer[];
}

export interface PageInfo {
  domain: string;
  version: string;
  enrol: boolean;
  secure: boolean;
  loopback: boolean;
  administration: boolean;
}

export interface Contact {
  id: string;
  name: string;
  address: string;
  favourite: boolean;
}

export type Outcome =
  | 'ringing' | 'answered' | 'missed' | 'busy' | 'refused' | 'cancelled' | 'failed' | 'elsewhere' | 'blocked' | 'not_disturbed';

export interface PastCall {
  id: string;
  direction: 'in' | 'out';
  address: string;
  name?: string;
  verified: boolean;
  started: number;
  answered?: number;
  ended?: number;
  outcome: Outcome;
  status?: number;
  reason?: string;
  seen: boolean;
}

export interface Settings {
  do_not_disturb: boolean;
  blocked: string[];
}

export type Severity = 'error' | 'warning' | 'info';

export interface Health {
  severity: Severity;
  code: string;
  sentence: string;
  cure: string;
}

export interface Link {
  node: string;
  path: string;
  rtt_ms: number;
  domains?: string[];
}

export interface Registration {
  address: string;
  contact: string;
  transport: string;
  expires_s: number;
  q?: number;
}

export interface Heard {
  codec?: string | null;
  loss_percent: number;
  jitter_ms: number;
  round_trip_ms?: number | null;
  mos: number;
}

export interface Sound {
  heard_by_caller?: Heard | null;
  heard_by_callee?: Heard | null;
  protection_of_caller?: string;
  protection_of_callee?: string;
}

export interface LiveCall {
  call_id: string;
  from: string;
  to: string;
  state: string;
  since_s: number;
  sound?: Sound | null;
}

export interface FinishedCall {
  call_id: string;
  from: string;
  to: string;
  lasted_s?: number;
  ended_s: number;
  status?: number;
  sound?: Sound | null;
}

export interface Status {
  node: string;
  overlay: string;
  domain: string;
  version: string;
  uptime_s: number;
  links: Link[];
  registrations: Registration[];
  calls: LiveCall[];
  role?: { serves: boolean; why: string; others?: number | null; reached?: { dialled: number; reached: number; address?: string | null; ago_s: number } | null };
  trunks?: { name: string; server: string; state: string; reason?: string | null; calls: number; max_calls: number }[];
  accounts?: { users: number; version: string };
  peer?: string[];
  overlay_nodes_known?: number;
  certified_until?: number;
  relay?: unknown;
  nat?: unknown;
  health: Health[];
}

export interface OverlayNode {
  id: string;
  position: number;
  domains?: string[];
  link?: { path: 'direct' | 'relayed' | 'introduced'; address?: string; rtt_ms: number };
}

export interface Overlay {
  self: { id: string; position: number; serves: boolean };
  nodes: OverlayNode[];
  known: number;
}

export interface Place {
  address: string;
  position: number;
  closest: string[];
  found: { by: string; kind: string }[];
}

export interface LadderMessage {
  at_ms: number;
  from: string;
  to: string;
  transport: string;
  first_line: string;
  text: string;
}

export interface QualityPoint {
  at_s: number;
  end: 'caller' | 'callee';
  /** Who has measured it: this node, or the phone at that end. */
  by?: 'node' | 'end';
  loss_percent: number;
  jitter_ms: number;
  rtt_ms?: number;
  mos: number;
}

export interface CallDetail {
  call_id: string;
  from: string;
  to: string;
  state: string;
  messages: LadderMessage[];
  left_out: number;
  sound?: Sound | null;
  quality: QualityPoint[];
}

export interface LogEntry {
  id: number;
  at_ms: number;
  level: string;
  target: string;
  message: string;
  fields?: Record<string, unknown>;
}

export interface User {
  user: string;
  number?: string | null;
  created_ms: number;
  digest: string[];
  warning?: { warning: string; hint: string } | string | null;
  phones: number;
}

export interface NewPassword {
  user: string;
  domain: string;
  password: string;
  number?: string | null;
  server?: string | null;
}

export type InviteRole = 'home' | 'member' | 'store-only' | 'open';

export interface Invite {
  id: string;
  role: string;
  expires: number;
  person?: string | null;
  used: boolean;
}

export interface NewInvite {
  id: string;
  ticket: string;
  role: string;
  domain: string;
  overlay: string;
  expires: number;
  command: string;
  qr: string;
}

export interface Setting {
  name: string;
  value: string;
  /** In words. */
  where: string;
  from: 'default' | 'file' | 'environment' | 'flag' | 'page' | 'fixed';
  changeable: boolean;
  restart: boolean;
  choices?: string[];
  /** What counts from the next start on. */
  pending?: string;
  kind: 'choice' | 'number' | 'text' | 'switch';
  help: string;
}

/** Who vouches for the page. */
export interface Authority {
  name: string;
  overlay: string;
  sha256: string;
  starts: number;
  expires: number;
  file: string;
  page?: {
    from: 'own' | 'authority' | 'acme' | 'file';
    explanation: string;
    name: string;
    issuer: string;
    names: string[];
    sha256: string;
    starts: number;
    expires: number;
  };
}

export interface Token {
  id: string;
  name: string;
  scopes: string[];
  created: number;
  last_used?: number | null;
  token?: string;
}

export type NodeEvent =
  | { type: 'hello'; missed: boolean }
  | { type: 'call'; call: PastCall | LiveCall }
  | { type: 'registration'; address: string; contacts: number }
  | ({ type: 'settings' } & Settings)
  | { type: 'contacts' }
  | { type: 'status'; status: Status }
  | { type: 'log'; entry: LogEntry };
