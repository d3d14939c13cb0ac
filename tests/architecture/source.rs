//! Reading Rust source as far as imports go: comments, texts and test modules taken out, paths taken in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The text with comments and the content of literals blanked, every other byte where it was.
pub fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => text[at..].find('\n').map_or(bytes.len(), |n| at + n),
            [b'/', b'*', ..] => block_comment(bytes, at),
            [b'r', b'"' | b'#', ..] if !is_word(bytes, at) => match raw_text(text, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            [b'"', ..] => quoted(bytes, at),
            // A quote that closes within an escape or one character is a character, any other one a lifetime.
            [b'\'', b'\\', ..] => quoted(bytes, at),
            [b'\'', ..] => match text[at + 1..].chars().next().map(|c| at + 1 + c.len_utf8()) {
                Some(close) if bytes.get(close) == Some(&b'\'') => close + 1,
                _ => at + 1,
            },
            _ => {
                at += 1;
                continue;
            }
        };
        out[at..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        at = end;
    }
    String::from_utf8(out).unwrap()
}

/// Whether the byte before belongs to a word: then what follows is not the beginning of a literal.
fn is_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') && bytes[at - 1] != b'b'
}

fn block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn raw_text(text: &str, start: usize) -> Option<usize> {
    let hashes = text[start + 1..].bytes().take_while(|b| *b == b'#').count();
    let open = start + 1 + hashes;
    (text.as_bytes().get(open) == Some(&b'"')).then_some(())?;
    let close = format!("\"{}", "#".repeat(hashes));
    text[open + 1..].find(&close).map(|n| open + 1 + n + close.len())
}

fn quoted(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != bytes[start] {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// A source file without its tests.
pub struct Source {
    /// Comments, texts and what only tests have are blank.
    pub code: String,
    /// Files that only tests have.
    pub test_files: BTreeSet<PathBuf>,
}

impl Source {
    /// Reads one file.
    pub fn new(path: &Path, text: &str) -> Self {
        const MARK: &str = "#[cfg(test)]";
        let mut code = blank(text);
        let mut test_files = BTreeSet::new();
        while let Some(start) = code.find(MARK) {
            let from = start + MARK.len();
            let end = match code[from..].find([';', '{']).map(|n| from + n) {
                Some(at) if code.as_bytes()[at] == b';' => {
                    test_files.extend(module_file(path, &code[from..at], &text[from..at]));
                    at + 1
                }
                Some(at) => matching_brace(code.as_bytes(), at),
                None => code.len(),
            };
            code.replace_range(start..end, &" ".repeat(end - start));
        }
        Self { code, test_files }
    }

    /// Every path into this crate that the code names, from the crate's root on: `["host", "ssh", "SshOptions"]`.
    pub fn paths(&self, module: &[String]) -> BTreeSet<Vec<String>> {
        let mut all = BTreeSet::new();
        for (at, word) in words(&self.code) {
            let before = self.code[..at].trim_end();
            if before.ends_with("::") && !before.ends_with("$crate::") {
                continue;
            }
            let base = match word {
                "crate" => Vec::new(),
                "self" => module.to_vec(),
                "super" => module[..module.len().saturating_sub(1)].to_vec(),
                _ => continue,
            };
            if let Some(rest) = self.code[at + word.len()..].strip_prefix("::") {
                tree(rest, base, &mut all);
            }
        }
        all
    }
}

/// The file of `mod name;`, with the folder below it where it has one.
fn module_file(path: &Path, code: &str, text: &str) -> Vec<PathBuf> {
    let Some(name) = code.split_whitespace().skip_while(|w| *w != "mod").nth(1) else { return Vec::new() };
    let folder = path.parent().unwrap();
    if let Some((_, rest)) = text.split_once("#[path = \"") {
        return vec![folder.join(rest.split('"').next().unwrap())];
    }
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let folder = if matches!(stem, "mod" | "lib" | "main") { folder.to_owned() } else { folder.join(stem) };
    vec![folder.join(format!("{name}.rs")), folder.join(name)]
}

fn matching_brace(bytes: &[u8], open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    bytes.len()
}

fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + code[at..].find(is_word)?;
        let end = code[start..].find(|c| !is_word(c)).map_or(code.len(), |n| start + n);
        at = end;
        Some((start, &code[start..end]))
    })
}

/// Reads one use tree (or a plain path) behind `base`; returns what follows it.
fn tree<'a>(text: &'a str, mut base: Vec<String>, all: &mut BTreeSet<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            if rest.is_empty() || rest.starts_with('}') {
                return rest.get(1..).unwrap_or_default();
            }
            let before = rest.len();
            rest = tree(rest, base.clone(), all);
            // `as name` and whatever else belongs to the entry.
            rest = rest.trim_start_matches(|c: char| c != ',' && c != '}' && c != '{');
            assert!(rest.len() < before, "a use tree cannot be read: {}", &rest[..rest.len().min(60)]);
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    match word {
        "" | "self" => {}
        "super" => drop(base.pop()),
        word => base.push(word.to_owned()),
    }
    match rest.strip_prefix("::") {
        Some(next) if next.trim_start().starts_with(|c: char| c.is_alphanumeric() || "_{".contains(c)) => {
            tree(next, base, all)
        }
        _ => {
            all.insert(base);
            rest.strip_prefix("::*").unwrap_or(rest)
        }
    }
}

#[test]
fn paths_are_read_as_the_compiler_reads_them() {
    let text = r##"
        // use crate::comment::No;
        use crate::host::{Command, ssh::{self, SshOptions as Options}, Facts};
        use super::node::{Input};
        use super::super::cli;
        pub use self::inner::*;
        fn f<'a>(x: &'a str) -> crate::engine::StepError { let c = '"'; let d = '\''; g("crate::text::No", r#"" crate::raw::No"#) }
        fn g() { let _ = crate::report::out::print::<u8>(); let s = b'"'; super::sibling() }
        /* crate::a /* crate::b */ crate::c */
        #[cfg(test)]
        use crate::only::Test;
        #[cfg(test)]
        #[path = "x_tests.rs"]
        mod tests;
        #[cfg(test)]
        mod more;
        #[cfg(test)]
        mod inline { fn f() { let s = "}"; crate::test::no() } }
        use crate::last;
    "##;
    let source = Source::new(Path::new("src/modules/k3s/config.rs"), text);
    let module = ["modules", "k3s", "config"].map(str::to_owned);
    let paths: Vec<String> = source.paths(&module).iter().map(|p| p.join("::")).collect();
    let expected = [
        "engine::StepError",
        "host::Command",
        "host::Facts",
        "host::ssh",
        "host::ssh::SshOptions",
        "last",
        "modules::cli",
        "modules::k3s::config::inner",
        "modules::k3s::node::Input",
        "modules::k3s::sibling",
        "report::out::print",
    ];
    assert_eq!(paths, expected);
    let tests = ["x_tests.rs", "config/more", "config/more.rs"].map(|f| Path::new("src/modules/k3s").join(f));
    assert_eq!(source.test_files, tests.into());
}
