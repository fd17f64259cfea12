//! sipload: a SIP load generator that is cheap enough to saturate a SIP server on one core
//! from one other core, and that reports what each operation cost the server in CPU time.
//!
//! `sipload help` lists the modes and options. One line of JSON comes out per run.

mod flood;
mod hist;
mod net;
mod procfs;
mod run;
mod sip;
mod tmpl;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::process::{exit, Command};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use net::{Rx, Tx};
use procfs::Cpu;
use run::{Cfg, Counts, Kind, Run};

const HELP: &str = "\
sipload MODE [--option value]...
modes
  register   REGISTER of distinct AORs (digest if --passwords are given and a challenge comes)
  call       registers --users callees, then INVITE-100-180-200-ACK-BYE-200 via the server
  message    registers --users callees, then --method requests relayed to them
  forward    like message, but registers nothing (server picks the target itself)
  flood      RTP packets over the flows in --flows, counted when the relay gives them to any of them
  startup    runs the command after -- and times its first answer, --repeat times
  mem        prints RSS and PSS of the tree of --pid
  dump       prints the templates as they go on the wire
options (default)
  --server IP:PORT (127.77.0.1:5060)  --transport udp|tcp (udp)
  --bind IP:PORT (127.77.0.1:5070)    UAC address
  --uas PORT[,PORT] (5081)           UAS ports on the same IP
  --conns N (4)                      TCP connections of the UAC
  --users N (1000) --first N (0)     AORs u<first>..; --shuffle 1 visits them out of order
  --rate R (0)                       operations a second, open loop; 0: closed loop
  --window W (64)                    operations in flight in the closed loop
  --warmup S (1) --duration S (5)    or --count N operations with no warm-up
  --pid PID --core N (0)             server's process tree and core to account
  --t1 MS (500) --timeout MS (2000)  late / given up
  --flows FILE  --size BYTES (172)   lines LOCAL PORT; length of an RTP packet
  --method M (MESSAGE)  --passwords FILE (of user i in line i)  --domain D (IP of the server)  --label L
  --spin 0|1 (1)                     1: poll without sleeping; 0: sleep in ppoll when idle
";

struct Opts(HashMap<String, String>);

impl Opts {
    fn get<T: std::str::FromStr>(&self, k: &str, default: &str) -> T {
        let v = self.0.get(k).map_or(default, |s| s.as_str());
        v.parse()
            .unwrap_or_else(|_| fail(&format!("bad --{k} {v}")))
    }
}

fn fail(msg: &str) -> ! {
    eprintln!("sipload: {msg}");
    exit(2)
}

/// Endpoints: sending and receiving sides are apart so that a handler can answer while reading.
#[derive(Default)]
struct Eps {
    rx: Vec<Rx>,
    tx: Vec<Tx>,
    is_uas: Vec<bool>,
    listeners: Vec<TcpListener>,
    uacs: usize,
}

impl Eps {
    fn open(o: &Opts, cfg: &Cfg) -> std::io::Result<Eps> {
        let mut e = Eps::default();
        if cfg.tcp {
            for _ in 0..o.get::<usize>("conns", "4") {
                e.add(net::tcp_connect(cfg.server)?, false);
            }
        } else {
            e.add(net::udp(cfg.local, cfg.server)?, false);
        }
        e.uacs = e.tx.len();
        Ok(e)
    }

    /// The UAC's endpoints, and the UAS's: those at which callees have registered, or the ports that a server is told of.
    fn open_with_uas(o: &Opts, cfg: &Cfg, registered: Option<Eps>) -> std::io::Result<Eps> {
        let mut e = Eps::open(o, cfg)?;
        if let Some(registered) = registered {
            registered.rx.into_iter().zip(registered.tx).for_each(|pair| e.add(pair, true));
        } else {
            for p in o.get::<String>("uas", "5081").split(',') {
                let at = SocketAddr::new(cfg.local.ip(), p.parse().unwrap_or(5081));
                if cfg.tcp {
                    e.listeners.push(net::tcp_listen(at)?);
                } else {
                    e.add(net::udp(at, cfg.server)?, true);
                }
            }
        }
        Ok(e)
    }

    fn add(&mut self, (r, t): (Rx, Tx), uas: bool) {
        self.rx.push(r);
        self.tx.push(t);
        self.is_uas.push(uas);
    }

    /// One round of reading and answering; returns the number of messages read.
    fn poll(&mut self, run: &mut Run, clock: &Clock) -> usize {
        let mut n = 0;
        for i in 0..self.rx.len() {
            let (tx, uas) = (&mut self.tx[i], self.is_uas[i]);
            let now = clock.ns();
            n += self.rx[i].poll(|m| {
                if uas {
                    run.on_uas(m, tx)
                } else {
                    run.on_uac(m, tx, now)
                }
            });
        }
        if !self.listeners.is_empty() && n == 0 {
            for l in 0..self.listeners.len() {
                while let Some(p) = net::tcp_accept(&self.listeners[l]) {
                    self.add(p, true);
                }
            }
        }
        self.tx.iter_mut().for_each(|t| t.flush());
        n
    }
}

/// One password a line, that of user 0 first.
fn passwords(path: &str) -> Vec<String> {
    if path.is_empty() {
        return Vec::new();
    }
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| fail(&e.to_string()));
    text.lines().map(str::to_owned).collect()
}

struct Clock(Instant);

impl Clock {
    fn ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

#[derive(Clone, Copy)]
struct Plan {
    rate: f64,
    window: u64,
    warmup: u64,
    duration: u64,
    count: u64,
    t1: u64,
    timeout: u64,
    pid: i32,
    core: usize,
    spin: bool,
}

struct Outcome {
    secs: f64,
    cpu: Option<(Cpu, Cpu)>,
    core: ((u64, u64), (u64, u64)),
    own_ns: u64,
    busy_ns: u64,
    done: u64,
    c: Counts,
}

struct Snap {
    t: u64,
    cpu: Cpu,
    core: (u64, u64),
    own: u64,
}

fn snap(p: &Plan, clock: &Clock) -> Snap {
    Snap {
        cpu: if p.pid > 0 {
            Cpu::of_tree(p.pid)
        } else {
            Cpu::default()
        },
        core: procfs::core_ticks(p.core),
        own: procfs::self_cpu_ns(),
        t: clock.ns(),
    }
}

fn drive(eps: &mut Eps, run: &mut Run, p: Plan) -> Outcome {
    let clock = Clock(Instant::now());
    let mut a = snap(&p, &clock);
    let t_start = clock.ns();
    let mut measuring = p.count > 0 || p.warmup == 0;
    let (mut paced, mut pace_t0, mut busy, mut rr) = (0u64, t_start, 0u64, 0usize);
    let b = loop {
        let now = clock.ns();
        if !measuring && now - t_start >= p.warmup {
            // The snapshot takes a moment; the pacing must not try to catch up on it.
            run.reset();
            a = snap(&p, &clock);
            (paced, pace_t0, busy) = (0, clock.ns(), 0);
            measuring = true;
        }
        let started = run.c.started;
        let over = if p.count > 0 {
            started >= p.count && run.inflight == 0
        } else {
            measuring && now.saturating_sub(a.t) >= p.duration
        };
        if over {
            break snap(&p, &clock);
        }
        let mut due = if p.rate > 0.0 {
            ((now.saturating_sub(pace_t0) as f64 * p.rate / 1e9) as u64).saturating_sub(paced)
        } else {
            p.window.saturating_sub(run.inflight)
        };
        if p.count > 0 {
            due = due.min(p.count - started);
        }
        let mut sent = 0;
        while sent < due.min(64) {
            rr = (rr + 1) % eps.uacs;
            if !run.start(&mut eps.tx[rr], now) {
                break;
            }
            sent += 1;
        }
        paced += sent;
        let n = eps.poll(run, &clock);
        run.expire(now, p.t1, p.timeout);
        if n > 0 || sent > 0 {
            busy += clock.ns() - now;
        } else if !p.spin {
            std::thread::sleep(Duration::from_micros(50));
        }
    };
    let done = run.c.done;
    // Drain, so that what was merely in flight is not counted as lost.
    let end = clock.ns();
    while run.inflight > 0 && clock.ns() - end < p.timeout {
        eps.poll(run, &clock);
        run.expire(clock.ns(), p.t1, p.timeout);
    }
    run.c.lost += run.inflight;
    Outcome {
        secs: (b.t - a.t) as f64 / 1e9,
        cpu: (p.pid > 0).then_some((a.cpu, b.cpu)),
        core: (a.core, b.core),
        own_ns: b.own - a.own,
        busy_ns: busy,
        done,
        c: run.c,
    }
}

fn startup(o: &Opts, cfg: &Cfg, plan: &Plan, cmd: &[String]) {
    let mut ms: Vec<f64> = Vec::new();
    for _ in 0..o.get::<usize>("repeat", "5") {
        let mut e = Eps::open(o, cfg).unwrap_or_else(|e| fail(&e.to_string()));
        let t0 = Instant::now();
        let Ok(mut child) = Command::new(&cmd[0]).args(&cmd[1..]).spawn() else {
            fail("cannot run the command")
        };
        let clock = Clock(t0);
        let mut run = Run::new(Kind::Register, cfg.clone());
        let mut next = t0;
        while run.c.done == 0 && t0.elapsed().as_secs() < 20 {
            if Instant::now() >= next {
                run.start(&mut e.tx[0], clock.ns());
                next += Duration::from_micros(500);
            }
            e.poll(&mut run, &clock);
            run.expire(clock.ns(), plan.t1, 100_000_000);
            std::thread::sleep(Duration::from_micros(50));
        }
        ms.push(t0.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(300));
        // SAFETY: signals the child started above, not yet waited for.
        unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        let _ = child.wait();
    }
    ms.sort_by(f64::total_cmp);
    println!(
        "{{\"label\":\"{}\",\"mode\":\"startup\",\"startup_ms_median\":{:.1},\"min\":{:.1},\"max\":{:.1}}}",
        o.get::<String>("label", ""),
        ms[ms.len() / 2],
        ms[0],
        ms[ms.len() - 1]
    );
}

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let cmd = match args.iter().position(|a| a == "--") {
        Some(p) => args.split_off(p).split_off(1),
        None => Vec::new(),
    };
    let mode = args.first().cloned().unwrap_or_else(|| "help".into());
    let mut map = HashMap::new();
    for kv in args.get(1..).unwrap_or(&[]).chunks(2) {
        match (kv[0].strip_prefix("--"), kv.get(1)) {
            (Some(k), Some(v)) => map.insert(k.to_string(), v.clone()),
            _ => fail(&format!("unexpected argument {}", kv[0])),
        };
    }
    let o = Opts(map);

    let server: SocketAddr = o.get("server", "127.77.0.1:5060");
    let local: SocketAddr = o.get("bind", "127.77.0.1:5070");
    let uas_port: String = o.get("uas", "5081");
    let ms = |k: &str, d: &str| (o.get::<f64>(k, d) * 1e6) as u64;
    let plan = Plan {
        rate: o.get("rate", "0"),
        window: o.get("window", "64"),
        warmup: (o.get::<f64>("warmup", "1") * 1e9) as u64,
        duration: (o.get::<f64>("duration", "5") * 1e9) as u64,
        count: o.get("count", "0"),
        t1: ms("t1", "500"),
        timeout: ms("timeout", "2000"),
        pid: o.get("pid", "0"),
        core: o.get("core", "0"),
        spin: o.get::<u8>("spin", "1") == 1,
    };
    let has_uas = matches!(mode.as_str(), "call" | "message" | "forward");
    let first_uas: u16 = uas_port
        .split(',')
        .next()
        .and_then(|p| p.parse().ok())
        .unwrap_or(5081);
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let span = plan.timeout as f64 / 1e9 * 1.3;
    let cfg = Cfg {
        server,
        local,
        contact: if has_uas {
            SocketAddr::new(local.ip(), first_uas)
        } else {
            local
        },
        tcp: o.get::<String>("transport", "udp") == "tcp",
        domain: o.get("domain", &server.ip().to_string()),
        users: o.get("users", "1000"),
        first: o.get("first", "0"),
        shuffle: o.get::<u8>("shuffle", "0") == 1,
        method: o.get("method", "MESSAGE"),
        passwords: passwords(&o.get::<String>("passwords", "")),
        slots: ((plan.rate * span) as u64)
            .max(plan.window * 16)
            .max(1024)
            .next_power_of_two(),
        run_id: format!("{:08x}", since.as_micros() as u32),
        // Refreshes of later runs must have higher CSeqs than those of earlier ones.
        cseq0: since.as_millis() as u64 % 2_000_000_000,
    };

    match mode.as_str() {
        "register" | "call" | "message" | "forward" => {}
        "startup" if !cmd.is_empty() => return startup(&o, &cfg, &plan, &cmd),
        "flood" => {
            let path: String = o.get("flows", "");
            let flows = std::fs::read_to_string(&path)
                .unwrap_or_else(|e| fail(&format!("{path}: {e}")));
            let plan = flood::Plan {
                size: o.get("size", "172"),
                rate: plan.rate,
                window: o.get("window", "128"),
                warmup: o.get("warmup", "1"),
                duration: o.get("duration", "5"),
                pid: plan.pid,
                label: o.get("label", ""),
            };
            return flood::run(&flows, &plan).unwrap_or_else(|e| fail(&e.to_string()));
        }
        "mem" => {
            let m = procfs::mem_of_tree(plan.pid);
            println!(
                "{{\"label\":\"{}\",\"mode\":\"mem\",\"procs\":{},\"rss_kb\":{},\"pss_kb\":{}}}",
                o.get::<String>("label", ""),
                m.procs,
                m.rss_kb,
                m.pss_kb
            );
            return;
        }
        "dump" => {
            for (h, b) in [(run::REGISTER, ""), (run::INVITE, run::SDP)] {
                let c = [
                    ("TP", "UDP"),
                    ("tparam", ""),
                    ("local", "127.77.0.1:5070"),
                    ("contact", "127.77.0.1:5070"),
                    ("domain", &cfg.domain),
                    ("run", &cfg.run_id),
                ];
                let mut out = Vec::new();
                tmpl::Tmpl::new(h, b, &c).render(&mut out, &tmpl::Args::default());
                println!("{}\n[{} bytes]\n", String::from_utf8_lossy(&out), out.len());
            }
            return;
        }
        _ => {
            print!("{HELP}");
            return;
        }
    }

    let die = |e: std::io::Error| -> ! { fail(&e.to_string()) };
    // Callees register from the address they are reached at, as real phones do, and over the connection.
    let callees = matches!(mode.as_str(), "call" | "message").then(|| {
        let c = Cfg {
            local: cfg.contact,
            ..cfg.clone()
        };
        let opened = if cfg.tcp {
            net::tcp_connect_from(cfg.contact, cfg.server)
        } else {
            net::udp(cfg.contact, cfg.server)
        };
        let mut e = Eps::default();
        e.add(opened.unwrap_or_else(|e| die(e)), false);
        e.uacs = 1;
        let mut r = Run::new(Kind::Register, c);
        drive(
            &mut e,
            &mut r,
            Plan {
                rate: 0.0,
                window: 32,
                count: cfg.users,
                pid: 0,
                ..plan
            },
        );
        if r.c.done < cfg.users {
            eprintln!(
                "sipload: only {} of {} callees registered",
                r.c.done, cfg.users
            );
        }
        e
    });
    let eps = if has_uas {
        Eps::open_with_uas(&o, &cfg, callees)
    } else {
        Eps::open(&o, &cfg)
    };
    let mut eps = eps.unwrap_or_else(|e| die(e));
    let kind = match mode.as_str() {
        "register" => Kind::Register,
        "call" => Kind::Call,
        _ => Kind::Relay,
    };
    let mut run = Run::new(kind, cfg);
    let out = drive(&mut eps, &mut run, plan);
    report(&o, &mode, &plan, &run, &eps, &out);
}

fn report(o: &Opts, mode: &str, plan: &Plan, run: &Run, eps: &Eps, r: &Outcome) {
    let per = |ns: f64| {
        if r.done > 0 {
            ns / 1e3 / r.done as f64
        } else {
            0.0
        }
    };
    let c = &r.c;
    let mut s = format!(
        "{{\"label\":\"{}\",\"mode\":\"{mode}\",\"rate\":{},\"window\":{},\"secs\":{:.3},\
         \"done\":{},\"ops_s\":{:.0},\"started\":{},\"failed\":{},\"late\":{},\"lost\":{},\
         \"uas_dup\":{},\"uas_acks\":{},\"prov100\":{},\"challenges\":{},\"stray\":{}",
        o.get::<String>("label", ""),
        plan.rate,
        plan.window,
        r.secs,
        r.done,
        r.done as f64 / r.secs,
        c.started,
        c.failed,
        c.late,
        c.lost,
        c.uas_dup,
        c.uas_acks,
        c.prov100,
        c.challenges,
        c.stray
    );
    s += &format!(
        ",\"p50_us\":{:.1},\"p99_us\":{:.1},\"p999_us\":{:.1}",
        run.first.q_us(0.5),
        run.first.q_us(0.99),
        run.first.q_us(0.999)
    );
    if run.kind == Kind::Call {
        s += &format!(
            ",\"bye_p50_us\":{:.1},\"bye_p99_us\":{:.1}",
            run.bye.q_us(0.5),
            run.bye.q_us(0.99)
        );
    }
    if let Some((a, b)) = r.cpu {
        let ticks = (b.user_ticks - a.user_ticks + b.sys_ticks - a.sys_ticks).max(1) as f64;
        let cpu = (b.ns - a.ns) as f64;
        s += &format!(
            ",\"cpu_us_op\":{:.3},\"user_share\":{:.2},\"server_util\":{:.3}",
            per(cpu),
            (b.user_ticks - a.user_ticks) as f64 / ticks,
            cpu / 1e9 / r.secs
        );
        let m = procfs::mem_of_tree(plan.pid);
        s += &format!(",\"rss_kb\":{},\"pss_kb\":{}", m.rss_kb, m.pss_kb);
    }
    let ((b0, s0), (b1, s1)) = r.core;
    // SAFETY: sysconf has no preconditions.
    let hz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    s += &format!(
        ",\"core_us_op\":{:.3},\"steal\":{:.4},\"gen_us_op\":{:.3},\"gen_busy\":{:.3},\"gen_cpu\":{:.3},\"tx_again\":{}}}",
        per((b1 - b0) as f64 / hz * 1e9),
        (s1 - s0) as f64 / hz / r.secs,
        per(r.busy_ns as f64),
        r.busy_ns as f64 / 1e9 / r.secs,
        r.own_ns as f64 / 1e9 / r.secs,
        eps.tx.iter().map(|t| t.again).sum::<u64>()
    );
    println!("{s}");
}
