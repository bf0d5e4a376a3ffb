//! Dates and times as FHIR writes them: partial dates, days that exist, timezones where a time stands.
//!
//! No arithmetic and no clock; only the format and the calendar.
//! Start at [`check_date_time`].
//!
//! Rules: <https://hl7.org/fhir/R4/datatypes.html#dateTime>.

use super::Fault;

/// Reads digits and marks from ASCII text.
pub(crate) struct Scan<'t> {
    /// What was not read yet.
    pub(crate) rest: &'t [u8],
}

impl Scan<'_> {
    pub(crate) fn digits(&mut self, count: usize) -> Option<u32> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        let mut number = 0;
        for byte in head {
            if !byte.is_ascii_digit() {
                return None;
            }
            number = number * 10 + u32::from(byte - b'0');
        }
        self.rest = rest;
        Some(number)
    }

    pub(crate) fn take(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}

/// The precision that a date was written with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Precision {
    Year,
    Month,
    Day,
}

/// Reads the date at the start; what follows stays in the scanner.
fn date(scan: &mut Scan<'_>) -> Result<Precision, Fault> {
    let year = scan.digits(4).ok_or(Fault::Format)?;
    if year == 0 {
        return Err(Fault::ImpossibleDate);
    }
    if !scan.take(b'-') {
        return Ok(Precision::Year);
    }
    let month = scan.digits(2).ok_or(Fault::Format)?;
    if !(1..=12).contains(&month) {
        return Err(Fault::ImpossibleDate);
    }
    if !scan.take(b'-') {
        return Ok(Precision::Month);
    }
    let day = scan.digits(2).ok_or(Fault::Format)?;
    if day == 0 || day > days_in_month(year, month) {
        return Err(Fault::ImpossibleDate);
    }
    Ok(Precision::Day)
}

fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Reads `hh:mm:ss[.fraction]`. A leap second (`60`) is allowed, `24:00` is not.
fn time(scan: &mut Scan<'_>) -> Result<(), Fault> {
    let hour = scan.digits(2).ok_or(Fault::Format)?;
    let minute = scan
        .take(b':')
        .then(|| scan.digits(2))
        .flatten()
        .ok_or(Fault::Format)?;
    let second = scan
        .take(b':')
        .then(|| scan.digits(2))
        .flatten()
        .ok_or(Fault::Format)?;
    if hour > 23 || minute > 59 || second > 60 {
        return Err(Fault::ImpossibleDate);
    }
    if scan.take(b'.') {
        scan.digits(1).ok_or(Fault::Format)?;
        while scan.digits(1).is_some() {}
    }
    Ok(())
}

/// Reads `Z`, `+hh:mm` or `-hh:mm` up to 14:00, to the end of the text.
fn zone(scan: &mut Scan<'_>) -> Result<(), Fault> {
    if scan.is_done() {
        return Err(Fault::TimezoneMissing);
    }
    if !scan.take(b'Z') {
        if !scan.take(b'+') && !scan.take(b'-') {
            return Err(Fault::Format);
        }
        let hour = scan.digits(2).ok_or(Fault::Format)?;
        let minute = scan
            .take(b':')
            .then(|| scan.digits(2))
            .flatten()
            .ok_or(Fault::Format)?;
        if minute > 59 || hour > 14 || (hour == 14 && minute > 0) {
            return Err(Fault::OutOfRange);
        }
    }
    if scan.is_done() {
        Ok(())
    } else {
        Err(Fault::Format)
    }
}

/// `YYYY`, `YYYY-MM` or `YYYY-MM-DD`.
///
/// # Errors
/// Another format, or a day that does not exist.
pub fn check_date(text: &str) -> Result<(), Fault> {
    let mut scan = Scan {
        rest: text.as_bytes(),
    };
    date(&mut scan)?;
    if scan.is_done() {
        Ok(())
    } else {
        Err(Fault::Format)
    }
}

/// A date, or a date with time and timezone.
///
/// # Errors
/// Another format, a day or time that does not exist, a time without timezone.
pub fn check_date_time(text: &str) -> Result<(), Fault> {
    let mut scan = Scan {
        rest: text.as_bytes(),
    };
    let precision = date(&mut scan)?;
    if scan.is_done() {
        return Ok(());
    }
    if precision != Precision::Day || !scan.take(b'T') {
        return Err(Fault::Format);
    }
    time(&mut scan)?;
    zone(&mut scan)
}

/// A date with time and timezone.
///
/// # Errors
/// As [`check_date_time`], and also anything less precise.
pub fn check_instant(text: &str) -> Result<(), Fault> {
    if text.contains('T') {
        check_date_time(text)
    } else {
        Err(Fault::Format)
    }
}

/// `hh:mm:ss` with optional fraction and no timezone.
///
/// # Errors
/// Another format, or a time that does not exist.
pub fn check_time(text: &str) -> Result<(), Fault> {
    let mut scan = Scan {
        rest: text.as_bytes(),
    };
    time(&mut scan)?;
    if scan.is_done() {
        Ok(())
    } else {
        Err(Fault::Format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_that_exist() {
        for text in [
            "2024-02-29",
            "2000-02-29",
            "2023-12-31",
            "1900-01-01",
            "2023",
            "2023-06",
        ] {
            assert_eq!(check_date(text), Ok(()), "{text}");
        }
        for text in [
            "2023-02-30",
            "2023-02-29",
            "1900-02-29",
            "2023-04-31",
            "2023-13",
            "2023-00-01",
            "2023-01-00",
            "0000",
        ] {
            assert_eq!(check_date(text), Err(Fault::ImpossibleDate), "{text}");
        }
        for text in [
            "23",
            "2023-1",
            "2023-1-1",
            "2023/01/01",
            "2023-01-01T00:00:00Z",
            "2023-01-01 ",
            "not a date",
            "20230101",
        ] {
            assert_eq!(check_date(text), Err(Fault::Format), "{text}");
        }
    }

    #[test]
    fn times_need_a_zone() {
        for text in [
            "2023",
            "2023-01-01T10:00:00Z",
            "2023-01-01T23:59:60.123456789+14:00",
            "2015-02-07T13:28:17.239+02:00",
        ] {
            assert_eq!(check_date_time(text), Ok(()), "{text}");
        }
        assert_eq!(
            check_date_time("2020-11-11T10:58:14.768528"),
            Err(Fault::TimezoneMissing)
        );
        for text in [
            "2023-01-01T24:00:00Z",
            "2023-01-01T10:60:00Z",
            "2023-02-30T10:00:00Z",
        ] {
            assert_eq!(check_date_time(text), Err(Fault::ImpossibleDate), "{text}");
        }
        for text in [
            "2023-01T10:00:00Z",
            "2023-01-01T10:00Z",
            "2023-01-01T10:00:00.Z",
            "2023-01-01t10:00:00Z",
            "2023-01-01T10:00:00z",
        ] {
            assert_eq!(check_date_time(text), Err(Fault::Format), "{text}");
        }
        assert_eq!(
            check_date_time("2023-01-01T10:00:00+14:01"),
            Err(Fault::OutOfRange)
        );
        assert_eq!(check_instant("2023-01-01"), Err(Fault::Format));
        assert_eq!(check_instant("2023-01-01T10:00:00Z"), Ok(()));
        assert_eq!(check_time("10:00:00"), Ok(()));
        assert_eq!(check_time("10:00"), Err(Fault::Format));
        assert_eq!(check_time("25:00:00"), Err(Fault::ImpossibleDate));
        assert_eq!(check_time("10:00:00Z"), Err(Fault::Format));
    }
}
