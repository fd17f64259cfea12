//! The sound of a scripted phone: a socket that speaks a tone in G.711 to whom it is told to, and records what it hears.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::SOON;
use crate::tone::{self, mulaw_sample, mulaw_sine};
use crate::wait::eventually;

/// Samples of a packet: 20 ms.
const FRAME: usize = 160;
/// Sound is judged over this much.
const HEARD_SECONDS: usize = 2;

/// It speaks until dropped.
#[derive(Debug)]
pub struct Voice {
    socket: Arc<UdpSocket>,
    shared: Arc<Shared>,
    tone_hz: f64,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    to: Mutex<Option<SocketAddr>>,
    heard: Mutex<Vec<u8>>,
    done: AtomicBool,
}

impl Voice {
    /// At this address of the machine; it is silent until [`Voice::talk_to`].
    pub fn at(host: impl Into<IpAddr>, tone_hz: f64) -> Voice {
        let socket = Arc::new(UdpSocket::bind((host.into(), 0)).expect("a socket for sound"));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time limit");
        let shared = Arc::new(Shared::default());
        let (ears, mouth) = ((Arc::clone(&socket), Arc::clone(&shared)), (Arc::clone(&socket), Arc::clone(&shared)));
        let threads = vec![
            std::thread::spawn(move || hear(&ears.0, &ears.1)),
            std::thread::spawn(move || speak(&mouth, tone_hz)),
        ];
        Voice { socket, shared, tone_hz, threads }
    }

    /// The frequency it speaks with.
    pub fn tone_hz(&self) -> f64 {
        self.tone_hz
    }

    /// A description of it: one stream of PCMU.
    pub fn sdp(&self) -> String {
        let local = self.socket.local_addr().expect("a bound socket");
        let family = if local.is_ipv4() { "IP4" } else { "IP6" };
        let (ip, port) = (local.ip(), local.port());
        format!(
            "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
             a=rtpmap:0 PCMU/8000\r\n"
        )
    }

    /// Speaks to whoever this description is of, unless it is of a family of addresses that the socket cannot send to.
    #[track_caller]
    pub fn talk_to(&self, description: &[u8]) {
        let text = String::from_utf8_lossy(description);
        let value =
            |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix)).expect("a stream").to_owned();
        let host: IpAddr = value("c=").rsplit(' ').next().and_then(|host| host.parse().ok()).expect("an address");
        let port = value("m=audio ").split(' ').next().and_then(|port| port.parse().ok()).expect("a port");
        let local = self.socket.local_addr().expect("a bound socket");
        *self.shared.to.lock().expect("its place") =
            (local.is_ipv4() == host.is_ipv4()).then_some(SocketAddr::new(host, port));
    }

    /// Forgets what it has heard.
    pub fn forget(&self) {
        self.shared.heard.lock().expect("its memory").clear();
    }

    /// Waits until something was heard for some seconds, and fails the test unless it was this tone.
    #[track_caller]
    pub fn assert_hears(&self, wanted_hz: f64) {
        self.assert_hears_not(wanted_hz, self.tone_hz);
    }

    /// The same, and fails unless another tone is far below it.
    #[track_caller]
    pub fn assert_hears_not(&self, wanted_hz: f64, unwanted_hz: f64) {
        let needed = HEARD_SECONDS * 8_000;
        eventually(SOON, "sound at a scripted phone", || self.shared.heard.lock().expect("its memory").len() >= needed);
        let heard = self.shared.heard.lock().expect("its memory").clone();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("heard.wav");
        tone::write_samples(&path, 8_000, heard.into_iter().map(mulaw_sample));
        tone::assert_heard("a scripted phone", &path, wanted_hz, Some(unwanted_hz));
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn hear(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 1500];
    while !shared.done.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        // Version 2, PCMU, no extensions: what phones here send.
        if let [0x80, payload_type, _, _, _, _, _, _, _, _, _, _, sound @ ..] = &buffer[..length]
            && payload_type & 0x7f == 0
        {
            shared.heard.lock().expect("its memory").extend(sound);
        }
    }
}

fn speak((socket, shared): &(Arc<UdpSocket>, Arc<Shared>), tone_hz: f64) {
    let sound = mulaw_sine(tone_hz, 1);
    let source = u32::from(socket.local_addr().expect("a bound socket").port());
    for (number, frame) in (0_u32..).zip(sound.chunks_exact(FRAME).cycle()) {
        if shared.done.load(Ordering::Relaxed) {
            return;
        }
        let to = *shared.to.lock().expect("its place");
        if let Some(to) = to {
            let mut packet = vec![0x80, 0];
            packet.extend(&number.to_be_bytes()[2..]);
            packet.extend((number * 160).to_be_bytes());
            packet.extend(source.to_be_bytes());
            packet.extend(frame);
            // Nobody may listen there yet.
            let _ = socket.send_to(&packet, to);
        }
        // What a phone sends: a packet each 20 ms.
        std::thread::sleep(Duration::from_millis(20));
    }
}
