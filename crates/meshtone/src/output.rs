//! Standard output: data for people and programs. Talk and logs go to standard error.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Prints a text and a line end. A reader that has gone away (`| head`) is no failure of ours.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Prints one JSON object.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::new(format!("the answer cannot be written as JSON: {error}"), ""))?;
    print(&text);
    Ok(())
}

/// Tells on standard error, bold where that is a terminal, of something that was done and will not work, or not be safe.
pub(crate) fn warn(warning: &str, hint: &str) {
    let mut talk = std::io::stderr().lock();
    let (bold, plain) = if talk.is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let _ = writeln!(talk, "{bold}warning: {warning}{plain}\nhint: {hint}");
}

/// Lines up rows under their headings; a table without rows says so.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(headings.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

/// Makes what strangers wrote (a phone's contact, a caller's name) safe to show on a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["alice".to_owned(), "201".to_owned()], ["bo".to_owned(), String::new()]];
        assert_eq!(table(["user", "number"], &rows), "user   number\nalice  201\nbo");
    }

    #[test]
    fn a_strangers_escape_codes_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31m\nb"), "a\u{fffd}[31m\u{fffd}b");
    }
}
