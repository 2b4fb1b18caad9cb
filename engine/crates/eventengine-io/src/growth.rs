//! Growth of resident memory over a window that slides.
//!
//! Owns the comparison: the least memory of the window's last tenth less the least of its first tenth. What comes and
//! goes within a tenth therefore doesn't count, and what stays does. Nothing is said before the window is full, nor
//! while a reading is missing. Pure: readings and times come in as arguments.

use std::collections::VecDeque;

use serde::Serialize;

/// Points that a window has at most.
const POINTS_MAX: u64 = 600;

/// Parts of the window that are compared: the first and the last of so many.
const PARTS: usize = 10;

/// Growth over a whole window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GrowthPart {
    /// Length of the window.
    pub window_seconds: u64,
    /// Bytes that were added, negative if memory was given back.
    pub growth_bytes: i64,
    /// The same as a share of the memory at the window's beginning.
    pub growth_ratio: f64,
}

/// A window over readings, one a second.
#[derive(Debug)]
pub struct Growth {
    window_seconds: u64,
    spacing_seconds: u64,
    points: VecDeque<u64>,
    open: Option<(u64, u64)>,
}

impl Growth {
    /// An empty window of so many seconds, at least ten.
    pub fn new(window_seconds: u64) -> Growth {
        let window_seconds = window_seconds.max(PARTS as u64);
        let spacing_seconds = window_seconds.div_ceil(POINTS_MAX);
        Growth { window_seconds, spacing_seconds, points: VecDeque::new(), open: None }
    }

    /// Takes a reading; `second` rises. Tells the growth if the window is full.
    pub fn observe(&mut self, second: u64, bytes: Option<u64>) -> Option<GrowthPart> {
        let Some(bytes) = bytes else {
            self.points.clear();
            self.open = None;
            return None;
        };
        let place = second / self.spacing_seconds;
        match &mut self.open {
            Some((open, least)) if *open == place => *least = bytes.min(*least),
            Some((_, least)) => {
                self.points.push_back(*least);
                self.open = Some((place, bytes));
            }
            None => self.open = Some((place, bytes)),
        }
        let wanted = (self.window_seconds / self.spacing_seconds) as usize;
        while self.points.len() > wanted {
            self.points.pop_front();
        }
        if self.points.len() < wanted {
            return None;
        }
        let tenth = (wanted / PARTS).max(1);
        let first = self.points.iter().take(tenth).min()?;
        let last = self.points.iter().rev().take(tenth).min()?;
        let growth_bytes = last.cast_signed() - first.cast_signed();
        Some(GrowthPart {
            window_seconds: self.window_seconds,
            growth_bytes,
            growth_ratio: if *first == 0 { 0.0 } else { growth_bytes as f64 / *first as f64 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: u64 = 1 << 20;

    fn after(growth: &mut Growth, seconds: u64, bytes: impl Fn(u64) -> u64) -> Option<GrowthPart> {
        (0..seconds).map(|second| growth.observe(second, Some(bytes(second)))).last().flatten()
    }

    #[test]
    fn nothing_is_said_before_the_window_is_full() {
        let mut growth = Growth::new(60);
        assert_eq!(after(&mut growth, 60, |_| MEBIBYTE), None);
        assert!(growth.observe(60, Some(MEBIBYTE)).is_some());
    }

    #[test]
    fn memory_that_stays_as_it_is_has_not_grown_and_a_leak_has() {
        let flat = after(&mut Growth::new(300), 400, |_| 50 * MEBIBYTE);
        assert_eq!(flat, Some(GrowthPart { window_seconds: 300, growth_bytes: 0, growth_ratio: 0.0 }));
        let leak = after(&mut Growth::new(300), 400, |second| 100 * MEBIBYTE + second * MEBIBYTE);
        let leak = leak.expect("the window is full");
        // From the beginning of the first tenth to the beginning of the last one.
        assert_eq!(leak.growth_bytes, 270 * MEBIBYTE as i64);
        assert!(leak.growth_ratio > 1.0);
        let shrunk = after(&mut Growth::new(300), 400, |second| (1000 - second) * MEBIBYTE);
        assert!(shrunk.is_some_and(|growth| growth.growth_bytes < 0 && growth.growth_ratio < 0.0));
    }

    #[test]
    fn what_comes_and_goes_within_a_tenth_does_not_count() {
        let spikes =
            after(
                &mut Growth::new(100),
                200,
                |second| {
                    if second % 9 == 0 { 90 * MEBIBYTE } else { 50 * MEBIBYTE }
                },
            );
        assert_eq!(spikes.map(|growth| growth.growth_bytes), Some(0));
    }

    #[test]
    fn a_missing_reading_begins_the_window_anew() {
        let mut growth = Growth::new(10);
        assert!(after(&mut growth, 20, |_| MEBIBYTE).is_some());
        assert_eq!(growth.observe(20, None), None);
        assert_eq!(growth.observe(21, Some(MEBIBYTE)), None);
    }

    #[test]
    fn a_day_has_no_more_points_than_an_hour_may_have() {
        let mut growth = Growth::new(86_400);
        let told = after(&mut growth, 86_400 + 200, |second| 50 * MEBIBYTE + second);
        assert!(growth.points.len() as u64 <= POINTS_MAX);
        assert!(told.is_some_and(|growth| growth.growth_bytes > 70_000 && growth.window_seconds == 86_400));
    }
}
