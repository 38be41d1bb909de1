//! Cron schedules, as `CronJob.spec.schedule` writes them: five fields, or `@daily` and the like.
//!
//! The grammar is that of robfig/cron's standard parser, which Kubernetes uses: lists, ranges,
//! steps, names of months and days. If both the day of the month and the day of the week are
//! restricted, either is enough. A time that a change of the clocks skips does not happen; one that
//! it repeats happens once. `@every` is refused: it has no meaning on a calendar.

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan as _};

/// No schedule is looked for further ahead: the 29th of February comes within eight years.
const HORIZON_DAYS: usize = 8 * 366;

/// What is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("expected exactly 5 fields, found {0}")]
    Fields(usize),
    #[error("failed to parse {0}")]
    Value(String),
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("end of range ({1}) out of bounds or before its beginning: {0}")]
    Range(String, u32),
}

/// A set of numbers below 64, and whether it was written as a star.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    bits: u64,
    is_star: bool,
}

impl Field {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.bits >> number & 1 == 1)
    }

    fn numbers(self) -> impl Iterator<Item = i8> {
        (0..60).filter(move |number| self.has(*number))
    }
}

/// A parsed schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl std::str::FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            text if text.starts_with('@') => return Err(Error::Descriptor(text.to_owned())),
            text => text,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(Error::Fields(fields.len()));
        };
        Ok(Self {
            minute: field(minute, (0, 59), &[])?,
            hour: field(hour, (0, 23), &[])?,
            day: field(day, (1, 31), &[])?,
            month: field(month, (1, 12), &MONTHS)?,
            weekday: field(weekday, (0, 6), &DAYS)?,
        })
    }
}

fn field(text: &str, bounds: (u32, u32), names: &[&str]) -> Result<Field, Error> {
    let mut field = Field {
        bits: 0,
        is_star: false,
    };
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step, &[], 0)?)),
            None => (part, None),
        };
        let (from, to) = if matches!(range, "*" | "?") {
            field.is_star |= step.is_none_or(|step| step == 1);
            bounds
        } else if let Some((from, to)) = range.split_once('-') {
            (number(from, names, bounds.0)?, number(to, names, bounds.0)?)
        } else {
            let from = number(range, names, bounds.0)?;
            (from, if step.is_some() { bounds.1 } else { from })
        };
        if from < bounds.0 || to > bounds.1 || from > to {
            return Err(Error::Range(part.to_owned(), to));
        }
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err(Error::Value(part.to_owned()));
        }
        let mut at = from;
        while at <= to {
            field.bits |= 1 << at;
            at = at.saturating_add(step);
        }
    }
    Ok(field)
}

fn number(text: &str, names: &[&str], first: u32) -> Result<u32, Error> {
    let lower = text.to_lowercase();
    if let Some(index) = names.iter().position(|name| *name == lower) {
        return Ok(first + index as u32);
    }
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = is_number.then(|| text.parse().ok()).flatten();
    parsed.ok_or_else(|| Error::Value(text.to_owned()))
}

impl Schedule {
    /// The first time after `after`; `None` if there is none for years (the 30th of February).
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut date = zone.to_datetime(after).date();
        for _ in 0..HORIZON_DAYS {
            if self.is_on(date)
                && let Some(found) = self.first_of_day(date, after, zone)
            {
                return Some(found);
            }
            date = date.checked_add(1.day()).ok()?;
        }
        None
    }

    fn is_on(&self, date: Date) -> bool {
        let day = self.day.has(date.day());
        let weekday = self.weekday.has(date.weekday().to_sunday_zero_offset());
        let is_day = if self.day.is_star || self.weekday.is_star {
            day && weekday
        } else {
            day || weekday
        };
        self.month.has(date.month()) && is_day
    }

    fn first_of_day(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        for hour in self.hour.numbers() {
            for minute in self.minute.numbers() {
                let time = Time::new(hour, minute, 0, 0).ok()?;
                let there = zone.to_ambiguous_timestamp(date.to_datetime(time));
                if matches!(there.offset(), AmbiguousOffset::Gap { .. }) {
                    continue;
                }
                if let Ok(at) = there.earlier()
                    && at > after
                {
                    return Some(at);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str, zone: &str) -> String {
        let zone = TimeZone::get(zone).unwrap();
        let schedule: Schedule = schedule.parse().unwrap();
        let next = schedule.next(after.parse().unwrap(), &zone);
        next.map_or_else(|| "never".to_owned(), |at| at.to_string())
    }

    #[test]
    fn finds_the_next_time() {
        for (schedule, after, expected) in [
            ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            (
                "*/15 * * * *",
                "2026-01-01T00:14:59Z",
                "2026-01-01T00:15:00Z",
            ),
            ("0 12 * * *", "2026-01-01T12:00:00Z", "2026-01-02T12:00:00Z"),
            ("@monthly", "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"),
            ("@hourly", "2026-01-31T23:30:00Z", "2026-02-01T00:00:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 30 2 *", "2026-01-01T00:00:00Z", "never"),
            // The 1st, or a Monday (2026-01-05 is one).
            (
                "0 0 1 * mon",
                "2026-01-01T00:00:00Z",
                "2026-01-05T00:00:00Z",
            ),
            (
                "0 0 * * MON-FRI",
                "2026-01-02T00:00:00Z",
                "2026-01-05T00:00:00Z",
            ),
            (
                "5-10/5 1,2 * Jan *",
                "2026-01-01T01:05:00Z",
                "2026-01-01T01:10:00Z",
            ),
            (
                "10/20 * * * *",
                "2026-01-01T00:31:00Z",
                "2026-01-01T00:50:00Z",
            ),
        ] {
            assert_eq!(next(schedule, after, "UTC"), expected, "{schedule} {after}");
        }
    }

    #[test]
    fn follows_the_clocks_of_its_place() {
        let berlin = |schedule, after| next(schedule, after, "Europe/Berlin");
        assert_eq!(
            berlin("0 12 * * *", "2026-01-01T00:00:00Z"),
            "2026-01-01T11:00:00Z"
        );
        assert_eq!(
            berlin("0 12 * * *", "2026-07-01T00:00:00Z"),
            "2026-07-01T10:00:00Z"
        );
        // 02:30 does not exist on 2026-03-29, and comes twice on 2026-10-25.
        assert_eq!(
            berlin("30 2 * * *", "2026-03-28T12:00:00Z"),
            "2026-03-30T00:30:00Z"
        );
        assert_eq!(
            berlin("30 2 * * *", "2026-10-24T12:00:00Z"),
            "2026-10-25T00:30:00Z"
        );
        assert_eq!(
            berlin("30 2 * * *", "2026-10-25T00:30:00Z"),
            "2026-10-26T01:30:00Z"
        );
    }

    #[test]
    fn refuses_what_is_no_schedule() {
        for schedule in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "@every 1h",
            "-1 * * * *",
            "1- * * * *",
        ] {
            assert!(schedule.parse::<Schedule>().is_err(), "{schedule}");
        }
    }
}
