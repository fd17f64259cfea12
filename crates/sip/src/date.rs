//! The Date header field (RFC 3261 §20.17): RFC 1123 dates, in GMT.

const DAY: u64 = 86_400;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Days of 400 years, after which the calendar repeats.
const ERA_DAYS: u64 = 146_097;

/// From 1 March of the year 0 to 1 January 1970.
const EPOCH_DAYS: u64 = 719_468;

/// A date as it is written, without allocation: every 200 to a REGISTER has one.
#[derive(Debug, Clone, Copy)]
pub struct HttpDate([u8; 29]);

impl HttpDate {
    /// The date that is so many seconds after the beginning of 1970; years from 9999 on are written as that one.
    pub fn new(unix_s: u64) -> HttpDate {
        let (days, seconds) = (unix_s / DAY, unix_s % DAY);
        let (year, month, day) = year_month_day(days);
        let year = year.min(9999);
        let mut date = HttpDate(*b"Thu, 01 Jan 1970 00:00:00 GMT");
        date.put(0, name(&WEEKDAYS, days % 7).as_bytes());
        date.put(8, name(&MONTHS, month).as_bytes());
        let numbers = [day, year / 100, year % 100, seconds / 3600, seconds / 60 % 60, seconds % 60];
        for (at, number) in [5, 12, 14, 17, 20, 23].into_iter().zip(numbers) {
            date.put(at, &two_digits(number));
        }
        date
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // All of it is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn put(&mut self, at: usize, text: &[u8]) {
        self.0.iter_mut().skip(at).zip(text).for_each(|(place, byte)| *place = *byte);
    }
}

fn name(names: &[&'static str], index: u64) -> &'static str {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or_default()
}

/// A number below 100.
fn two_digits(number: u64) -> [u8; 2] {
    let digit = |number: u64| u8::try_from(number % 10).map_or(b'0', |digit| b'0' + digit);
    [digit(number / 10), digit(number)]
}

/// Year, month from 0 and day from 1 of a day since 1970, by counting from a March, so that a leap day is the last of its year
/// (Hinnant, "chrono-compatible low-level date algorithms").
fn year_month_day(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(EPOCH_DAYS);
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    (era * 400 + year_of_era + u64::from(month < 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::HttpDate;

    fn http_date(unix_s: u64) -> String {
        HttpDate::new(unix_s).as_str().to_owned()
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(http_date(946_684_799), "Fri, 31 Dec 1999 23:59:59 GMT");
        assert_eq!(http_date(946_684_800), "Sat, 01 Jan 2000 00:00:00 GMT");
        assert_eq!(http_date(1_289_692_799), "Sat, 13 Nov 2010 23:59:59 GMT");
        assert_eq!(http_date(4_107_456_000), "Sun, 28 Feb 2100 00:00:00 GMT");
        assert_eq!(http_date(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
    }
}
