//! Alerts: limits of `monitoring` that were crossed, counted, logged and shown in the snapshot.
//!
//! Owns the names, which are the contract's, and the bound on log lines: one a minute for each alert, which tells how
//! many there were since the line before. An alert never stops anything.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::log::{self, Level};
use crate::shared::lock;

/// Least time between two log lines of one alert.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alert {
    /// The arena's holes exceed `arena.fragmentationThreshold`.
    ArenaFragmentation,
    /// The core thread did not go on for longer than `monitoring.gcPauseAlertMs`.
    CoreStall,
    /// A rollback took longer than `monitoring.rollbackSlaMs`.
    RollbackSla,
    /// Resident memory grew over `monitoring.rssFlatnessWindow` by more than `monitoring.rssGrowthAlertRatio`.
    RssGrowth,
}

impl Alert {
    /// All of them, in the order of their names.
    pub const ALL: [Alert; 4] =
        [Alert::ArenaFragmentation, Alert::CoreStall, Alert::RollbackSla, Alert::RssGrowth];

    /// The name in metrics, logs and snapshot.
    pub fn name(self) -> &'static str {
        match self {
            Alert::ArenaFragmentation => "arena_fragmentation",
            Alert::CoreStall => "core_stall",
            Alert::RollbackSla => "rollback_sla",
            Alert::RssGrowth => "rss_growth",
        }
    }
}

/// What became of one alert since the engine started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AlertPart {
    /// How often the limit was crossed.
    pub total: u64,
    /// When it was last seen, in Unix time.
    pub last_at_seconds: Option<i64>,
    /// What was said then.
    pub last_message: Option<String>,
}

#[derive(Debug, Default)]
struct Entry {
    part: AlertPart,
    logged_at: Option<Instant>,
    logged_total: u64,
}

/// The alerts of one engine.
#[derive(Debug, Default)]
pub struct Alerts([Mutex<Entry>; Alert::ALL.len()]);

impl Alerts {
    /// A limit was crossed so many times since this was called last.
    pub fn raise(&self, alert: Alert, times: u64, message: &str, wall_seconds: i64, now: Instant) {
        if times == 0 {
            return;
        }
        let untold = {
            let mut entry = lock(&self.0[alert as usize]);
            entry.part.total += times;
            entry.part.last_at_seconds = Some(wall_seconds);
            entry.part.last_message = Some(message.to_owned());
            if entry.logged_at.is_some_and(|at| now.duration_since(at) < LOG_INTERVAL) {
                return;
            }
            entry.logged_at = Some(now);
            let untold = entry.part.total - entry.logged_total;
            entry.logged_total = entry.part.total;
            untold
        };
        let fields: Map<String, Value> =
            [("alert".to_owned(), alert.name().into()), ("times".to_owned(), untold.into())]
                .into_iter()
                .collect();
        log::write(Level::Warning, "alerts", message, fields);
    }

    /// All alerts by name, those that never were included.
    pub fn parts(&self) -> BTreeMap<&'static str, AlertPart> {
        Alert::ALL
            .into_iter()
            .map(|alert| (alert.name(), lock(&self.0[alert as usize]).part.clone()))
            .collect()
    }

    #[cfg(test)]
    fn logged(&self, alert: Alert) -> u64 {
        lock(&self.0[alert as usize]).logged_total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crossing_is_counted_and_the_last_one_is_told() {
        let alerts = Alerts::default();
        let now = Instant::now();
        alerts.raise(Alert::CoreStall, 0, "never", 1, now);
        assert_eq!(alerts.parts()["core_stall"], AlertPart::default());
        alerts.raise(Alert::CoreStall, 2, "7 ms", 10, now);
        alerts.raise(Alert::CoreStall, 1, "9 ms", 11, now);
        let part = alerts.parts()["core_stall"].clone();
        assert_eq!((part.total, part.last_at_seconds), (3, Some(11)));
        assert_eq!(part.last_message.as_deref(), Some("9 ms"));
        assert_eq!(alerts.parts()["rss_growth"].total, 0);
    }

    #[test]
    fn an_alert_is_logged_at_most_once_a_minute_and_then_tells_of_all() {
        let alerts = Alerts::default();
        let begun = Instant::now();
        alerts.raise(Alert::RollbackSla, 1, "", 0, begun);
        assert_eq!(alerts.logged(Alert::RollbackSla), 1);
        alerts.raise(Alert::RollbackSla, 5, "", 0, begun + LOG_INTERVAL - Duration::from_millis(1));
        assert_eq!(alerts.logged(Alert::RollbackSla), 1);
        alerts.raise(Alert::RollbackSla, 1, "", 0, begun + LOG_INTERVAL);
        assert_eq!(alerts.logged(Alert::RollbackSla), 7);
    }

    #[test]
    fn the_names_are_in_the_order_of_the_variants() {
        let names: Vec<_> = Alerts::default().parts().into_keys().collect();
        assert_eq!(names, Alert::ALL.map(Alert::name));
        assert!(Alert::ALL.into_iter().enumerate().all(|(index, alert)| alert as usize == index));
    }
}
