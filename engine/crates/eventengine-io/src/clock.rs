//! The clocks: monotonic for intervals, wall clock for the seconds at which samples are closed; and how precisely a
//! thread's sleeps end.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds on the monotonic clock. Answered without a system call.
pub fn monotonic_nanoseconds() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid clock and a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Lets the calling thread's sleeps end as precisely as the kernel can; by its default they may take 50 microseconds more.
pub fn sleep_precisely() {
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64, 0_u64, 0_u64, 0_u64) };
}

/// Nanoseconds since 1970.
pub fn wall_nanoseconds() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

/// Whole seconds since 1970.
pub fn wall_seconds() -> i64 {
    (wall_nanoseconds() / 1_000_000_000) as i64
}

/// A second since 1970 as RFC 3339 text in UTC.
pub fn rfc3339(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400);
    let second_of_day = seconds.rem_euclid(86_400);
    // Days are counted from 1 March of year 0, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Nanoseconds since 1970 as RFC 3339 text in UTC, with milliseconds.
pub fn rfc3339_milliseconds(nanoseconds: u128) -> String {
    let mut text = rfc3339((nanoseconds / 1_000_000_000) as i64);
    text.truncate(text.len() - 1);
    format!("{text}.{:03}Z", nanoseconds / 1_000_000 % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates_over_leap_years_and_centuries() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_795_255_200), "2026-11-21T10:00:00Z");
        assert_eq!(rfc3339(4_107_542_399), "2100-02-28T23:59:59Z");
        assert_eq!(rfc3339(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn milliseconds_are_cut_and_not_rounded() {
        assert_eq!(rfc3339_milliseconds(1_795_255_200_009_999_999), "2026-11-21T10:00:00.009Z");
        assert_eq!(rfc3339_milliseconds(0), "1970-01-01T00:00:00.000Z");
    }
}
