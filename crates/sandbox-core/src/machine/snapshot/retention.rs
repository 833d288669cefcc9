//! Which snapshots are kept.
//!
//! **Source**: restic's rule, restic-forget(1), "--keep-*": of each of the last *n* hours (days, weeks, …) that have a
//! snapshot the newest one is kept, one that any rule keeps is kept, and where a rule finds fewer than its number the
//! oldest of all is kept for it. btrbk.conf(5), "RETENTION POLICY", has the same letters.

use std::fmt;

use super::SnapshotError;

/// How many are kept, of which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Keep {
    /// The last ones, whenever they were taken.
    pub last: u32,
    /// One an hour.
    pub hourly: u32,
    /// One a day.
    pub daily: u32,
    /// One a week, which begins on Monday (ISO 8601).
    pub weekly: u32,
    /// One a month.
    pub monthly: u32,
    /// One a year.
    pub yearly: u32,
}

impl Keep {
    /// Reads a text such as `6h, 7d, 4w`.
    ///
    /// # Errors
    /// [`SnapshotError::Keep`].
    pub fn parse(text: &str) -> Result<Self, SnapshotError> {
        let wrong = || SnapshotError::Keep { text: text.to_owned() };
        let mut keep = Self::default();
        for word in text.split([',', ' ']).filter(|word| !word.is_empty()) {
            let (number, letter) =
                word.split_at(word.len() - word.chars().next_back().map_or(0, char::len_utf8));
            let number: u32 = number.parse().map_err(|_| wrong())?;
            let place = match letter {
                "l" => &mut keep.last,
                "h" => &mut keep.hourly,
                "d" => &mut keep.daily,
                "w" => &mut keep.weekly,
                "m" => &mut keep.monthly,
                "y" => &mut keep.yearly,
                _ => return Err(wrong()),
            };
            if *place != 0 || number == 0 {
                return Err(wrong());
            }
            *place = number;
        }
        if keep == Self::default() { Err(wrong()) } else { Ok(keep) }
    }

    fn rules(self) -> [(u32, &'static str, Bucket); 6] {
        [
            (self.last, "l", |second, _| second),
            (self.hourly, "h", |_, time| i64::from(time.hour()) + 24 * day(time)),
            (self.daily, "d", |_, time| day(time)),
            (self.weekly, "w", |_, time| {
                let week = time.date().iso_week_date();
                i64::from(week.year()) * 100 + i64::from(week.week())
            }),
            (self.monthly, "m", |_, time| i64::from(time.year()) * 12 + i64::from(time.month())),
            (self.yearly, "y", |_, time| i64::from(time.year())),
        ]
    }

    /// Tells of each of some moments, the oldest first, whether it is kept.
    #[must_use]
    pub fn kept(self, moments: &[i64]) -> Vec<bool> {
        let mut kept = vec![false; moments.len()];
        for (number, letter, bucket) in self.rules() {
            let mut left = number;
            let mut before = None;
            for (at, second) in moments.iter().enumerate().rev() {
                if left == 0 {
                    break;
                }
                let time = jiff::Timestamp::from_second(*second).unwrap_or_default();
                let time = time.to_zoned(jiff::tz::TimeZone::UTC);
                let this = bucket(*second, &time);
                if letter == "l" || before != Some(this) || at == 0 {
                    kept[at] = true;
                    left -= 1;
                }
                before = Some(this);
            }
        }
        kept
    }
}

/// Gives the number of what a moment falls into.
type Bucket = fn(i64, &jiff::Zoned) -> i64;

fn day(time: &jiff::Zoned) -> i64 {
    i64::from(time.year()) * 400 + i64::from(time.day_of_year())
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.rules();
        let words = rules.iter().filter(|(number, ..)| *number > 0);
        let words: Vec<_> = words.map(|(number, letter, _)| format!("{number}{letter}")).collect();
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of a time of a day in November 2026; the 23rd is a Monday.
    fn at(text: &str) -> i64 {
        format!("2026-{text}:00Z").parse::<jiff::Timestamp>().unwrap().as_second()
    }

    fn kept<'a>(keep: &str, moments: &[&'a str]) -> Vec<&'a str> {
        let seconds: Vec<_> = moments.iter().map(|text| at(text)).collect();
        let kept = Keep::parse(keep).unwrap().kept(&seconds);
        moments.iter().zip(kept).filter(|(_, kept)| *kept).map(|(text, _)| *text).collect()
    }

    #[test]
    fn a_text_is_read_and_written() {
        let keep = Keep::parse("6h, 7d,4w").unwrap();
        assert_eq!(keep, Keep { hourly: 6, daily: 7, weekly: 4, ..Keep::default() });
        assert_eq!(keep.to_string(), "6h, 7d, 4w");
        assert_eq!(Keep::parse("1l 2m 3y").unwrap().to_string(), "1l, 2m, 3y");
        for wrong in ["", "6", "h", "6x", "-1h", "1h,2h", "0d", "6h;7d", "1ä"] {
            Keep::parse(wrong).unwrap_err();
        }
    }

    #[test]
    fn the_newest_of_each_of_the_last_hours_that_have_one_is_kept() {
        // hours without one do not count
        let all = ["11-21T01:00", "11-21T03:10", "11-21T03:50", "11-21T09:00", "11-21T09:30"];
        assert_eq!(kept("2h", &all), ["11-21T03:50", "11-21T09:30"]);
        assert_eq!(kept("3l", &all), ["11-21T03:50", "11-21T09:00", "11-21T09:30"]);
    }

    #[test]
    fn what_any_rule_keeps_is_kept() {
        let all = ["11-19T22:00", "11-20T10:00", "11-20T23:00", "11-21T10:00", "11-21T11:00"];
        assert_eq!(kept("1h, 2d", &all), ["11-20T23:00", "11-21T11:00"]);
        assert_eq!(kept("2h, 2d", &all), ["11-20T23:00", "11-21T10:00", "11-21T11:00"]);
    }

    #[test]
    fn the_oldest_is_kept_where_there_are_fewer_than_wanted() {
        let all = ["11-21T09:00", "11-21T10:00", "11-21T11:00"];
        assert_eq!(kept("7d", &all), ["11-21T09:00", "11-21T11:00"]);
        assert_eq!(kept("1d", &all), ["11-21T11:00"]);
    }

    #[test]
    fn a_week_begins_on_monday_and_a_year_may_have_the_last_ones_week() {
        let all = ["11-15T12:00", "11-16T12:00", "11-22T12:00", "11-23T12:00"];
        assert_eq!(kept("2w", &all), ["11-22T12:00", "11-23T12:00"]);
        let years = ["2020-12-31T12:00:00Z", "2021-01-01T12:00:00Z"];
        let seconds = years.map(|text| text.parse::<jiff::Timestamp>().unwrap().as_second());
        assert_eq!(Keep::parse("1w").unwrap().kept(&seconds), [false, true], "both are in week 53 of 2020");
        assert_eq!(Keep::parse("2y").unwrap().kept(&seconds), [true, true]);
    }

    #[test]
    fn a_year_of_hourly_ones_is_thinned_to_what_was_asked_for() {
        let all: Vec<i64> = (0..24 * 365).map(|hour| at("01-01T00:30") + hour * 3600).collect();
        let kept = Keep::parse("6h, 7d, 4w").unwrap().kept(&all);
        let kept: Vec<i64> = all.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(at, _)| *at).collect();
        assert!((14..=16).contains(&kept.len()), "{}", kept.len());
        // thinned as they come, the same ones are left as when thinned at the end
        let mut running: Vec<i64> = Vec::new();
        for moment in &all {
            running.push(*moment);
            let keep = Keep::parse("6h, 7d, 4w").unwrap().kept(&running);
            let mut keep = keep.iter();
            running.retain(|_| *keep.next().unwrap());
        }
        assert_eq!(running, kept);
    }
}
