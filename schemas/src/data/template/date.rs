//! `strftime_now`: a date as Python's `strftime` writes it in the C locale.

use std::fmt::Write;

use jiff::civil::DateTime;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A number as a directive writes it.
struct Field {
    number: i64,
    width: usize,
    fill: char,
}

fn field(number: impl Into<i64>, width: usize, fill: char) -> Field {
    Field { number: number.into(), width, fill }
}

/// The longest format, in bytes.
pub(super) const MAX_FORMAT: usize = 1 << 12;

/// Writes a time by a format; none where a directive is not known.
pub(super) fn strftime(format: &str, time: DateTime) -> Option<String> {
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = rest.next()?;
        let flag = Some(directive).filter(|c| "-_0^".contains(*c));
        if flag.is_some() {
            directive = rest.next()?;
        }
        let text = match text(directive, time) {
            Some(text) => text,
            None => padded(&number(directive, time)?, flag)?,
        };
        out.push_str(&if flag == Some('^') { text.to_uppercase() } else { text });
    }
    Some(out)
}

fn padded(field: &Field, flag: Option<char>) -> Option<String> {
    let (number, width) = (field.number, field.width);
    let mut out = String::new();
    match flag.unwrap_or(field.fill) {
        '-' => write!(out, "{number}"),
        '_' | ' ' => write!(out, "{number:width$}"),
        _ => write!(out, "{number:0width$}"),
    }
    .ok()?;
    Some(out)
}

fn text(directive: char, time: DateTime) -> Option<String> {
    let date = time.date();
    let day = DAYS.get(usize::try_from(date.weekday().to_sunday_zero_offset()).ok()?)?;
    let month = MONTHS.get(usize::try_from(date.month()).ok()?.checked_sub(1)?)?;
    let half = if time.hour() < 12 { "AM" } else { "PM" };
    let composed = |format| strftime(format, time);
    Some(match directive {
        'A' => (*day).to_owned(),
        'a' => day.get(..3)?.to_owned(),
        'B' => (*month).to_owned(),
        'b' | 'h' => month.get(..3)?.to_owned(),
        'p' => half.to_owned(),
        'P' => half.to_lowercase(),
        'z' | 'Z' => String::new(),
        '%' => "%".into(),
        'n' => "\n".into(),
        't' => "\t".into(),
        'c' => composed("%a %b %e %H:%M:%S %Y")?,
        'x' | 'D' => composed("%m/%d/%y")?,
        'X' | 'T' => composed("%H:%M:%S")?,
        'F' => composed("%Y-%m-%d")?,
        'R' => composed("%H:%M")?,
        'r' => composed("%I:%M:%S %p")?,
        _ => return None,
    })
}

fn number(directive: char, time: DateTime) -> Option<Field> {
    let date = time.date();
    let (sunday, monday) = (date.weekday().to_sunday_zero_offset(), date.weekday().to_monday_zero_offset());
    let day = i64::from(date.day_of_year()) - 1;
    let hour = time.hour();
    let half = if hour % 12 == 0 { 12 } else { hour % 12 };
    let iso = date.iso_week_date();
    Some(match directive {
        'd' => field(date.day(), 2, '0'),
        'e' => field(date.day(), 2, ' '),
        'm' => field(date.month(), 2, '0'),
        'y' => field(date.year() % 100, 2, '0'),
        'Y' => field(date.year(), 1, '0'),
        'C' => field(date.year() / 100, 1, '0'),
        'H' => field(hour, 2, '0'),
        'k' => field(hour, 2, ' '),
        'I' => field(half, 2, '0'),
        'l' => field(half, 2, ' '),
        'M' => field(time.minute(), 2, '0'),
        'S' => field(time.second(), 2, '0'),
        'f' => field(time.subsec_nanosecond() / 1000, 6, '0'),
        'j' => field(day + 1, 3, '0'),
        'w' => field(sunday, 1, '0'),
        'u' => field(monday + 1, 1, '0'),
        'U' => field((day + 7 - i64::from(sunday)) / 7, 2, '0'),
        'W' => field((day + 7 - i64::from(monday)) / 7, 2, '0'),
        'G' => field(iso.year(), 1, '0'),
        'g' => field(iso.year() % 100, 2, '0'),
        'V' => field(iso.week(), 2, '0'),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn dates_are_written_as_python_writes_them() {
        let time = date(2026, 3, 5).at(0, 0, 0, 0);
        let written = |format| strftime(format, time).unwrap();
        assert_eq!(written("%d %b %Y, %A %-d %B %y"), "05 Mar 2026, Thursday 5 March 26");
        assert_eq!(
            written("%Y-%m-%d %H:%M:%S.%f %I %p %j %U %W %w %u %V %G"),
            "2026-03-05 00:00:00.000000 12 AM 064 09 09 4 4 10 2026"
        );
        assert_eq!(written("%c|%x|%X|%e|%z%Z%%"), "Thu Mar  5 00:00:00 2026|03/05/26|00:00:00| 5|%");
        let early = date(999, 1, 1).at(0, 0, 0, 0);
        assert_eq!(
            strftime("%Y|%F|%c|%G|%C|%_Y|%y", early).unwrap(),
            "999|999-01-01|Tue Jan  1 00:00:00 999|999|9|999|99"
        );
        assert_eq!(strftime("%Q", time), None);
        assert_eq!(strftime("%", time), None);
    }
}
