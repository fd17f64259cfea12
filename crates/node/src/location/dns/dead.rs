//! Servers that did not answer: left alone for 0.5 s, doubling to 5 min, forgotten when they answer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Server;

/// How long a server that failed once is left alone.
const FIRST: Duration = Duration::from_millis(500);
/// The longest that a server is left alone.
const LONGEST: Duration = Duration::from_secs(300);
/// Failed servers remembered; whoever makes the node try more than this loses the oldest memories first.
const MAX_DEAD: usize = 4096;

/// The servers that failed lately.
#[derive(Debug, Default)]
pub(crate) struct DeadServers {
    dead: HashMap<Server, Failure>,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    until: Instant,
    pause: Duration,
}

impl DeadServers {
    /// A server could not be reached. A further failure counts only when its pause was over: calls that failed together
    /// are one failure.
    pub(crate) fn failed(&mut self, now: Instant, server: Server) {
        let pause = match self.dead.get(&server) {
            Some(failure) if now < failure.until => return,
            Some(failure) => (failure.pause * 2).min(LONGEST),
            None => FIRST,
        };
        if self.dead.len() >= MAX_DEAD && !self.dead.contains_key(&server) {
            let oldest = self.dead.iter().min_by_key(|(server, failure)| (failure.until, **server));
            if let Some(oldest) = oldest.map(|(server, _)| *server) {
                self.dead.remove(&oldest);
            }
        }
        self.dead.insert(server, Failure { until: now + pause, pause });
    }

    /// A server answered: whatever it did before is forgotten.
    pub(crate) fn answered(&mut self, server: Server) {
        self.dead.remove(&server);
    }

    /// Leaves out those whose pause is not over. When that would be all, the one due first is kept: a caller who waits
    /// is better served by one more attempt than by none.
    pub(crate) fn sift(&self, now: Instant, servers: Vec<Server>) -> Vec<Server> {
        let until = |server: &Server| self.dead.get(server).map(|failure| failure.until).filter(|until| *until > now);
        let live: Vec<Server> = servers.iter().copied().filter(|server| until(server).is_none()).collect();
        if live.is_empty() { servers.into_iter().min_by_key(until).into_iter().collect() } else { live }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use meshtone_sip::transport::Transport;

    use super::*;

    fn server(number: u8) -> Server {
        Server { transport: Transport::Udp, address: ([192, 0, 2, number], 5060).into() }
    }

    #[test]
    fn the_pause_doubles_from_half_a_second_to_five_minutes() {
        let mut dead = DeadServers::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            dead.failed(now, server(1));
            let start = now;
            while dead.sift(now, vec![server(1), server(2)]).len() == 1 {
                now += Duration::from_millis(500);
            }
            pauses.push((now - start).as_millis());
        }
        assert_eq!(pauses[..4], [500, 1000, 2000, 4000]);
        assert_eq!(pauses[9..], [256_000, 300_000, 300_000]);
    }

    #[test]
    fn an_answer_makes_it_as_good_as_new() {
        let (mut dead, now) = (DeadServers::default(), Instant::now());
        dead.failed(now, server(1));
        dead.failed(now + FIRST, server(1));
        dead.answered(server(1));
        assert_eq!(dead.sift(now + FIRST, vec![server(1), server(2)]).len(), 2);
        dead.failed(now + FIRST, server(1));
        assert_eq!(dead.sift(now + FIRST * 2, vec![server(1), server(2)]).len(), 2);
    }

    #[test]
    fn many_calls_failing_together_count_once() {
        let (mut dead, now) = (DeadServers::default(), Instant::now());
        for _ in 0..10 {
            dead.failed(now, server(1));
        }
        assert_eq!(dead.sift(now + FIRST, vec![server(1), server(2)]).len(), 2);
    }

    #[test]
    fn when_all_are_dead_the_one_due_first_is_tried() {
        let (mut dead, now) = (DeadServers::default(), Instant::now());
        dead.failed(now, server(2));
        dead.failed(now + Duration::from_millis(1), server(1));
        assert_eq!(dead.sift(now + Duration::from_millis(2), vec![server(1), server(2)]), [server(2)]);
    }

    #[test]
    fn the_memory_is_bounded() {
        let (mut dead, now) = (DeadServers::default(), Instant::now());
        for port in 1..=5000 {
            dead.failed(now, Server { transport: Transport::Udp, address: ([192, 0, 2, 1], port).into() });
        }
        assert_eq!(dead.dead.len(), MAX_DEAD);
    }
}
