//! Numbers, times and strangers' texts as people read them.

use std::time::Duration;

use crate::session::{Durations, Turns};

/// `text` without what could break a line or recolour a terminal: names and comments are a stranger's.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Bytes, with three digits: `1.23 GiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in UNITS {
        // Rounded to three digits it would be 1024 of the smaller unit.
        if value < 1023.5 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    let digits = match value {
        _ if unit == "B" => 0,
        small if small < 9.995 => 2,
        medium if medium < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// Bytes per second.
pub(super) fn rate(bytes: u64) -> String {
    size(bytes) + "/s"
}

/// What `bytes` in `time` are per second; 0 if that was too short to tell.
pub(super) fn average(bytes: u64, time: Duration) -> u64 {
    // A float that is too large for the integer becomes the largest one.
    if time < Duration::from_millis(1) { 0 } else { (bytes as f64 / time.as_secs_f64()) as u64 }
}

/// A time in its two largest units: `3 min 20 s`.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds < 10 && time.subsec_millis() > 0 => format!("{:.1} s", time.as_secs_f64()),
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// `part` of `whole` in percent, never rounded up to 100.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if part >= whole {
        // Of what is not known yet nothing is there.
        return if whole == 0 { "0 %" } else { "100 %" }.to_owned();
    }
    format!("{:.1} %", (part as f64 / whole as f64 * 1000.0).floor() / 10.0)
}

/// How long the network thread was held by its turns.
pub(super) fn turns(turns: &Turns) -> String {
    let spans = |spans: &Durations| {
        let ms = |span: Duration| span.as_secs_f64() * 1e3;
        let (most, longest) = (ms(spans.most_of(0.99)), ms(spans.longest()));
        format!("99 % below {most:.2} ms, the longest {longest:.2} ms")
    };
    let (count, cpu, wall) = (turns.wall.count(), spans(&turns.cpu), spans(&turns.wall));
    format!("{count} turns of the network thread; CPU: {cpu}; by the clock: {wall}")
}

/// A number of things: `1 piece`, `2 pieces`.
pub(super) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A moment in seconds since 1970 as date and time (UTC, Gregorian). `None` if it is not in the years 0 to 9999.
pub(super) fn date(seconds: i64) -> Option<String> {
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    if !(-719_528..2_932_897).contains(&days) {
        return None;
    }
    // Years begin in March here, so that the leap day is the last; an era of 400 years always has 146,097 days.
    let since_march_0000 = days + 719_468;
    let (era, day) = (since_march_0000.div_euclid(146_097), since_march_0000.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next_year;
    Some(format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", of_day / 3_600, of_day / 60 % 60))
}

/// Numbers in ascending order as a list of ranges: `1, 3-5`.
pub(super) fn ranges(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        only => only.iter().map(u32::to_string).collect(),
    });
    runs.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_the_right_unit() {
        let sizes = [0, 1023, 1024, 1_000_000, 1_048_575, 1 << 30, 12_900_000_000, u64::MAX].map(size);
        assert_eq!(
            sizes,
            ["0 B", "1023 B", "1.00 KiB", "977 KiB", "1.00 MiB", "1.00 GiB", "12.0 GiB", "16.0 EiB"]
        );
    }

    #[test]
    fn times_show_two_units() {
        let times = [0.25, 7.0, 12.9, 200.0, 7_300.0, 90_000.0].map(|t| time(Duration::from_secs_f64(t)));
        assert_eq!(times, ["0.2 s", "7 s", "12 s", "3 min 20 s", "2 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn nothing_is_complete_before_it_is() {
        assert_eq!([percent(0, 0), percent(5, 5), percent(9_999, 10_000)], ["0 %", "100 %", "99.9 %"]);
    }

    #[test]
    fn dates_are_right_across_leap_years() {
        let dates = [0, 951_782_400, 1_612_610_340, -1, 253_402_300_799].map(|s| date(s).unwrap());
        let expected = [
            "1970-01-01 00:00",
            "2000-02-29 00:00",
            "2021-02-06 11:19",
            "1969-12-31 23:59",
            "9999-12-31 23:59",
        ];
        assert_eq!(dates, expected.map(|date| format!("{date} UTC")));
        assert_eq!((date(i64::MAX), date(i64::MIN)), (None, None));
    }

    #[test]
    fn ranges_join_neighbours() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[1, 3, 4, 5, 9]), "1, 3-5, 9");
    }

    #[test]
    fn a_strangers_text_cannot_move_the_cursor() {
        assert_eq!(plain("a\x1b[2Jb\nc\u{9b}d"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d");
    }
}
