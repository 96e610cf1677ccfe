//! What happens when time passes and nothing comes: handshakes again, retransmission, probes, silence, giving up.

use super::connection::{Connection, Cork, Ctx};
use super::endpoint::{ConnError, Fallback, Keepalive};
use super::subflow::{State, Subflow};
use crate::tcp::sender::Fired;
use crate::time::{Duration, Instant};

/// SYNs that carry MP_CAPABLE before one goes without (note F1: Linux repeats it twice).
pub(super) const CAPABLE_SYNS: u8 = 3;
/// SYNs after which the time between them doubles.
pub(super) const LINEAR_SYNS: u8 = 4;
/// SYNs of a join; a dead path is tried again by path management, not by patience.
const JOIN_SYNS: u8 = 2;
const SYNACKS: u8 = 6;
/// A silent path is tried this often at least while others work, so that a mended one is used again.
const REVIVE: Duration = Duration::from_secs(3);
/// Beyond round trip and variance: what a peer's ACK may be late by, without and with delayed acknowledgments.
const DEAD_MARGIN: Duration = Duration::from_millis(10);
const DEAD_MARGIN_ALONE: Duration = Duration::from_millis(100);
/// Unanswered timeouts after which a subflow is given up when others work.
const MAX_RTOS: u32 = 8;
/// RFC 1122 section 4.2.3.5: R2 for an established connection.
const GIVE_UP: Duration = Duration::from_secs(15 * 60);
/// The same for a window probe of a connection that its program has closed.
const ORPHAN_PROBES: Duration = Duration::from_secs(120);
const DATA_RTO_MIN: Duration = Duration::from_millis(200);
const DATA_RTO_MAX: Duration = Duration::from_secs(60);

impl Connection {
    /// The earliest time at which something is to be done.
    pub(super) fn timeout(&self) -> Option<Instant> {
        let own = [
            self.data_timer,
            self.persist,
            self.corked_until(),
            self.give_up,
            self.fail_deadline,
            self.addresses.timeout(),
        ];
        let mut earliest = own.into_iter().flatten().min();
        let mut note = |t: Option<Instant>| {
            earliest = match (earliest, t) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            }
        };
        for sf in &self.subflows {
            note(sf.handshake.timer);
            note(sf.tx.timer());
            note(sf.tx.paced_until());
            note(self.dead_at(sf));
            note(sf.rx.ack_at());
            note(sf.join_ack_timer);
            note(sf.deadline);
            note(self.keepalive_at(sf));
            note(self.silence_at(sf));
        }
        earliest
    }

    /// Names of the timers that are due, for whoever looks for one that stays so.
    pub(super) fn due_timers(&self, now: Instant) -> Vec<&'static str> {
        let mut all = vec![
            ("data", self.data_timer),
            ("persist", self.persist),
            ("cork", self.corked_until()),
            ("give up", self.give_up),
            ("MP_FAIL", self.fail_deadline),
            ("addresses", self.addresses.timeout()),
        ];
        for sf in &self.subflows {
            all.extend([
                ("handshake", sf.handshake.timer),
                ("retransmission", sf.tx.timer()),
                ("pacing", sf.tx.paced_until()),
                ("dead path", self.dead_at(sf)),
                ("delayed ACK", sf.rx.ack_at()),
                ("third ACK", sf.join_ack_timer),
                ("deadline", sf.deadline),
                ("keepalive", self.keepalive_at(sf)),
                ("silence", self.silence_at(sf)),
            ]);
        }
        let due = all.into_iter().filter(|(_, at)| at.is_some_and(|at| at <= now));
        due.map(|(name, _)| name).collect()
    }

    pub(super) fn handle_timeout(&mut self, ctx: &mut Ctx<'_>) {
        for index in (0..self.subflows.len()).rev() {
            if self.error.is_some() && self.subflows.is_empty() {
                break;
            }
            if index < self.subflows.len() {
                self.subflow_timers(ctx, index);
            }
        }
        if self.error.is_some() {
            return;
        }
        self.connection_timers(ctx);
        if self.error.is_none() {
            self.addresses_due(ctx);
        }
    }

    fn addresses_due(&mut self, ctx: &mut Ctx<'_>) {
        if self.addresses.timeout().is_some_and(|t| t <= ctx.now) {
            self.evaluate_paths(ctx);
            self.addresses.settle(ctx.now);
        }
    }

    // ---- one subflow ------------------------------------------------------------------------------------------

    fn subflow_timers(&mut self, ctx: &mut Ctx<'_>, index: usize) {
        let now = ctx.now;
        let due = |t: Option<Instant>| t.is_some_and(|t| t <= now);
        if due(self.subflows[index].handshake.timer) {
            self.handshake_timeout(ctx, index);
            return;
        }
        if due(self.subflows[index].deadline) {
            // FIN_WAIT2, or a removed address, waited long enough.
            self.subflow_lost(ctx, index, ConnError::TimedOut);
            return;
        }
        let sf = &mut self.subflows[index];
        sf.rx.on_timer(now);
        sf.tx.on_pace_timer(now);
        if due(sf.join_ack_timer) {
            // RFC 8684 section 3.2: the third ACK of a join is repeated until the fourth comes.
            sf.join_ack_timer = Some(now + sf.tx.rtt.rto() * (1 << u32::from(sf.handshake.sent).min(6)));
            sf.handshake.sent = sf.handshake.sent.saturating_add(1);
            if sf.handshake.sent > JOIN_SYNS + 6 {
                self.addresses.on_join_failed(now, &self.subflows[index], None);
                self.release(ctx, index, None);
                return;
            }
            sf.rx.demand_ack();
        }
        match self.subflows[index].tx.on_timer(now) {
            Some(Fired::Probe) => self.subflows[index].tlp_now = true,
            Some(Fired::Reorder) => self.reinject_lost(index),
            Some(Fired::Rto) if !self.on_rto(ctx, index) => return,
            _ => {}
        }
        if self.dead_at(&self.subflows[index]).is_some_and(|t| t <= now) {
            self.subflows[index].stalled = true;
            self.reinject_stalled(index);
        }
        if self.keepalive_at(&self.subflows[index]).is_some_and(|t| t <= now) && !self.on_keepalive(ctx, index) {
            return;
        }
        if self.silence_at(&self.subflows[index]).is_some_and(|t| t <= now) {
            self.on_silence(ctx, index);
        }
    }

    fn handshake_timeout(&mut self, ctx: &mut Ctx<'_>, index: usize) {
        let sf = &mut self.subflows[index];
        let limit = match (sf.state, sf.join) {
            (State::SynSent, Some(_)) => JOIN_SYNS,
            // Linux: the linear repetitions come on top.
            (State::SynSent, None) => self.options.syn_retries.saturating_add(LINEAR_SYNS),
            _ => SYNACKS,
        };
        let patience = self
            .options
            .syn_patience
            .filter(|_| sf.state == State::SynSent && sf.join.is_none());
        let patient = patience.is_none_or(|p| ctx.now < sf.handshake.since + p);
        if sf.handshake.sent < limit && patient {
            sf.handshake.send_now = true;
            sf.handshake.timer = None;
            return;
        }
        let first = sf.join.is_none();
        if !first {
            self.addresses.on_join_failed(ctx.now, &self.subflows[index], None);
        }
        self.release(ctx, index, None);
        if first {
            let error = self.soft_error.map_or(ConnError::TimedOut, ConnError::Unreachable);
            self.break_with(ctx, error, None);
        }
    }

    /// When a subflow that others can stand in for counts as dead: what it sent long ago is not acknowledged, nor anything else since. Its
    /// data goes to the others then; a retransmission timeout would take far longer. It is used again as soon as it answers.
    fn dead_at(&self, sf: &Subflow) -> Option<Instant> {
        if self.subflows.len() < 2
            || sf.stalled
            || !self.multipath()
            || self.error.is_some()
            || !sf.state.synchronized()
        {
            return None;
        }
        let (oldest, several) = sf.tx.oldest_in_flight()?;
        let srtt = sf.tx.rtt.srtt()?;
        let others = self.subflows.iter().any(|s| s.id != sf.id && s.usable() && !s.stalled);
        if !others {
            return None;
        }
        let delayed_ack = if several { DEAD_MARGIN } else { DEAD_MARGIN_ALONE };
        let wait = srtt * 3 / 2 + sf.tx.rtt.rttvar().unwrap_or_default() * 2 + delayed_ack;
        Some(oldest.max(sf.tx.last_delivery) + wait)
    }

    /// A retransmission timeout. False when the subflow is gone.
    fn on_rto(&mut self, ctx: &mut Ctx<'_>, index: usize) -> bool {
        let others = self.multipath() && self.others_alive(index);
        let patience = self.options.user_timeout.unwrap_or(GIVE_UP);
        let sf = &mut self.subflows[index];
        if !others && ctx.now.since(sf.tx.last_progress) >= patience {
            // RFC 1122 section 4.2.3.5: R2, also for a peer that acknowledges data but never the subflow.
            self.subflow_lost(ctx, index, ConnError::TimedOut);
            return false;
        }
        if let (false, Some(patience)) = (others, self.options.user_timeout) {
            // RFC 5482: what is left of it, also when the next repetition would come later.
            let over = sf.tx.last_progress + patience;
            sf.tx.cap_timer(ctx.now, over.since(ctx.now));
        }
        if others {
            let fresh = !sf.stalled;
            sf.stalled = true;
            sf.tx.cap_timer(ctx.now, REVIVE);
            if sf.tx.consecutive_rtos > MAX_RTOS {
                self.addresses.on_join_failed(ctx.now, &self.subflows[index], None);
                self.release(ctx, index, None);
                return false;
            }
            if fresh {
                self.reinject_stalled(index);
            }
        }
        true
    }

    pub(super) fn others_alive(&self, index: usize) -> bool {
        self.subflows
            .iter()
            .enumerate()
            .any(|(i, s)| i != index && s.usable() && !s.stalled)
    }

    // ---- keepalive --------------------------------------------------------------------------------------------

    fn keepalive_at(&self, sf: &Subflow) -> Option<Instant> {
        let Keepalive { idle, interval, .. } = self.options.keepalive?;
        if !sf.is_up() || !sf.tx.is_idle() || self.error.is_some() {
            return None;
        }
        Some(match sf.keepalive_sent {
            Some(at) => at + interval,
            None => sf.rx.last_arrival + idle,
        })
    }

    /// RFC 9293 section 3.8.4. False when the subflow is gone.
    fn on_keepalive(&mut self, ctx: &mut Ctx<'_>, index: usize) -> bool {
        let count = self.options.keepalive.map_or(u8::MAX, |k| k.count);
        let patience = self.options.user_timeout;
        let sf = &mut self.subflows[index];
        // With TCP_USER_TIMEOUT it is that which decides (tcp(7)).
        let dead = match patience {
            Some(patience) => sf.keepalive_probes > 0 && ctx.now.since(sf.rx.last_arrival) >= patience,
            None => sf.keepalive_probes >= count,
        };
        if dead {
            self.subflow_lost(ctx, index, ConnError::TimedOut);
            return false;
        }
        sf.keepalive_probes = sf.keepalive_probes.saturating_add(1);
        sf.keepalive_sent = Some(ctx.now);
        sf.probe_now = true;
        true
    }

    // ---- silence of a path that data is missing from ----------------------------------------------------------

    /// A receiver that waits for a gap to be filled, while a path that used to bring data is silent, asks that path.
    fn silence_at(&self, sf: &Subflow) -> Option<Instant> {
        let asks = self.multipath()
            && self.inc.buf.has_gap()
            && self.inc.fin.is_none_or(|f| f != self.inc.buf.nxt())
            && sf.got_payload
            && sf.is_up()
            && !sf.close_queued
            // REMOVE_ADDR ends every subflow of an address: another one from the same address may be well.
            && !self.subflows.iter().any(|s| s.id != sf.id && s.local_id == sf.local_id);
        if !asks || !self.subflows.iter().any(|s| s.id != sf.id && s.usable() && !s.stalled) {
            return None;
        }
        let srtt = sf.tx.rtt.srtt().unwrap_or(Duration::from_millis(100));
        // Two probes, so that one may be lost, and the time that an answer takes.
        let wait = match sf.silence_probes {
            0 => (srtt * 3 / 2).max(Duration::from_millis(40)),
            1 => (srtt / 2).max(Duration::from_millis(20)),
            _ => (srtt * 3 / 2 + sf.tx.rtt.rttvar().unwrap_or_default() * 4).max(Duration::from_millis(60)),
        };
        Some(sf.silence_at.unwrap_or(sf.rx.last_arrival) + wait)
    }

    fn on_silence(&mut self, ctx: &mut Ctx<'_>, index: usize) {
        let sf = &mut self.subflows[index];
        if sf.silence_probes < 2 {
            sf.silence_probes += 1;
            sf.silence_at = Some(ctx.now);
            sf.probe_now = true;
            sf.probe_with_byte = true;
        } else {
            self.give_up_path(ctx, index);
        }
    }

    // ---- the connection ---------------------------------------------------------------------------------------

    fn connection_timers(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.now;
        let due = |t: Option<Instant>| t.is_some_and(|t| t <= now);
        if due(self.give_up) {
            if self.is_orphan() {
                // Without a word, as Linux's FIN_WAIT2 ends (net/ipv4/tcp_minisocks.c tcp_time_wait): a reader who has not come to the end yet would find a
                // reset there. What the peer says later is answered by one.
                self.break_with(ctx, ConnError::TimedOut, None);
            } else {
                self.abort_with(ctx, ConnError::TimedOut);
            }
            return;
        }
        if due(self.fail_deadline) {
            // note S4: MP_FAIL was not answered.
            self.abort_with(ctx, ConnError::Aborted);
            return;
        }
        if due(self.corked_until()) {
            self.out.cork = Cork::Expired;
        }
        if due(self.data_timer) {
            self.on_data_timer(ctx);
        }
        if due(self.persist) {
            self.on_persist(ctx);
        }
    }

    fn corked_until(&self) -> Option<Instant> {
        match self.out.cork {
            Cork::Until(at) if self.error.is_none() => Some(at),
            _ => None,
        }
    }

    fn abort_with(&mut self, ctx: &mut Ctx<'_>, error: ConnError) {
        let reset = super::subflow::Reset {
            fastclose: true,
            ..super::input::reset_reason(0)
        };
        self.break_with(ctx, error, Some(reset));
    }

    /// Something is sent, or ended, and not acknowledged at data level.
    fn outstanding(&self) -> bool {
        self.out.una != self.out.nxt || (self.fin_ready() && !self.out.fin_acked)
    }

    /// Keeps the connection's own timers in step with its state; called after every change.
    pub(super) fn arm_timers(&mut self, now: Instant) {
        if self.error.is_some() || !self.established {
            return;
        }
        if !self.outstanding() {
            self.data_timer = None;
        } else if self.data_timer.is_none() {
            self.data_timer = Some(self.data_timer_at(now + self.data_rto()));
        }
        let blocked =
            self.out.nxt != self.out.buf.end() && self.out.edge.le(self.out.nxt) && self.out.una == self.out.nxt;
        if !blocked {
            self.persist = None;
        } else if self.persist.is_none() {
            self.persist_since = now;
            self.persist = Some(now + self.data_rto().min(DATA_RTO_MAX));
        }
        if self.subflows.iter().any(|s| s.is_up()) {
            if !self.detached {
                self.give_up = None;
            }
        } else if self.give_up.is_none() {
            // No subflow: the peer may open one, or path management; not for ever (RFC 8684 section 3.3.6).
            self.give_up = Some(now + super::connection::ORPHAN);
        }
    }

    /// Not after the moment when TCP_USER_TIMEOUT (RFC 5482) is over.
    fn data_timer_at(&self, at: Instant) -> Instant {
        let patience = self.options.user_timeout;
        patience.map_or(at, |patience| at.min(self.out.progress_at + patience))
    }

    fn data_rto(&self) -> Duration {
        let slowest = self
            .subflows
            .iter()
            .filter(|s| s.is_up() && !s.stalled)
            .map(|s| s.tx.rtt.rto())
            .max();
        let base = slowest.unwrap_or(super::subflow::INITIAL_RTO).max(DATA_RTO_MIN);
        (base * (1 << self.data_backoff.min(8))).min(DATA_RTO_MAX)
    }

    /// The DATA_ACK did not move (note D5): the DATA_FIN again, or the first missing data on any subflow.
    fn on_data_timer(&mut self, ctx: &mut Ctx<'_>) {
        self.data_timer = None;
        let limit = self.options.user_timeout.unwrap_or(GIVE_UP);
        if self.outstanding() && ctx.now.since(self.out.progress_at) >= limit {
            self.abort_with(ctx, ConnError::TimedOut);
            return;
        }
        // Progress came after the timer was set.
        let at = self.out.progress_at + self.data_rto();
        if at > ctx.now {
            self.data_timer = Some(self.data_timer_at(at));
            return;
        }
        self.data_backoff += 1;
        if !self.multipath() {
            return;
        }
        if self.data_backoff == 1 {
            // What came before we asked says nothing about an answer: the client's keys arrive twice at the start.
            self.bare_run = 0;
        }
        if self.bare_run >= 2 && self.out.acked == 0 && self.data_backoff >= 3 && !self.no_way_back {
            // Not even the DATA_FIN is answered at data level, though the subflow may be: as plain TCP then.
            self.fall_back(ctx, Fallback::OptionsStripped, true);
            self.update_close(ctx);
            return;
        }
        if self.out.una == self.out.nxt {
            self.data_fin_due = true;
            if self.data_backoff >= 2 {
                // A bare acknowledgment is not answered when its DSS was removed on the way; one below the window is.
                for sf in self.subflows.iter_mut().filter(|s| s.usable()) {
                    sf.probe_now = true;
                }
            }
            return;
        }
        let idle = self.subflows.iter().all(|s| s.tx.is_idle() || s.stalled);
        if idle && self.out.reinject.is_empty() && self.subflows.iter().any(|s| s.usable()) {
            let to = (self.out.una + 1400).min(self.out.nxt);
            let Some(holder) = self.subflows.first().map(|s| s.id) else {
                return;
            };
            self.out.queue_again(self.out.una, to, holder);
            self.no_way_back = true;
        }
    }

    /// RFC 9293 section 3.8.6.1: the window is closed; ask whether it opened.
    fn on_persist(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.now;
        // RFC 1122 section 4.2.2.17: for as long as the probes are answered, and no longer.
        let heard = self
            .subflows
            .iter()
            .map(|s| s.rx.last_arrival)
            .max()
            .unwrap_or(self.out.progress_at);
        let silent = now.since(heard.max(self.persist_since));
        let too_long = self
            .options
            .user_timeout
            .is_some_and(|t| now.since(self.persist_since) >= t);
        if too_long || silent >= if self.detached { ORPHAN_PROBES } else { GIVE_UP } {
            self.abort_with(ctx, ConnError::TimedOut);
            return;
        }
        self.persist_backoff += 1;
        let wait = (self.data_rto() * (1 << self.persist_backoff.min(8))).min(DATA_RTO_MAX);
        self.persist = Some(now + wait);
        if let Some(sf) = self.subflows.iter_mut().find(|s| s.usable() && !s.stalled) {
            sf.probe_now = true;
        }
    }
}
