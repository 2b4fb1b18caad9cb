//! Shedding: what becomes of a directly ingested event when room gets short.
//!
//! Owns the one decision between taking an event, letting its sender wait, and refusing
//! it. Events of Kafka never come here: their partitions pause.
//!
//! Rules:
//! - Each priority may fill the pool and the ring up to a bound of its own: the last one
//!   up to the configured threshold, the middle one half of the way from there to the
//!   top, priority 0 all of it. So the least urgent go first, and what they fill is never
//!   the room that priority 0 needs.
//! - Beyond its bound a sheddable event is refused; another one waits. Priority 0 is
//!   never sheddable.

use crate::ring::PRIORITIES;

/// What to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// There is room.
    Take,
    /// There is none now: its sender is held back.
    Wait,
    /// There is none, and its class may be refused.
    Shed,
}

/// The bounds of each priority, in chunks of the pool and in descriptors of the ring.
#[derive(Debug, Clone)]
pub struct Shedding {
    chunks: [u64; PRIORITIES],
    descriptors: [u64; PRIORITIES],
    sheddable_from: u8,
}

impl Shedding {
    /// Bounds for a pool and a ring of a size.
    ///
    /// `above` is the share, 0 to 1, at which the least urgent class is shed;
    /// `priority_at_least` the first sheddable priority, 1 or 2.
    pub fn new(above: f64, priority_at_least: u8, chunks: u64, descriptors: u64) -> Shedding {
        let shares = [1.0, f64::midpoint(above, 1.0), above];
        let bounds = |size: u64| shares.map(|share| ((size as f64 * share) as u64).clamp(1, size));
        Shedding {
            chunks: bounds(chunks),
            descriptors: bounds(descriptors),
            sheddable_from: priority_at_least.max(1),
        }
    }

    /// Decides about an event of a priority while so many chunks and descriptors are in use.
    pub fn admit(&self, priority: u8, chunks: u64, descriptors: u64) -> Admission {
        let class = usize::from(priority).min(PRIORITIES - 1);
        if chunks < self.chunks[class] && descriptors < self.descriptors[class] {
            Admission::Take
        } else if priority >= self.sheddable_from {
            Admission::Shed
        } else {
            Admission::Wait
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_urgent_class_goes_first_and_priority_zero_only_ever_waits() {
        let shedding = Shedding::new(0.8, 1, 1000, 100);
        let verdicts =
            |chunks, descriptors| [0, 1, 2].map(|class| shedding.admit(class, chunks, descriptors));
        use Admission::{Shed, Take, Wait};
        assert_eq!(verdicts(0, 0), [Take, Take, Take]);
        assert_eq!(verdicts(799, 79), [Take, Take, Take]);
        assert_eq!(verdicts(800, 0), [Take, Take, Shed], "the pool passes the threshold");
        assert_eq!(verdicts(0, 80), [Take, Take, Shed], "the ring passes the threshold");
        assert_eq!(verdicts(900, 0), [Take, Shed, Shed]);
        assert_eq!(verdicts(0, 90), [Take, Shed, Shed]);
        assert_eq!(verdicts(1000, 0), [Wait, Shed, Shed]);
        assert_eq!(verdicts(0, 100), [Wait, Shed, Shed]);
    }

    #[test]
    fn a_class_that_is_not_sheddable_waits_at_its_bound_and_leaves_the_rest_to_priority_zero() {
        let shedding = Shedding::new(0.8, 2, 1000, 1000);
        assert_eq!(shedding.admit(1, 900, 0), Admission::Wait);
        assert_eq!(shedding.admit(2, 900, 0), Admission::Shed);
        assert_eq!(shedding.admit(0, 900, 0), Admission::Take);
    }

    #[test]
    fn a_threshold_of_one_sheds_only_what_finds_no_room_at_all() {
        let shedding = Shedding::new(1.0, 1, 64, 64);
        assert_eq!(shedding.admit(2, 63, 63), Admission::Take);
        assert_eq!(
            [0, 1, 2].map(|class| shedding.admit(class, 64, 0)),
            [Admission::Wait, Admission::Shed, Admission::Shed]
        );
    }
}
