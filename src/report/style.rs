//! How text looks: colour where it can be seen, widths, durations, and text of others made harmless.

use std::ffi::OsString;
use std::fmt::Write as _;

/// Whether text is coloured, and how wide it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether colours are written.
    pub colour: bool,
    /// Columns; `None` where lines may be as long as they like.
    pub width: Option<usize>,
}

/// A colour, by what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// As wanted.
    Good,
    /// Changed, or worth a look.
    Warn,
    /// Failed or gone.
    Bad,
    /// A heading.
    Strong,
    /// Of little weight.
    Faint,
    /// A place in a diff.
    Place,
}

impl Style {
    /// No colour, no limit: for files, pipes and tests.
    pub const PLAIN: Self = Self { colour: false, width: None };

    /// For a stream of this process. `NO_COLOR` (not empty) and `TERM=dumb` switch colours off.
    pub fn for_stream(is_terminal: bool) -> Self {
        Self::of(is_terminal, |name| std::env::var_os(name), terminal_width)
    }

    fn of(is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>, columns: impl Fn() -> Option<usize>) -> Self {
        if !is_terminal {
            return Self::PLAIN;
        }
        let no_colour = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = variable("TERM").is_some_and(|term| term == "dumb");
        Self { colour: !no_colour && !dumb, width: columns() }
    }

    /// The text in a colour, if there are colours.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Good => "32",
            Paint::Warn => "33",
            Paint::Bad => "31",
            Paint::Strong => "1",
            Paint::Faint => "2",
            Paint::Place => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Columns of the terminal that stdout is, or stderr.
fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout())
        .or_else(|_| rustix::termios::tcgetwinsize(std::io::stderr()))
        .ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Text that came from elsewhere (output of programs, names) without anything that steers a terminal: escape sequences
/// and control characters go, a tab becomes blanks, line breaks stay. Of lines that a program overwrote with a carriage
/// return the last state is kept.
pub fn harmless(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let mut out = String::with_capacity(text.len());
    let mut line_start = 0;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => {
                out.push('\n');
                line_start = out.len();
            }
            '\t' => out.push_str("    "),
            '\r' if chars.peek().is_some_and(|next| *next != '\n') => out.truncate(line_start),
            '\x1b' => skip_escape(&mut chars),
            '\u{9b}' => skip_control_sequence(&mut chars),
            c if c.is_control() || is_direction_mark(c) => {}
            c => out.push(c),
        }
    }
    out
}

fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => skip_control_sequence(chars),
        // An operating system command ends with BEL or with the two characters of ST.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = chars.next() {
                if c == '\x07' || (c == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        Some('(' | ')' | '#' | '%') => {
            chars.next();
        }
        _ => {}
    }
}

fn skip_control_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while let Some(c) = chars.next_if(|c| *c != '\n') {
        if ('\x40'..='\x7e').contains(&c) {
            break;
        }
    }
}

/// Marks that make a terminal show text in another order than it stands.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Columns that a line takes on a terminal, colours not counted.
pub fn width(text: &str) -> usize {
    let mut chars = text.chars();
    let mut columns = 0;
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                chars.find(|c| *c == 'm');
            }
            c => columns += char_width(c),
        }
    }
    columns
}

fn char_width(c: char) -> usize {
    match c as u32 {
        // Combining marks and joiners.
        0x0300..=0x036f | 0x200b..=0x200d | 0xfe00..=0xfe0f => 0,
        // Hangul, Kana, Han, full-width forms, pictures.
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// The text with blanks up to so many columns.
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// The text in lines of at most so many columns, broken between words where there are any.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(8);
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut current = String::new();
        for word in line.split_inclusive(' ') {
            if !current.is_empty() && width(&current) + width(word.trim_end()) > columns {
                lines.push(std::mem::take(&mut current).trim_end().to_owned());
            }
            if width(word.trim_end()) <= columns {
                current += word;
                continue;
            }
            for c in word.chars() {
                if width(&current) + char_width(c) > columns && c != ' ' {
                    lines.push(std::mem::take(&mut current));
                }
                current.push(c);
            }
        }
        lines.push(current.trim_end().to_owned());
    }
    lines
}

/// The line as it is where it fits, else in several, all but the first with so many blanks before them.
pub fn fold(style: Style, line: &str, hanging: usize) -> String {
    match style.width {
        Some(columns) if width(line) > columns => {
            wrap(line, columns.saturating_sub(hanging)).join(&format!("\n{}", " ".repeat(hanging)))
        }
        _ => line.to_owned(),
    }
}

/// Every line of the text with so many blanks before it, each ended by a line break.
pub fn indent(text: &str, blanks: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        // Writing to a String cannot fail.
        let _ = match line.trim_end() {
            "" => writeln!(out),
            line => writeln!(out, "{}{line}", " ".repeat(blanks)),
        };
    }
    out
}

/// A length of time as people say it: `0.3 s`, `41 s`, `2 min 5 s`, `1 h 2 min`.
pub fn duration(ms: u64) -> String {
    let seconds = ms.saturating_add(500) / 1000;
    match seconds {
        _ if ms < 9_950 => format!("{:.1} s", ms as f64 / 1000.0),
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A number of bytes as people say it: `512 B`, `1.5 MiB`.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter().peekable();
    while let Some(unit) = units.next() {
        if value < 1024.0 || units.peek().is_none() {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{count} B")
}

/// `1 action`, `2 actions`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_only_where_they_can_be_seen_and_are_wanted() {
        let style = |is_terminal, name: &'static str, value: &'static str| {
            Style::of(is_terminal, |n| (n == name).then(|| value.into()), || Some(80))
        };
        let (coloured, uncoloured) =
            (Style { colour: true, width: Some(80) }, Style { colour: false, width: Some(80) });
        assert_eq!(style(true, "TERM", "xterm"), coloured);
        assert_eq!(style(true, "NO_COLOR", ""), coloured);
        assert_eq!(style(true, "NO_COLOR", "1"), uncoloured);
        assert_eq!(style(true, "TERM", "dumb"), uncoloured);
        assert_eq!(style(false, "TERM", "xterm"), Style::PLAIN);
    }

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        assert_eq!(
            harmless("\x1b[31mred\x1b[0m \x1b]0;title\x07x\x1b]8;;u\x1b\\y\ta\u{202e}b\x07\u{9b}2Jc"),
            "red xy    abc"
        );
        assert_eq!(harmless("10 %\r50 %\r100 %\r\nnext\r"), "100 %\nnext");
        assert_eq!(harmless("한국어 ✔\n\n"), "한국어 ✔\n\n");
        for c in (0..=0x9f).filter_map(char::from_u32) {
            let text = harmless(&format!("a{c}b\x1b{c}"));
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{:x}", c as u32);
        }
    }

    #[test]
    fn widths_and_breaks_are_those_of_a_terminal() {
        assert_eq!((width("k3s ✔"), width("한국어"), width("e\u{301}")), (5, 6, 1));
        assert_eq!(pad("한", 4), "한  ");
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghijkl mn\n\nx", 10), ["abcdefghij", "kl mn", "", "x"]);
        assert_eq!(wrap("한국어한국어", 9), ["한국어한", "국어"]);
        let narrow = Style { colour: true, width: Some(16) };
        let line = format!("  {} two three four", narrow.paint(Paint::Bad, "one"));
        assert_eq!(fold(narrow, &line, 4), "  \x1b[31mone\x1b[0m two\n    three four");
        assert_eq!(fold(Style::PLAIN, &line, 4), line);
    }

    #[test]
    fn times_and_sizes_are_those_of_people() {
        let times = [0, 349, 9_949, 9_950, 59_499, 59_500, 125_000, 3_599_499, 3_720_000].map(duration);
        let said = ["0.0 s", "0.3 s", "9.9 s", "10 s", "59 s", "1 min 0 s", "2 min 5 s", "59 min 59 s", "1 h 2 min"];
        assert_eq!(times, said);
        assert_eq!([0, 1023, 1024, 1_572_864].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"]);
        assert_eq!([1, 2].map(|n| count(n, "action")), ["1 action", "2 actions"]);
    }
}
