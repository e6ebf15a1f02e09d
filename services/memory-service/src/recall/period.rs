//! Reads which days, months and years a question names.

use std::time::SystemTime;

use jiff::{Timestamp, civil::Date, tz::TimeZone};

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
/// What a number of four digits has to be within to be a year.
const YEARS: std::ops::RangeInclusive<i16> = 1970..=2199;
/// What a memory of the right month and another day has of one of the right day: people tell of a day afterwards, and say "yesterday".
const OTHER_DAY: f32 = 0.5;

/// The dates that a question names, in English or as `2025-08-31`; in UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Periods(Vec<Period>);

/// A date as far as it is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Period {
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
}

impl Periods {
    /// Reads the dates in `text`. "May" and "march" are months only as names: with a capital letter and not as the first word, or beside a number.
    pub(crate) fn of(text: &str) -> Self {
        let words: Vec<&str> = text
            .split(|character: char| !character.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        let (mut periods, mut at) = (Vec::new(), 0);
        while at < words.len() {
            let read = in_digits(&words[at..]).or_else(|| in_words(&words, at));
            let (period, length) = read.unwrap_or((None, 1));
            periods.extend(period);
            at += length;
        }
        Self(periods)
    }

    /// Returns true if no date is named.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how well `time` fits the date that it fits best: 1, one half if only the day is another, or 0.
    pub(crate) fn fit(&self, time: SystemTime) -> f32 {
        let Ok(time) = Timestamp::try_from(time) else { return 0.0 };
        let date = TimeZone::UTC.to_datetime(time).date();
        self.0.iter().map(|period| period.fit(date)).fold(0.0, f32::max)
    }
}

impl Period {
    fn fit(self, date: Date) -> f32 {
        let is = |named: Option<i8>, is: i8| named.is_none_or(|named| named == is);
        match self.year.is_none_or(|year| year == date.year()) && is(self.month, date.month()) {
            true if is(self.day, date.day()) => 1.0,
            true => OTHER_DAY,
            false => 0.0,
        }
    }
}

/// Reads `2025 08 31`, or a year alone, at the front of `words`, and how many words that were.
fn in_digits(words: &[&str]) -> Option<(Option<Period>, usize)> {
    let year = year(words[0])?;
    let (month, day) = (words.get(1).copied().and_then(number), words.get(2).copied().and_then(number));
    match (month.filter(|month| (1..=12).contains(month)), day) {
        (Some(month), Some(day)) => {
            Some((Some(Period { year: Some(year), month: Some(month), day: Some(day) }), 3))
        }
        _ => Some((Some(Period { year: Some(year), ..Period::default() }), 1)),
    }
}

/// Reads a month's name at `at` with the day before or behind it and the year behind that.
fn in_words(words: &[&str], at: usize) -> Option<(Option<Period>, usize)> {
    let month = month(words[at])?;
    let before = at.checked_sub(1).and_then(|at| number(words[at]));
    let behind = words.get(at + 1).copied().and_then(number);
    let behind = behind.filter(|_| before.is_none());
    let next = at + 1 + usize::from(behind.is_some());
    let year = words.get(next).copied().and_then(year);
    let day = before.or(behind);
    let is_name = at > 0 && words[at].starts_with(char::is_uppercase);
    let is_word = matches!(words[at].to_ascii_lowercase().as_str(), "may" | "march" | "mar");
    if is_word && !is_name && day.is_none() && year.is_none() {
        return None;
    }
    Some((Some(Period { year, month: Some(month), day }), next - at + usize::from(year.is_some())))
}

/// Reads a month by its name or by the first three letters of it.
fn month(word: &str) -> Option<i8> {
    let word = word.to_ascii_lowercase();
    let is_named = |month: &str| {
        month == word
            || (word.len() == 3 && month.starts_with(&word))
            || (word == "sept" && month.starts_with("sept"))
    };
    let at = MONTHS.iter().position(|month| is_named(month))?;
    i8::try_from(at + 1).ok()
}

/// Reads a day or the number of a month: one or two digits, with or without `st`, `nd`, `rd`, `th`.
fn number(word: &str) -> Option<i8> {
    let digits = ["st", "nd", "rd", "th"].iter().find_map(|ending| word.strip_suffix(ending)).unwrap_or(word);
    let number = (digits.len() <= 2).then(|| digits.parse().ok()).flatten()?;
    (1..=31).contains(&number).then_some(number)
}

fn year(word: &str) -> Option<i16> {
    let year = (word.len() == 4).then(|| word.parse().ok()).flatten()?;
    YEARS.contains(&year).then_some(year)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Period, Periods};

    fn read(text: &str) -> Vec<(Option<i16>, Option<i8>, Option<i8>)> {
        Periods::of(text).0.iter().map(|Period { year, month, day }| (*year, *month, *day)).collect()
    }

    #[test]
    fn dates_are_read_as_far_as_they_are_named() {
        let (year, may) = (Some(2023), Some(5));
        assert_eq!(read("What happened on 8 May, 2023?"), [(year, may, Some(8))]);
        assert_eq!(read("on May 8th, 2023 or in August"), [(year, may, Some(8)), (None, Some(8), None)]);
        assert_eq!(read("since 2025-08-31 at 10"), [(Some(2025), Some(8), Some(31))]);
        assert_eq!(read("in 2023, and Sept 2023"), [(year, None, None), (year, Some(9), None)]);
        assert_eq!(read("What did she do in May?"), [(None, may, None)]);
        assert_eq!(read("the 21st of nothing, 4.25 %, 12345"), []);
    }

    #[test]
    fn verbs_are_no_months() {
        assert_eq!(read("May I ask what may march on?"), []);
        assert_eq!(read("may 2023"), [(Some(2023), Some(5), None)]);
        assert_eq!(read("marching maybe decent"), []);
    }

    #[test]
    fn a_time_fits_the_named_day_best() {
        // 2023-05-08, 01:00 UTC.
        let time = UNIX_EPOCH + Duration::from_secs(1_683_507_600);
        let fit = |text: &str| Periods::of(text).fit(time);
        assert_eq!((fit("8 May 2023"), fit("9 May 2023"), fit("in May"), fit("2023")), (1.0, 0.5, 1.0, 1.0));
        assert_eq!((fit("8 May 2022"), fit("8 June"), fit("whenever")), (0.0, 0.0, 0.0));
        assert_eq!(fit("June, or May 2023"), 1.0);
        assert!(Periods::of("whenever").is_empty());
    }
}
