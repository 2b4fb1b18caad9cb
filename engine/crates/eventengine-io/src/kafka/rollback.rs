//! How long a rollback takes: from the demand until every owned partition runs again from what is committed.
//!
//! Owns the time of the one that is under way. Partitions that were lost are rolled back by their next owner: with
//! none left there is nothing to time. Pure: times come in as arguments.

use std::time::{Duration, Instant};

/// The rollback that is under way, if there is one.
#[derive(Debug, Default)]
pub struct RollbackTimer(Option<Instant>);

impl RollbackTimer {
    /// A rollback was demanded. A further demand before the end prolongs the one that is under way.
    pub fn begin(&mut self, now: Instant) {
        self.0.get_or_insert(now);
    }

    /// Tells how long the rollback took, once, when all owned partitions run.
    pub fn end(&mut self, now: Instant, running: impl IntoIterator<Item = bool>) -> Option<Duration> {
        let begun = self.0?;
        let mut owned = 0;
        for runs in running {
            if !runs {
                return None;
            }
            owned += 1;
        }
        self.0 = None;
        (owned > 0).then(|| now.duration_since(begun))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rollback_lasts_from_the_first_demand_until_all_partitions_run() {
        let begun = Instant::now();
        let mut timer = RollbackTimer::default();
        assert_eq!(timer.end(begun, [true]), None, "none is under way");
        timer.begin(begun);
        assert_eq!(timer.end(begun + SECOND, [true, false]), None);
        timer.begin(begun + SECOND);
        assert_eq!(timer.end(begun + 2 * SECOND, [true, true]), Some(2 * SECOND));
        assert_eq!(timer.end(begun + 3 * SECOND, [true, true]), None, "it is told once");
    }

    #[test]
    fn partitions_that_were_lost_leave_nothing_to_time() {
        let begun = Instant::now();
        let mut timer = RollbackTimer::default();
        timer.begin(begun);
        assert_eq!(timer.end(begun, []), None);
        assert_eq!(timer.end(begun + SECOND, [true]), None, "partitions that come later are no rollback");
    }
}
