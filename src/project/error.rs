//! What is wrong with a project.yaml, in words a person can act on: file, line, column, the line itself with a marker,
//! and what to do.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::yaml::Fault;
use crate::secret::MASK;

/// Exit code of a command that ends because of its project.yaml or secrets.
pub const EXIT_CODE: u8 = 2;

/// More problems than this are counted, not shown.
pub const SHOWN: usize = 20;
/// A source line is cut to about this many characters around the marker.
const LINE_WIDTH: usize = 120;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where, if it has a place in the file.
    pub place: Option<Place>,
}

/// A place in a file, with what is shown of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line, secrets masked, cut to a readable width; `None` where nothing of the file may be shown.
    excerpt: Option<String>,
    /// What is marked, in bytes of the excerpt.
    marked: Range<usize>,
    /// The short text at the marker.
    label: String,
}

impl From<(usize, usize)> for Place {
    /// Line and column of a file of which nothing may be shown.
    fn from((line, column): (usize, usize)) -> Self {
        Self { line, column, excerpt: None, marked: 0..0, label: String::new() }
    }
}

/// Everything that is wrong with one file. `Display` is one line, [`ProjectError::render`] the whole text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectError {
    /// The file, as it was given.
    pub file: String,
    /// What is wrong, in the order of the file; never empty.
    pub problems: Vec<Problem>,
    /// How many problems more there are.
    pub more: usize,
}

impl ProjectError {
    /// One problem without a place in the file.
    pub fn plain(file: impl Into<String>, message: impl Into<String>, help: impl Into<Option<String>>) -> Self {
        Self {
            file: file.into(),
            problems: vec![Problem { message: message.into(), help: help.into(), place: None }],
            more: 0,
        }
    }

    /// A file that cannot be read.
    pub fn unreadable(path: &Path, error: &std::io::Error, help: impl Into<Option<String>>) -> Self {
        Self::plain(path.display().to_string(), format!("cannot be read: {}", io_reason(error)), help)
    }

    /// The exit code it stands for: 2.
    pub fn exit_code(&self) -> u8 {
        EXIT_CODE
    }

    /// The whole text, every problem with its line and marker. No colour, no control characters, ends with a newline.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for problem in &self.problems {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(&self.render_one(problem));
            out.push('\n');
        }
        if self.more > 0 {
            out.push_str(&format!("\nerror: {}: {} more problems are not shown\n", self.file, self.more));
        }
        out
    }

    fn render_one(&self, problem: &Problem) -> String {
        let Some((place, line)) = problem.place.as_ref().and_then(|p| Some((p, p.excerpt.as_deref()?))) else {
            let mut text = match &problem.place {
                Some(p) => format!("error: {}\n --> {}:{}:{}", problem.message, self.file, p.line, p.column),
                None => format!("error: {}: {}", self.file, problem.message),
            };
            if let Some(help) = &problem.help {
                text.push_str(&format!("\n  = help: {}", help.replace('\n', "\n          ")));
            }
            return text;
        };
        let annotation = AnnotationKind::Primary.span(place.marked.clone());
        let annotation = match place.label.as_str() {
            "" => annotation,
            label => annotation.label(label),
        };
        let snippet =
            Snippet::source(line).path(self.file.as_str()).line_start(place.line).fold(false).annotation(annotation);
        let help = problem.help.as_deref().map(|text| Level::HELP.message(text));
        let group = Level::ERROR.primary_title(problem.message.as_str()).element(snippet).elements(help);
        let text = Renderer::plain().term_width(LINE_WIDTH + 40).render(&[group]);
        let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
        // What is shown may be a masked or shortened line; the column is the one in the file.
        if let Some(line) = lines.iter_mut().find(|l| l.trim_start().starts_with("-->")) {
            let arrow = line.find("-->").unwrap_or_default();
            *line = format!("{}--> {}:{}:{}", &line[..arrow], self.file, place.line, place.column);
        }
        lines.join("\n")
    }
}

impl fmt::Display for ProjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(problem) = self.problems.first() {
            if let Some(place) = &problem.place {
                write!(f, ":{}:{}", place.line, place.column)?;
            }
            write!(f, ": {}", problem.message)?;
        }
        match self.problems.len().saturating_sub(1) + self.more {
            0 => Ok(()),
            1 => f.write_str(" (and 1 more problem)"),
            n => write!(f, " (and {n} more problems)"),
        }
    }
}

impl std::error::Error for ProjectError {}

/// Finds places in a text and shows lines of it without the secrets that should not be there.
#[derive(Debug)]
pub struct Excerpts<'a> {
    text: &'a str,
    /// Parts of the text that must not be shown, in bytes; `None` where the text could not be read, so that they have
    /// to be guessed.
    hidden: Option<Vec<Range<usize>>>,
}

impl<'a> Excerpts<'a> {
    /// Excerpts of `text`; `hidden` are the parts that are secrets. Without them, whatever may be one is masked.
    pub fn new(text: &'a str, hidden: Option<Vec<Range<usize>>>) -> Self {
        Self { text, hidden }
    }

    /// The problem that a fault is.
    pub fn problem(&self, fault: Fault) -> Problem {
        let place = Some(self.place(&fault.span, fault.label));
        Problem { message: fault.message, help: fault.help, place }
    }

    /// Where `span` stands, with its first line.
    pub fn place(&self, span: &Range<usize>, label: String) -> Place {
        let (line, column, start) = position(self.text, span.start);
        let source = self.text[start..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let clip = |at: usize| at.clamp(start, start + source.len()) - start;
        let (text, mut marked) = self.mask(source, start, clip(span.start)..clip(span.end));
        if marked.is_empty() && marked.start < text.len() {
            marked.end = next_boundary(&text, marked.start);
        }
        let (excerpt, marked) = cut(&text, marked);
        Place { line, column, excerpt: Some(excerpt), marked, label }
    }

    /// The line with its secrets masked, and where `marked` is then.
    fn mask(&self, line: &str, start: usize, marked: Range<usize>) -> (String, Range<usize>) {
        let mut hidden = Vec::new();
        if self.hidden.is_none() {
            hidden = secrets_in(line);
            if is_secret_key_alone(self.text[..start].trim_end().rsplit('\n').next().unwrap_or_default()) {
                hidden.push(0..line.len());
            }
        }
        for range in self.hidden.iter().flatten() {
            if range.start < start + line.len() && range.end > start {
                hidden.push(range.start.max(start) - start..range.end.min(start + line.len()) - start);
            }
        }
        hidden.sort_by_key(|r| (r.start, r.end));
        let mut out = String::new();
        let (mut at, mut moved) = (0, marked.clone());
        for range in hidden {
            let begin = range.start.max(at);
            if range.end <= begin {
                continue;
            }
            out.push_str(&line[at..begin]);
            let shown = out.len();
            out.push_str(MASK);
            let map = |old: usize, new: &mut usize, inside: usize| {
                if old > begin && old < range.end {
                    *new = inside;
                } else if old >= range.end {
                    *new = out.len() + (old - range.end);
                }
            };
            map(marked.start, &mut moved.start, shown);
            map(marked.end, &mut moved.end, out.len());
            at = range.end;
        }
        out.push_str(&line[at..]);
        (out, moved)
    }
}

/// Line and column (both from 1, the column in characters) of a byte, and where its line begins.
pub fn position(text: &str, at: usize) -> (usize, usize, usize) {
    let mut at = at.min(text.len());
    // A position at the very end belongs to the last line that has something.
    if at == text.len() {
        at = text.trim_end().len();
    }
    let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
    (text[..at].matches('\n').count() + 1, text[start..at].chars().count() + 1, start)
}

/// Whether a key's value is a secret by its name.
pub fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "token", "credential", "vpn-auth", "access-key", "api-key", "apikey"]
        .iter()
        .any(|word| key.contains(word))
}

/// Whether a value is exactly one `${secret:NAME}`.
pub fn is_reference(value: &str) -> bool {
    value.strip_prefix("${secret:").and_then(|v| v.strip_suffix('}')).is_some_and(|name| !name.contains(['{', '}']))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// The values on a line that look like secrets: what follows a key such as `password:`, and passwords in addresses.
fn secrets_in(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (colon, _) in line.match_indices(':') {
        let key = line[..colon].trim_end().trim_end_matches(['"', '\'']);
        let key =
            &key[key.rfind(|c| !is_word(c)).map_or(0, |i| i + key[i..].chars().next().map_or(1, char::len_utf8))..];
        let rest = &line[colon + 1..];
        if is_secret_key(key) && rest.starts_with([' ', '\t', '"', '\'']) {
            let value = rest.trim_start();
            let from = line.len() - value.len();
            let bare = value.trim_start_matches(['"', '\'']);
            let reference = bare.find('}').map_or("", |end| &bare[..=end]);
            if !value.is_empty() && !value.starts_with(['#', '{']) && !is_reference(reference) {
                // Where the value ends is not certain in a broken file: the rest of the line goes.
                found.push(from..line.len());
            }
        }
        if rest.starts_with("//")
            && let Some(password) = password_in(&line[colon..])
        {
            found.push(colon + password.start..colon + password.end);
        }
    }
    found
}

/// Whether a line ends with a secret's key, so that its value stands on the next line.
fn is_secret_key_alone(line: &str) -> bool {
    let line = line.trim_end().trim_end_matches(['|', '>', '-', '+']).trim_end();
    line.strip_suffix(':').is_some_and(|l| is_secret_key(l.rsplit([' ', '{', ',']).next().unwrap_or_default()))
}

/// Cuts a long line to what stands around the marker, and tabs to spaces.
fn cut(line: &str, marked: Range<usize>) -> (String, Range<usize>) {
    let line = line.replace('\t', " ");
    let chars = line.chars().count();
    let before = line[..marked.start].chars().count();
    if chars <= LINE_WIDTH {
        return (line, marked);
    }
    let first = before.saturating_sub(LINE_WIDTH / 3);
    let byte = |n: usize| line.char_indices().nth(n).map_or(line.len(), |(at, _)| at);
    let (from, to) = (byte(first), byte(first + LINE_WIDTH));
    let (head, tail) = (if first > 0 { "…" } else { "" }, if to < line.len() { "…" } else { "" });
    let shift = |at: usize| at.clamp(from, to) - from + head.len();
    (format!("{head}{}{tail}", &line[from..to]), shift(marked.start)..shift(marked.end))
}

fn next_boundary(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(at, |c| at + c.len_utf8())
}

/// Where the password of an address such as `http://user:password@host` stands, if it has one in the clear.
pub fn password_in(address: &str) -> Option<Range<usize>> {
    let from = address.find("://").map_or(0, |i| i + 3);
    let authority = address[from..].split(['/', ' ', '"', '\'']).next().unwrap_or_default();
    let (user, _) = authority.rsplit_once('@')?;
    let (name, password) = user.split_once(':')?;
    let start = from + name.len() + 1;
    (!is_reference(password)).then(|| start..start + password.len())
}

/// A value for a message: at most 60 characters, control characters escaped, passwords of addresses masked.
pub fn shorten(value: &str) -> String {
    let mut value = value.to_owned();
    if let Some(password) = password_in(&value) {
        value.replace_range(password, MASK);
    }
    let mut out: String = value
        .chars()
        .take(60)
        .flat_map(|c| match c {
            '"' | '\'' => c.to_string().chars().collect::<Vec<_>>(),
            c => c.escape_debug().collect(),
        })
        .collect();
    if value.chars().count() > 60 {
        out.push('…');
    }
    out
}

/// The reason of an I/O error without the number of the operating system.
pub fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
