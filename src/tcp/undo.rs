//! Was a recovery needless? Two signs: the ACK echoes a timestamp from before the first retransmission, so the original arrived (Eifel,
//! RFC 3522, with F-RTO's aim, RFC 5682, where there are timestamps); or D-SACKs say of everything sent again that it came twice (RFC 3708).
//!
//! What follows of it (window, marks) is the sender's and the congestion control's.

use crate::time::{Duration, Instant};

/// What was sent again since a recovery began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Episode {
    first_repeat: Option<Instant>,
    /// Segments sent again of which no D-SACK has come.
    unanswered: u32,
    /// Something to take back.
    open: bool,
}

impl Episode {
    /// Recovery begins.
    pub fn begin() -> Episode {
        Episode {
            open: true,
            ..Episode::default()
        }
    }

    /// A segment is sent again.
    pub fn on_retransmitted(&mut self, now: Instant) {
        if self.open {
            self.first_repeat.get_or_insert(now);
            self.unanswered += 1;
        }
    }

    /// An ACK of new data echoes the time `sent_at` (milliseconds are exact). True: it is the original's.
    pub fn echoes_original(&self, sent_at: Option<Instant>) -> bool {
        match (self.open, self.first_repeat, sent_at) {
            (true, Some(repeat), Some(sent)) => sent + Duration::from_millis(1) <= floor_ms(repeat),
            _ => false,
        }
    }

    /// A D-SACK for one segment. True: it was the last one that was missing.
    pub fn on_dsack(&mut self) -> bool {
        let all = self.open && self.first_repeat.is_some() && self.unanswered == 1;
        self.unanswered = self.unanswered.saturating_sub(1);
        all
    }

    /// It was taken back, or nothing can be any more.
    pub fn close(&mut self) {
        self.open = false;
    }
}

fn floor_ms(at: Instant) -> Instant {
    Instant::from_millis(at.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated_at(ms: u64, times: u32) -> Episode {
        let mut episode = Episode::begin();
        (0..times).for_each(|_| episode.on_retransmitted(Instant::from_millis(ms)));
        episode
    }

    #[test]
    fn only_an_echo_from_before_the_first_repeat_is_the_original() {
        let episode = repeated_at(100, 2);
        let echo = |ms| episode.echoes_original(Some(Instant::from_millis(ms)));
        assert!(echo(99) && !echo(100) && !echo(101));
        assert!(!episode.echoes_original(None));
        assert!(
            !Episode::begin().echoes_original(Some(Instant::ZERO)),
            "nothing was repeated"
        );
    }

    #[test]
    fn the_last_of_the_d_sacks_decides() {
        let mut episode = repeated_at(100, 2);
        assert!(!episode.on_dsack());
        assert!(episode.on_dsack());
        assert!(!episode.on_dsack());
    }

    #[test]
    fn a_closed_episode_says_nothing() {
        let mut episode = repeated_at(100, 1);
        episode.close();
        assert!(!episode.echoes_original(Some(Instant::ZERO)) && !episode.on_dsack());
    }
}
