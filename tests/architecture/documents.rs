//! What the documents tell people to type exists, what they link to is there, and both languages say the same.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use xgenctl::cli::Cli;
use xgenctl::modules::preflight::CHECKS;
use xgenctl::report::ExitCode;

use super::{extension, files, read, root};

const ENGLISH: &str = "README.md";
const KOREAN: &str = "README.ko.md";

fn documents() -> Vec<PathBuf> {
    let docs = files("docs").into_iter().filter(|path| extension(path) == "md");
    [ENGLISH, KOREAN].map(PathBuf::from).into_iter().chain(docs).collect()
}

/// A document, taken apart.
#[derive(Default)]
struct Document {
    /// Levels of its headings.
    headings: Vec<usize>,
    /// Fenced blocks: language and lines.
    blocks: Vec<(String, Vec<String>)>,
    /// Everything else.
    prose: String,
}

impl Document {
    fn read(path: impl AsRef<Path>) -> Self {
        let mut document = Self::default();
        let mut open = false;
        for line in read(path).lines() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                open = !open;
                if open {
                    document.blocks.push((language.to_owned(), Vec::new()));
                }
            } else if open {
                document.blocks.last_mut().unwrap().1.push(line.to_owned());
            } else {
                let level = line.chars().take_while(|c| *c == '#').count();
                if level > 0 {
                    document.headings.push(level);
                }
                document.prose += line;
                document.prose.push('\n');
            }
        }
        assert!(!open, "a fenced block is not closed");
        document
    }

    /// What stands between single backticks.
    fn inline_code(&self) -> Vec<&str> {
        self.prose.split('`').skip(1).step_by(2).collect()
    }

    /// Where its links lead.
    fn links(&self) -> Vec<&str> {
        let behind = self.prose.split("](").skip(1);
        behind.filter_map(|rest| rest.split([')', ' ', '\n']).next()).collect()
    }
}

/// A line without its comment.
fn without_comment(line: &str) -> &str {
    match line.find(" #").filter(|_| !line.trim_start().starts_with('#')) {
        Some(at) => line[..at].trim_end(),
        None if line.trim_start().starts_with('#') => "",
        None => line.trim_end(),
    }
}

/// The words of a command line, up to where the shell takes over; `None` where it is no command of xgenctl.
fn command(line: &str) -> Option<Vec<String>> {
    let line = without_comment(line).trim().trim_start_matches("$ ").trim_start_matches("sudo ");
    let rest = match line.split_once(' ').unwrap_or((line, "")) {
        ("xgenctl", rest) if !rest.is_empty() => rest,
        ("cargo", rest) if rest.starts_with("run ") => rest.split_once(" -- ")?.1,
        _ => return None,
    };
    let rest =
        [" | ", " > ", " >> ", " && ", "; "].iter().fold(rest, |rest, end| rest.split(end).next().unwrap_or(rest));
    let mut words = vec!["xgenctl".to_owned()];
    for (index, part) in rest.split('"').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    Some(words)
}

/// Why the program would not take a command line.
fn refusal(words: &[String]) -> Option<String> {
    match Cli::try_parse_from(words) {
        Ok(_) => None,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => None,
        Err(error) => Some(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

#[test]
fn every_command_in_a_document_can_be_typed() {
    let mut wrong = Vec::new();
    for path in documents() {
        let document = Document::read(&path);
        let blocks = document.blocks.iter().flat_map(|(_, lines)| lines.iter().map(String::as_str));
        let mut seen = 0;
        for line in blocks.chain(document.inline_code()) {
            let Some(words) = command(line) else { continue };
            seen += 1;
            // A command that is only named, not written out: `xgenctl setup`.
            let named = words.len() <= 3 && Cli::command().find_subcommand(words.get(1).map_or("", |w| w)).is_some();
            if let Some(why) = refusal(&words).filter(|_| !(named && document.inline_code().contains(&line))) {
                wrong.push(format!("{}: {line}\n    {why}", path.display()));
            }
        }
        if path == Path::new(ENGLISH) {
            assert!(seen > 10, "only {seen} commands were found in {ENGLISH}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn commands_that_do_not_exist_are_noticed() {
    let refused = |line| refusal(&command(line).unwrap()).is_some();
    assert!(refused("xgenctl frobnicate"));
    assert!(refused("cargo run --release -- setup all --no-such-flag"));
    assert!(refused("xgenctl setup   # without a module"));
    assert!(!refused("$ xgenctl setup all --rehearse=/tmp/r   # a comment"));
    assert!(!refused("xgenctl status -o json | jq .converged"));
    assert!(command("kubectl get nodes").is_none() && command("cargo run --release").is_none());
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for path in documents() {
        for link in Document::read(&path).links() {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            let target = link.split('#').next().unwrap_or_default();
            if !root().join(path.parent().unwrap()).join(target).exists() {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn both_languages_say_the_same() {
    let (english, korean) = (Document::read(ENGLISH), Document::read(KOREAN));
    assert_eq!(english.headings, korean.headings, "levels of the headings");
    let code = |document: &Document| -> Vec<(String, Vec<String>)> {
        let blank = |lines: &[String]| lines.iter().map(|l| without_comment(l).to_owned()).collect();
        document.blocks.iter().map(|(language, lines)| (language.clone(), blank(lines))).collect()
    };
    assert_eq!(code(&english), code(&korean), "code blocks, comments aside");
    let files = |document: &Document| -> Vec<String> {
        let mut links: Vec<String> =
            document.links().into_iter().map(|l| l.split('#').next().unwrap().to_owned()).collect();
        links.retain(|link| ![ENGLISH, KOREAN, ""].contains(&link.as_str()));
        links.sort();
        links
    };
    assert_eq!(files(&english), files(&korean), "links");
    let table = |document: &Document| document.prose.lines().filter(|line| line.starts_with('|')).count();
    assert_eq!(table(&english), table(&korean), "rows of tables");
}

#[test]
fn troubleshooting_is_about_messages_that_exist() {
    // A text that goes on in the next line of the source is one text.
    let continued = |text: String| -> String {
        let mut parts = text.split("\\\n");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |whole, part| whole + part.trim_start())
    };
    let program: String = files("src").iter().filter(|p| extension(p) == "rs").map(|p| continued(read(p))).collect();
    let headings = read("docs/troubleshooting.md");
    let quoted = headings.lines().filter_map(|l| l.strip_prefix("### `")?.strip_suffix('`'));
    let (known, unknown): (Vec<&str>, Vec<&str>) = quoted.partition(|text| program.contains(text));
    assert!(unknown.is_empty(), "nothing in the program says {unknown:?}");
    assert!(known.len() > 20, "only {} messages were found", known.len());
}

#[test]
fn figures_of_the_readme_are_those_of_the_program() {
    let english = read(ENGLISH).replace('`', "");
    let codes = ExitCode::ALL.map(|exit| format!("| {} | {} |", exit.code(), exit.meaning()));
    for row in codes {
        assert!(english.contains(&row), "{ENGLISH} has no row {row:?}");
    }
    assert!(english.contains(&format!("| {} checks of every server", CHECKS.len())), "the number of checks");
    assert!(read(KOREAN).contains(&format!("{}개 항목", CHECKS.len())), "the number of checks in {KOREAN}");
}

#[test]
fn every_event_and_its_fields_are_documented() {
    let document = read("docs/architecture.md");
    let source = read("src/engine/event.rs");
    let body = source.split("pub enum Event {").nth(1).unwrap().split("\n}\n").next().unwrap();
    let mut event = String::new();
    for line in body.lines().map(str::trim_end) {
        let (word, depth) = (line.trim_start(), line.len() - line.trim_start().len());
        match depth {
            4 if word.ends_with('{') => {
                let name = word.trim_end_matches(" {");
                event = name.char_indices().fold(String::new(), |mut text, (at, c)| {
                    if at > 0 && c.is_uppercase() {
                        text.push('_');
                    }
                    text.extend(c.to_lowercase());
                    text
                });
            }
            8 if word.ends_with(',') && !word.starts_with("//") && !["progress", "note"].contains(&event.as_str()) => {
                let field = word.split(':').next().unwrap();
                let row = document.lines().find(|l| l.starts_with(&format!("| `{event}` |"))).unwrap_or_default();
                assert!(row.contains(&format!("`{field}`")), "docs/architecture.md: `{event}` has a field `{field}`");
            }
            _ => {}
        }
    }
    assert_eq!(event, "note", "the events were not read to their end");
}
