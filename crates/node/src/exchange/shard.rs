//! A worker behind its lock. Whoever brings a message runs the worker at once, so that no message waits for another thread to
//! wake up; one task for each worker brings what comes of itself: timers, and the answers of look-ups.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meshtone_sip::message::{Message, ParseError};
use meshtone_sip::transport::Flow;
use tokio::sync::{Notify, mpsc};

use super::overload::Load;
use super::worker::{Input, Worker};
use crate::transport::{Outbox, Transports};

/// Inputs that its own task takes in one go before others have their turn.
const BATCH: usize = 64;

/// How late a timer may fire, so that a thousand of them do not wake the processor a thousand times. The shortest timer of SIP,
/// 100 (Trying), has 200 ms.
const TIMER_SLACK: Duration = Duration::from_millis(10);

/// How often a worker tidies up.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(5);

/// One worker, shared by all who bring it something.
pub(crate) struct Shard {
    state: Mutex<State>,
    transports: Arc<Transports>,
    /// Wakes the task when a timer is due earlier than it sleeps.
    earlier: Notify,
}

struct State {
    worker: Worker,
    alarm: Alarm,
}

/// Until when the task sleeps; `None` for as long as nothing comes.
#[derive(Debug, Default)]
struct Alarm(Option<Instant>);

impl Alarm {
    /// Takes note of the next timer; whether the task has to be woken for it, as it sleeps too long. Asked once for each timer: who
    /// brings more meanwhile need not wake it again.
    fn is_too_late(&mut self, next_timeout: Option<Instant>) -> bool {
        let next = next_timeout.map(|at| at + TIMER_SLACK);
        let is_too_late = next.is_some_and(|next| self.0.is_none_or(|until| next < until));
        if is_too_late {
            self.0 = next;
        }
        is_too_late
    }

    /// Until when the task may sleep. A timer that is due keeps its time, however often the task is woken before that.
    fn set(&mut self, next_timeout: Option<Instant>) -> Option<Instant> {
        self.0 = next_timeout.map(|at| at + TIMER_SLACK);
        self.0
    }
}

impl Shard {
    pub(crate) fn new(worker: Worker) -> Arc<Shard> {
        let transports = worker.exchange.transports.clone();
        let state = State { worker, alarm: Alarm::default() };
        Arc::new(Shard { state: Mutex::new(state), transports, earlier: Notify::new() })
    }

    /// Handles a message that arrived. The load is how far behind is who brought it; `None` where that is not measured.
    /// What is to be sent over UDP is in the outbox then.
    pub(crate) fn message(&self, flow: Flow, message: Message, load: Option<Load>, outbox: &mut Outbox) {
        self.with(outbox, |worker| worker.on_message(flow, message, load));
    }

    /// Handles something that is not a message, and what of it could be read.
    pub(crate) fn bad(&self, flow: Flow, error: &ParseError, partial: Option<Message>, outbox: &mut Outbox) {
        self.with(outbox, |worker| worker.on_bad(flow, error, partial));
    }

    /// Works until the inbox closes.
    pub(crate) async fn run(self: Arc<Self>, mut inbox: mpsc::Receiver<Input>) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING_EVERY);
        self.run_once(Worker::begin);
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                input = inbox.recv() => {
                    let Some(input) = input else { return };
                    self.run_once(|worker| {
                        worker.on_input(input);
                        for _ in 1..BATCH {
                            let Ok(input) = inbox.try_recv() else { break };
                            worker.on_input(input);
                        }
                    });
                }
                () = wait_until(deadline) => self.run_once(Worker::on_timeout),
                () = self.earlier.notified() => {}
                _ = housekeeping.tick() => self.run_once(Worker::on_housekeeping),
            }
        }
    }

    /// Lets the worker do something, and sends what comes of it.
    fn run_once(&self, run: impl FnOnce(&mut Worker)) {
        let mut outbox = Outbox::default();
        self.with(&mut outbox, run);
        self.transports.send_all(&mut outbox);
    }

    fn with(&self, outbox: &mut Outbox, run: impl FnOnce(&mut Worker)) {
        let mut state = self.lock();
        run(&mut state.worker);
        outbox.append(&mut state.worker.outbox);
        let next = state.worker.next_timeout();
        let is_too_late = state.alarm.is_too_late(next);
        drop(state);
        if is_too_late {
            self.earlier.notify_one();
        }
    }

    /// When the task has to fire timers, of which it takes note.
    fn next_deadline(&self) -> Option<Instant> {
        let mut state = self.lock();
        let next = state.worker.next_timeout();
        state.alarm.set(next)
    }

    /// A panic in one request leaves a worker that may be odd, but a node without it would be dead.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_timer_that_is_due_fires_in_time_however_much_comes_meanwhile() {
        let due = Instant::now();
        let mut alarm = Alarm::default();
        let until = alarm.set(Some(due));
        assert_eq!(until, Some(due + TIMER_SLACK));
        for _ in 0..100 {
            // A message arrives, and leaves that timer the next one.
            assert!(!alarm.is_too_late(Some(due)), "the task knows");
            assert_eq!(alarm.set(Some(due)), until, "and nothing that wakes it puts the timer off");
        }
    }

    #[test]
    fn the_task_is_woken_once_for_each_timer_that_is_earlier() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        assert!(!alarm.is_too_late(None));
        assert!(alarm.is_too_late(Some(start + 500 * MS)));
        assert!(!alarm.is_too_late(Some(start + 500 * MS)), "it was woken, and has not looked yet");
        assert!(alarm.is_too_late(Some(start + 200 * MS)));
        assert!(!alarm.is_too_late(Some(start + 300 * MS)));
        assert!(!alarm.is_too_late(None));
        alarm.set(Some(start + 300 * MS));
        assert!(alarm.is_too_late(Some(start + 200 * MS)));
    }
}
