//! Tables and figures for a terminal.

use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Rows under a head, columns as wide as needed.
pub struct Table {
    head: Vec<&'static str>,
    /// Columns of figures stand at the right.
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A title that begins with `>` makes its column stand at the right.
    pub fn new(head: &[&'static str]) -> Self {
        Self {
            right: head.iter().map(|title| title.starts_with('>')).collect(),
            head: head.iter().map(|title| title.trim_start_matches('>')).collect(),
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }

    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let head: Vec<String> = self.head.iter().map(|title| title.to_uppercase()).collect();
        let widths: Vec<usize> =
            (0..head.len()).map(|column| self.rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
        for row in [&head].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let space = " ".repeat(width - cell.chars().count());
                line += &if *right { format!("{space}{cell}  ") } else { format!("{cell}{space}  ") };
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Names come from publishers: what would move the cursor or change colours is shown instead.
pub fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }).collect()
}

pub fn bytes(count: f64) -> String {
    let (mut count, mut unit) = (count, 0);
    while count >= 1_024.0 && unit < 4 {
        (count, unit) = (count / 1_024.0, unit + 1);
    }
    let unit_name = ["B", "KiB", "MiB", "GiB", "TiB"][unit];
    if unit == 0 || count >= 100.0 { format!("{count:.0} {unit_name}") } else { format!("{count:.1} {unit_name}") }
}

pub fn rate(bits_per_second: f64) -> String {
    if bits_per_second >= 1e6 { format!("{:.1} Mbit/s", bits_per_second / 1e6) } else { format!("{:.0} kbit/s", bits_per_second / 1e3) }
}

/// `1:02:03` or `2:03`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (hours, minutes, seconds) = (whole / 3_600, whole / 60 % 60, whole % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// In the zone of this machine.
pub fn moment(unix_seconds: i64) -> String {
    Timestamp::from_second(unix_seconds)
        .map_or_else(|_| "-".to_owned(), |time| time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// Unix seconds of `2026-01-31 14:00:00` as the live family of actions tells times: in UTC+8.
pub fn read_beijing(text: &str) -> Option<i64> {
    let time = jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", text).ok()?;
    Some(time.to_zoned(TimeZone::fixed(jiff::tz::offset(8))).ok()?.timestamp().as_second())
}

/// Unix seconds of a time of the API.
pub fn read_utc(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table() {
        let mut table = Table::new(&["Stream", ">Size"]);
        table.row(vec!["camera".to_owned(), "5 B".to_owned()]);
        table.row(vec!["\x1b[2Jé".to_owned(), "12 MiB".to_owned()]);
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "STREAM        SIZE\ncamera         5 B\n\\u{1b}[2Jé  12 MiB\n");
    }

    #[test]
    fn figures() {
        assert_eq!([bytes(999.0), bytes(1_536.0), bytes(5e9)], ["999 B", "1.5 KiB", "4.7 GiB"]);
        assert_eq!([rate(64_000.0), rate(4.2e6)], ["64 kbit/s", "4.2 Mbit/s"]);
        assert_eq!([duration(59.9), duration(3_723.0)], ["0:59", "1:02:03"]);
    }
}
