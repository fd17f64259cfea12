//! Scenarios: what is sent, how answers are matched, what is counted.

use std::net::SocketAddr;

use md5::{Digest, Md5};

use crate::hist::Hist;
use crate::net::Tx;
use crate::sip::{self, H};
use crate::tmpl::{self, Args, Tmpl};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// REGISTER, one contact per AOR; answers a digest challenge if one comes.
    Register,
    /// INVITE-100-180-200-ACK-BYE-200 through a proxy to the built-in UAS.
    Call,
    /// One request relayed to the built-in UAS and its 200 relayed back.
    Relay,
}

#[derive(Clone)]
pub struct Cfg {
    pub server: SocketAddr,
    pub local: SocketAddr,
    pub contact: SocketAddr,
    pub tcp: bool,
    pub domain: String,
    pub users: u64,
    pub first: u64,
    pub shuffle: bool,
    pub method: String,
    /// Of user i at i; none where no challenge is expected.
    pub passwords: Vec<String>,
    pub slots: u64,
    pub run_id: String,
    pub cseq0: u64,
}

#[derive(Default, Clone, Copy, Debug)]
pub struct Counts {
    pub started: u64,
    pub done: u64,
    pub failed: u64,
    /// No answer within T1 (500 ms): a real client would have retransmitted.
    pub late: u64,
    pub lost: u64,
    /// Requests the UAS saw more than once: retransmissions by the server.
    pub uas_dup: u64,
    pub uas_acks: u64,
    pub prov100: u64,
    pub challenges: u64,
    pub stray: u64,
}

#[derive(Default)]
struct Slot {
    /// Operation number + 1, 0 if free.
    id: u64,
    t0: u64,
    user: u64,
    stage: u8,
    uas_seen: bool,
    got18x: bool,
    ruri: Vec<u8>,
    routes: Vec<u8>,
    to: Vec<u8>,
}

pub struct Run {
    pub kind: Kind,
    cfg: Cfg,
    slots: Vec<Slot>,
    next: u64,
    oldest: u64,
    late_from: u64,
    pub inflight: u64,
    pub c: Counts,
    /// Request to first relayed answer (18x of a call, final answer otherwise).
    pub first: Hist,
    /// BYE to its 200 (calls only).
    pub bye: Hist,
    t_reg: Tmpl,
    t_inv: Tmpl,
    t_ack: Tmpl,
    t_nack: Tmpl,
    t_bye: Tmpl,
    t_req: Tmpl,
    ok_tail: Vec<u8>,
    ok_sdp_tail: Vec<u8>,
    scratch: Vec<u8>,
    step: u64,
}

pub const REGISTER: &str = "
REGISTER sip:{domain} SIP/2.0
Via: SIP/2.0/{TP} {local};branch=z9hG4bK-sb-{n}R{cseq}-{run};rport
Max-Forwards: 70
From: <sip:u{u}@{domain}>;tag=ft{u}
To: <sip:u{u}@{domain}>
Call-ID: {u}-reg-0f3a9c2e71d84b55@{domain}
CSeq: {cseq} REGISTER
Contact: <sip:u{u}@{contact}{tparam}>;expires=3600
User-Agent: sipload/0.1 (load generator)
Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, MESSAGE, NOTIFY, INFO, UPDATE
Supported: path, outbound, gruu
{auth}Expires: 3600
";

pub const INVITE: &str = "
INVITE sip:u{u}@{domain} SIP/2.0
Via: SIP/2.0/{TP} {local};branch=z9hG4bK-sb-{n}I1-{run};rport
Max-Forwards: 70
From: \"Caller {c}\" <sip:c{c}@{domain}>;tag=f{n}
To: <sip:u{u}@{domain}>
Call-ID: {n}-{run}-0f3a9c2e71d84b55@{domain}
CSeq: 1 INVITE
Contact: <sip:c{c}@{local}{tparam}>
User-Agent: sipload/0.1 (load generator)
Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, MESSAGE, NOTIFY, INFO, UPDATE
Supported: 100rel, timer, replaces
Session-Expires: 1800
Content-Type: application/sdp
";

pub const SDP: &str = "v=0
o=- 3906478832 3906478832 IN IP4 127.77.0.1
s=call
c=IN IP4 127.77.0.1
t=0 0
m=audio 40000 RTP/AVP 96 8 0 9 101
a=rtpmap:96 opus/48000/2
a=fmtp:96 useinbandfec=1
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:9 G722/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=ptime:20
a=sendrecv
";

const ACK: &str = "
ACK {ruri} SIP/2.0
Via: SIP/2.0/{TP} {local};branch=z9hG4bK-sb-{n}A1-{run};rport
{routes}Max-Forwards: 70
From: \"Caller {c}\" <sip:c{c}@{domain}>;tag=f{n}
To: {to}
Call-ID: {n}-{run}-0f3a9c2e71d84b55@{domain}
CSeq: 1 ACK
Contact: <sip:c{c}@{local}{tparam}>
User-Agent: sipload/0.1 (load generator)
";

/// ACK of a non-2xx answer: hop by hop, same branch as the INVITE.
const NACK: &str = "
ACK sip:u{u}@{domain} SIP/2.0
Via: SIP/2.0/{TP} {local};branch=z9hG4bK-sb-{n}I1-{run};rport
Max-Forwards: 70
From: \"Caller {c}\" <sip:c{c}@{domain}>;tag=f{n}
To: {to}
Call-ID: {n}-{run}-0f3a9c2e71d84b55@{domain}
CSeq: 1 ACK
";

const BYE: &str = "
BYE {ruri} SIP/2.0
Via: SIP/2.0/{TP} {local};branch=z9hG4bK-sb-{n}B1-{run};rport
{routes}Max-Forwards: 70
From: \"Caller {c}\" <sip:c{c}@{domain}>;tag=f{n}
To: {to}
Call-ID: {n}-{run}-0f3a9c2e71d84b55@{domain}
CSeq: 2 BYE
Contact: <sip:c{c}@{local}{tparam}>
User-Agent: sipload/0.1 (load generator)
";

const REQUEST: &str = "
{METHOD} sip:u{u}@{domain} SIP/2.0
Via: SIP/2.0/{TP} {local};branch=z9hG4bK-sb-{n}M1-{run};rport
Max-Forwards: 70
From: \"Caller {c}\" <sip:c{c}@{domain}>;tag=f{n}
To: <sip:u{u}@{domain}>
Call-ID: {n}-{run}-0f3a9c2e71d84b55@{domain}
CSeq: 1 {METHOD}
User-Agent: sipload/0.1 (load generator)
Content-Type: text/plain
";

const TEXT: &str =
    "Hello, this is a short text message of about eighty bytes for the relay test.\n";

impl Run {
    pub fn new(kind: Kind, cfg: Cfg) -> Run {
        let (local, contact) = (cfg.local.to_string(), cfg.contact.to_string());
        let consts = [
            ("TP", if cfg.tcp { "TCP" } else { "UDP" }),
            ("tparam", if cfg.tcp { ";transport=tcp" } else { "" }),
            ("local", &local),
            ("contact", &contact),
            ("domain", &cfg.domain),
            ("METHOD", &cfg.method),
            ("run", &cfg.run_id),
        ];
        let t = |head, body| Tmpl::new(head, body, &consts);
        let sdp = SDP.replace('\n', "\r\n");
        let tp = if cfg.tcp { ";transport=tcp" } else { "" };
        let common = format!("Contact: <sip:uas@{contact}{tp}>\r\nServer: sipload-uas\r\n");
        let mut step = if cfg.shuffle {
            2654435761 % cfg.users.max(1)
        } else {
            1
        }
        .max(1);
        while gcd(step, cfg.users.max(1)) != 1 {
            step += 1;
        }
        Run {
            kind,
            slots: (0..cfg.slots).map(|_| Slot::default()).collect(),
            next: 0,
            oldest: 0,
            late_from: 0,
            inflight: 0,
            c: Counts::default(),
            first: Hist::new(),
            bye: Hist::new(),
            t_reg: t(REGISTER, ""),
            t_inv: t(INVITE, SDP),
            t_ack: t(ACK, ""),
            t_nack: t(NACK, ""),
            t_bye: t(BYE, ""),
            t_req: t(REQUEST, TEXT),
            ok_tail: format!("{common}Content-Length: 0\r\n\r\n").into_bytes(),
            ok_sdp_tail: format!(
                "{common}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
                sdp.len()
            )
            .into_bytes(),
            scratch: Vec::new(),
            step,
            cfg,
        }
    }

    fn user_of(&self, n: u64) -> u64 {
        self.cfg.first + (n % self.cfg.users).wrapping_mul(self.step) % self.cfg.users
    }

    fn cseq_of(&self, n: u64) -> u64 {
        self.cfg.cseq0 + 2 * (n / self.cfg.users)
    }

    /// False when every slot is taken by an operation still in flight.
    pub fn start(&mut self, tx: &mut Tx, now: u64) -> bool {
        let n = self.next;
        if n - self.oldest >= self.cfg.slots {
            return false;
        }
        let user = self.user_of(n);
        let s = &mut self.slots[(n & (self.cfg.slots - 1)) as usize];
        s.id = n + 1;
        s.t0 = now;
        s.user = user;
        s.stage = 1;
        s.uas_seen = false;
        s.got18x = false;
        self.next += 1;
        self.inflight += 1;
        self.c.started += 1;
        let a = Args {
            n,
            user,
            caller: n % 10_000,
            cseq: self.cseq_of(n),
            ..Args::default()
        };
        let t = match self.kind {
            Kind::Register => &self.t_reg,
            Kind::Call => &self.t_inv,
            Kind::Relay => &self.t_req,
        };
        tx.push(|b| t.render(b, &a));
        true
    }

    /// An answer came in on a UAC endpoint; `tx` is that endpoint's sending side.
    pub fn on_uac(&mut self, m: &[u8], tx: &mut Tx, now: u64) {
        const MARK: &[u8] = b"branch=z9hG4bK-sb-";
        let (Some(code), Some(p)) = (sip::status(m), sip::find(m, MARK)) else {
            self.c.stray += 1;
            return;
        };
        let tail = &m[p + MARK.len()..];
        let Some(n) = tmpl::parse_hex(tail) else {
            self.c.stray += 1;
            return;
        };
        let what = tail[tmpl::NWIDTH];
        let s = &mut self.slots[(n & (self.cfg.slots - 1)) as usize];
        if s.id != n + 1 {
            self.c.stray += 1;
            return;
        }
        if code == 100 {
            self.c.prov100 += 1;
            return;
        }
        if what == b'I' && code >= 180 && !s.got18x {
            s.got18x = true;
            self.first.add(now - s.t0);
        }
        if code < 200 {
            return;
        }
        let base = Args {
            n,
            user: s.user,
            caller: n % 10_000,
            ..Args::default()
        };
        match (what, code, s.stage) {
            (b'I', 200, 1) => {
                s.ruri.clear();
                s.routes.clear();
                s.to.clear();
                for (h, _, v) in sip::headers(m) {
                    match h {
                        H::Contact => s.ruri.extend_from_slice(sip::addr_uri(v)),
                        H::To => s.to.extend_from_slice(v),
                        H::RecordRoute => {
                            // The UAC's route set is the reverse of the Record-Route order.
                            let mut l = Vec::with_capacity(s.routes.len() + v.len() + 9);
                            l.extend_from_slice(b"Route: ");
                            l.extend_from_slice(v);
                            l.extend_from_slice(b"\r\n");
                            l.extend_from_slice(&s.routes);
                            s.routes = l;
                        }
                        _ => {}
                    }
                }
                s.stage = 2;
                s.t0 = now;
                let a = Args {
                    ruri: &s.ruri,
                    routes: &s.routes,
                    to: &s.to,
                    ..base
                };
                tx.push(|b| self.t_ack.render(b, &a));
                tx.push(|b| self.t_bye.render(b, &a));
            }
            (b'I', 200, _) => {}
            (b'I', _, _) => {
                let to = sip::headers(m)
                    .find(|h| h.0 == H::To)
                    .map_or(&b""[..], |h| h.2);
                tx.push(|b| self.t_nack.render(b, &Args { to, ..base }));
                self.finish(n, false);
            }
            (b'B', 200, 2) => {
                self.bye.add(now - s.t0);
                self.finish(n, true);
            }
            (b'R', 401 | 407, 1) if !self.cfg.passwords.is_empty() => {
                s.stage = 2;
                self.c.challenges += 1;
                let user = s.user;
                let Some((_, line, v)) = sip::headers(m).find(|h| h.0 == H::WwwAuth) else {
                    self.finish(n, false);
                    return;
                };
                let name: &str = if line[0] | 0x20 == b'p' { "Proxy-" } else { "" };
                let auth = self.digest(name, user, v);
                let a = Args {
                    auth: &auth,
                    cseq: self.cseq_of(n) + 1,
                    ..base
                };
                tx.push(|b| self.t_reg.render(b, &a));
            }
            (b'R' | b'M', 200, _) => {
                self.first.add(now - s.t0);
                self.finish(n, true);
            }
            _ => self.finish(n, false),
        }
    }

    fn digest(&self, name: &str, user: u64, ch: &[u8]) -> Vec<u8> {
        let p = |k| String::from_utf8_lossy(sip::param(ch, k).unwrap_or(b"")).into_owned();
        let (realm, nonce, qop) = (p("realm"), p("nonce"), p("qop"));
        let uri = format!("sip:{}", self.cfg.domain);
        let hex = |text: String| format!("{:x}", Md5::digest(text));
        let password = self.cfg.passwords.get(user as usize).map_or("", |password| password.as_str());
        let ha1 = hex(format!("u{user}:{realm}:{password}"));
        let ha2 = hex(format!("REGISTER:{uri}"));
        let (resp, extra) = if qop.is_empty() {
            (hex(format!("{ha1}:{nonce}:{ha2}")), String::new())
        } else {
            let c = "0a4f113b";
            (
                hex(format!("{ha1}:{nonce}:00000001:{c}:auth:{ha2}")),
                format!(", qop=auth, nc=00000001, cnonce=\"{c}\""),
            )
        };
        let opaque = match sip::param(ch, "opaque") {
            Some(o) => format!(", opaque=\"{}\"", String::from_utf8_lossy(o)),
            None => String::new(),
        };
        format!(
            "{name}Authorization: Digest username=\"u{user}\", realm=\"{realm}\", \
             nonce=\"{nonce}\", uri=\"{uri}\", response=\"{resp}\", algorithm=MD5{extra}{opaque}\r\n"
        )
        .into_bytes()
    }

    fn finish(&mut self, n: u64, ok: bool) {
        self.slots[(n & (self.cfg.slots - 1)) as usize].id = 0;
        self.inflight -= 1;
        if ok {
            self.c.done += 1;
        } else {
            self.c.failed += 1;
        }
    }

    /// A request came in on a UAS endpoint.
    pub fn on_uas(&mut self, m: &[u8], tx: &mut Tx) {
        let method = &m[..m.iter().position(|c| *c == b' ').unwrap_or(0)];
        if method == b"ACK" {
            self.c.uas_acks += 1;
            return;
        }
        if sip::status(m).is_some() {
            self.c.stray += 1;
            return;
        }
        let invite = method == b"INVITE";
        self.scratch.clear();
        for (h, line, v) in sip::headers(m) {
            match h {
                H::Via | H::From | H::Cseq => self.scratch.extend_from_slice(line),
                H::RecordRoute if invite => self.scratch.extend_from_slice(line),
                H::To => {
                    self.scratch.extend_from_slice(b"To: ");
                    self.scratch.extend_from_slice(v);
                    if sip::find(v, b";tag=").is_none() {
                        self.scratch.extend_from_slice(b";tag=uas7c31f0");
                    }
                    self.scratch.extend_from_slice(b"\r\n");
                }
                H::CallId => {
                    self.scratch.extend_from_slice(line);
                    if let Some(n) = tmpl::parse_hex(v) {
                        let s = &mut self.slots[(n & (self.cfg.slots - 1)) as usize];
                        if s.id == n + 1 && method != b"BYE" {
                            self.c.uas_dup += s.uas_seen as u64;
                            s.uas_seen = true;
                        }
                    }
                }
                _ => {}
            }
        }
        let (head, ok_tail, ok_sdp_tail) = (&self.scratch, &self.ok_tail, &self.ok_sdp_tail);
        if invite {
            tx.push(|b| {
                b.extend_from_slice(b"SIP/2.0 180 Ringing\r\n");
                b.extend_from_slice(head);
                b.extend_from_slice(ok_tail);
            });
        }
        tx.push(|b| {
            b.extend_from_slice(b"SIP/2.0 200 OK\r\n");
            b.extend_from_slice(head);
            b.extend_from_slice(if invite { ok_sdp_tail } else { ok_tail });
        });
    }

    /// Gives up on operations older than `timeout`, counts those older than `t1` as late.
    pub fn expire(&mut self, now: u64, t1: u64, timeout: u64) {
        let mask = self.cfg.slots - 1;
        while self.late_from < self.next {
            let s = &self.slots[(self.late_from & mask) as usize];
            if s.id == self.late_from + 1 {
                if now.saturating_sub(s.t0) < t1 {
                    break;
                }
                self.c.late += 1;
            }
            self.late_from += 1;
        }
        while self.oldest < self.next {
            let s = &mut self.slots[(self.oldest & mask) as usize];
            if s.id == self.oldest + 1 {
                if now.saturating_sub(s.t0) < timeout {
                    break;
                }
                s.id = 0;
                self.inflight -= 1;
                self.c.lost += 1;
            }
            self.oldest += 1;
        }
    }

    /// Forgets what was counted so far (end of the warm-up).
    pub fn reset(&mut self) {
        self.c = Counts::default();
        self.first.clear();
        self.bye.clear();
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        gcd(b, a % b)
    }
}
