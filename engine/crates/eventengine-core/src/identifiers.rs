//! Identifiers of high cardinality, such as players: who was seen lately, in bounded memory.
//!
//! Owns a table of fingerprints in buckets of eight. An identifier lives for a time after
//! it was last seen; then its place is free again. Where more are alive than a bucket
//! holds, the one that was seen longest ago makes way. So neither the texts nor their
//! number ever grow memory, and no look-up compares more than eight places.
//!
//! What is in the table depends on time and on this process alone. It feeds figures and
//! must never feed state or outputs: a new owner of a partition could not repeat it.
//!
//! A fingerprint has 64 bits. Among a million identifiers that are alive, two are taken for
//! one with a probability below one in ten million.

use crate::histogram::Histogram;
use crate::prefetch;
use crate::region::Region;
use crate::stats::Counter;

/// Places that one look-up compares.
const WAYS: usize = 8;

/// Times that the whole table is looked through for expired identifiers within a lifetime, while there are look-ups.
const SWEEPS_PER_LIFETIME: u64 = 4;

/// Buckets that one look-up looks through at most, when it is time.
const SWEPT_PER_LOOKUP: usize = 2;

/// Buckets that are looked through at once while there is nothing else to do.
const SWEPT_AT_REST: usize = 64;

/// One look-up of so many is timed: reading the clock takes as long as the look-up.
const TIMED_ONE_IN: u64 = 64;

/// An identifier's text or number, reduced to what is kept of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of a number.
    pub fn of_number(number: u64) -> Fingerprint {
        Fingerprint::of_words(std::iter::once(number), 1)
    }

    /// Of a text.
    pub fn of_text(text: &[u8]) -> Fingerprint {
        let words = text.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        Fingerprint::of_words(words, (text.len() as u64) << 8)
    }

    /// Zero is no fingerprint: it marks a free place.
    fn of_words(words: impl Iterator<Item = u64>, start: u64) -> Fingerprint {
        Fingerprint(
            words.fold(mix(start), |sum, word| mix(sum ^ word).wrapping_add(sum.rotate_left(23))).max(1),
        )
    }
}

/// A bijection of 64 bits in which every input bit moves about half of the output bits (Stafford's variant 13).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[derive(Debug, Clone, Copy)]
struct Place {
    fingerprint: u64,
    seen_at_nanoseconds: u64,
}

const FREE: Place = Place { fingerprint: 0, seen_at_nanoseconds: 0 };

/// Figures of the table, written by the one thread that owns it.
#[derive(Debug, Default)]
pub struct IdentifierStats {
    /// Places.
    pub capacity: Counter,
    /// Places taken.
    pub in_use: Counter,
    /// Look-ups that found their identifier alive.
    pub hits: Counter,
    /// Look-ups of identifiers that were new, or new again.
    pub misses: Counter,
    /// Identifiers that were not seen for their lifetime.
    pub expired: Counter,
    /// Identifiers that made way for others while they were alive.
    pub evicted: Counter,
    /// Nanoseconds of a look-up, one in 64 of them.
    pub lookup: Histogram,
}

/// How a table is made.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Identifiers at most; rounded up to a power of two of buckets.
    pub capacity: u32,
    /// How long an identifier lives after it was last seen.
    pub lifetime_nanoseconds: u64,
    /// Makes the buckets unpredictable from outside.
    pub seed: u64,
    /// Where the time of a look-up is read.
    pub clock: fn() -> u64,
}

/// The table.
pub struct Identifiers {
    places: Region<[Place; WAYS]>,
    lifetime_nanoseconds: u64,
    seed: u64,
    clock: fn() -> u64,
    in_use: u64,
    lookups: u64,
    hand: usize,
    /// Time between two buckets that are looked through.
    sweep_interval_nanoseconds: u64,
    swept_at_nanoseconds: u64,
}

impl Identifiers {
    /// An empty table; all its memory is allocated here.
    pub fn new(settings: Settings) -> Identifiers {
        let buckets = (settings.capacity as usize).div_ceil(WAYS).next_power_of_two();
        Identifiers {
            places: Region::filled(buckets, [FREE; WAYS]),
            lifetime_nanoseconds: settings.lifetime_nanoseconds,
            seed: settings.seed,
            clock: settings.clock,
            in_use: 0,
            lookups: 0,
            hand: 0,
            sweep_interval_nanoseconds: settings.lifetime_nanoseconds / SWEEPS_PER_LIFETIME / buckets as u64,
            swept_at_nanoseconds: 0,
        }
    }

    /// Identifiers that it has room for.
    pub fn capacity(&self) -> u64 {
        (self.places.len() * WAYS) as u64
    }

    /// Fetches the places of an identifier that is going to be seen.
    #[inline]
    pub fn prefetch(&self, fingerprint: Fingerprint) {
        let places = &self.places[self.bucket_of(fingerprint)];
        prefetch::to_write(&raw const places[0]);
        prefetch::to_write(&raw const places[WAYS / 2]);
    }

    /// An identifier was seen; says whether it was alive.
    pub fn see(&mut self, fingerprint: Fingerprint, now_nanoseconds: u64, stats: &IdentifierStats) -> bool {
        self.lookups += 1;
        let timed = self.lookups.is_multiple_of(TIMED_ONE_IN);
        let started = if timed { (self.clock)() } else { 0 };
        let hit = self.look_up(fingerprint, now_nanoseconds, stats);
        if timed {
            stats.lookup.record((self.clock)().saturating_sub(started));
        }
        let outcome = if hit { &stats.hits } else { &stats.misses };
        outcome.add(1);
        if !hit {
            self.tell(stats);
        }
        self.sweep_if_due(now_nanoseconds, stats);
        hit
    }

    /// Frees expired places, a bounded number at a time; for when nothing is seen.
    pub fn rest(&mut self, now_nanoseconds: u64, stats: &IdentifierStats) {
        self.sweep(SWEPT_AT_REST.min(self.places.len()), now_nanoseconds, stats);
    }

    fn look_up(&mut self, fingerprint: Fingerprint, now: u64, stats: &IdentifierStats) -> bool {
        let bucket = self.bucket_of(fingerprint);
        let lifetime = self.lifetime_nanoseconds;
        let places = &mut self.places[bucket];
        let seen = Place { fingerprint: fingerprint.0, seen_at_nanoseconds: now };
        if let Some(place) = places.iter_mut().find(|place| place.fingerprint == fingerprint.0) {
            let alive = is_alive(place, now, lifetime);
            stats.expired.add(u64::from(!alive));
            place.seen_at_nanoseconds = now.max(place.seen_at_nanoseconds);
            return alive;
        }
        // A free place is of time zero, so it goes before any other.
        let Some(oldest) = places.iter_mut().min_by_key(|place| place.seen_at_nanoseconds) else {
            return false;
        };
        if oldest.fingerprint == 0 {
            self.in_use += 1;
        } else if is_alive(oldest, now, lifetime) {
            stats.evicted.add(1);
        } else {
            stats.expired.add(1);
        }
        *oldest = seen;
        false
    }

    /// The number of buckets is a power of two.
    fn bucket_of(&self, fingerprint: Fingerprint) -> usize {
        mix(fingerprint.0 ^ self.seed) as usize & (self.places.len() - 1)
    }

    fn sweep_if_due(&mut self, now: u64, stats: &IdentifierStats) {
        let passed = now.saturating_sub(self.swept_at_nanoseconds);
        if passed < self.sweep_interval_nanoseconds {
            return;
        }
        // After a long time without look-ups the sweep doesn't run after what it has missed: those are found by `rest`.
        let due = if passed < 2 * self.sweep_interval_nanoseconds { 1 } else { SWEPT_PER_LOOKUP };
        self.swept_at_nanoseconds = now;
        self.sweep(due.min(self.places.len()), now, stats);
    }

    fn tell(&self, stats: &IdentifierStats) {
        stats.in_use.set(self.in_use);
        stats.capacity.set(self.capacity());
    }

    fn sweep(&mut self, buckets: usize, now: u64, stats: &IdentifierStats) {
        for _ in 0..buckets {
            let lifetime = self.lifetime_nanoseconds;
            for place in &mut self.places[self.hand] {
                if place.fingerprint != 0 && !is_alive(place, now, lifetime) {
                    *place = FREE;
                    self.in_use -= 1;
                    stats.expired.add(1);
                }
            }
            self.hand = (self.hand + 1) & (self.places.len() - 1);
        }
        self.tell(stats);
    }
}

fn is_alive(place: &Place, now: u64, lifetime: u64) -> bool {
    now.saturating_sub(place.seen_at_nanoseconds) < lifetime
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn table(capacity: u32, lifetime_nanoseconds: u64) -> (Identifiers, IdentifierStats) {
        let settings = Settings { capacity, lifetime_nanoseconds, seed: 5, clock: || 7 };
        (Identifiers::new(settings), IdentifierStats::default())
    }

    proptest! {
        /// A table with room for all is a map of times; a small one forgets, and never remembers too much.
        #[test]
        fn it_behaves_like_a_map_of_when_each_was_seen(
            looks in proptest::collection::vec((0..60_u64, 0..40_u64), 0..400),
            small in any::<bool>(),
        ) {
            const LIFETIME: u64 = 300;
            let (mut table, stats) = table(if small { 16 } else { 4096 }, LIFETIME);
            let mut model: BTreeMap<u64, u64> = BTreeMap::new();
            let mut now = 1;
            for (number, later) in looks {
                now += later;
                let alive = model.insert(number, now).is_some_and(|seen| now - seen < LIFETIME);
                let hit = table.see(Fingerprint::of_number(number), now, &stats);
                prop_assert!(alive || !hit, "{number} was not seen for its lifetime");
                prop_assert!(hit || !alive || stats.evicted.get() > 0);
                prop_assert!(stats.in_use.get() <= table.capacity());
            }
            let entered = stats.misses.get();
            for _ in 0..table.places.len() {
                table.rest(now, &stats);
            }
            let alive = model.values().filter(|seen| now - **seen < LIFETIME).count() as u64;
            prop_assert!(stats.in_use.get() == alive || stats.evicted.get() > 0 && stats.in_use.get() < alive);
            prop_assert_eq!(entered, stats.in_use.get() + stats.expired.get() + stats.evicted.get());
        }
    }

    #[test]
    fn a_million_identifiers_leave_memory_and_the_last_seen_as_they_are() {
        let (mut table, stats) = table(1000, u64::MAX);
        assert_eq!(table.capacity(), 1024);
        for number in 0..1_000_000_u64 {
            table.see(Fingerprint::of_text(format!("player-{number}").as_bytes()), 1 + number, &stats);
        }
        assert_eq!((stats.in_use.get(), stats.misses.get()), (1024, 1_000_000));
        assert_eq!(stats.evicted.get(), 1_000_000 - 1024);
        assert!(table.see(Fingerprint::of_text(b"player-999999"), 1_000_001, &stats));
        assert!(!table.see(Fingerprint::of_text(b"player-0"), 1_000_001, &stats));
    }

    #[test]
    fn texts_that_differ_in_length_or_in_one_byte_are_different() {
        let texts: [&[u8]; 7] = [b"", b"\0", b"\0\0", b"a", b"a\0", b"abcdefgh", b"abcdefgh\0"];
        for (place, text) in texts.iter().enumerate() {
            for other in &texts[..place] {
                assert_ne!(Fingerprint::of_text(text), Fingerprint::of_text(other), "{text:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_busy_table_frees_what_expired_without_looking_through_it_again_and_again() {
        const LIFETIME: u64 = 1_000_000;
        let (mut table, stats) = table(1024, LIFETIME);
        for number in 0..500 {
            table.see(Fingerprint::of_number(number), 1, &stats);
        }
        let held = stats.in_use.get();
        for now in 1..2 * LIFETIME {
            table.see(Fingerprint::of_number(0), now, &stats);
            if now == LIFETIME / 2 {
                assert_eq!(stats.in_use.get(), held, "all of them are alive");
            }
        }
        assert_eq!(stats.in_use.get(), 1, "only one was seen lately");
    }

    #[test]
    fn one_look_up_of_many_is_timed() {
        let (mut table, stats) = table(64, 10);
        for number in 0..640 {
            table.see(Fingerprint::of_number(number), 1, &stats);
        }
        let mut counts = crate::histogram::Counts::default();
        stats.lookup.read(&mut counts);
        assert_eq!(counts.total(), 10);
    }
}
