//! Imports run one way, as docs/architecture.md draws it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::source::Source;
use super::{extension, files, read};

/// Which parts of the crate a part may name, apart from itself. `secret` is for everybody.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("secret", &[]),
    ("project", &[]),
    ("artifact", &[]),
    ("host", &["project"]),
    ("cluster", &["host", "project"]),
    ("engine", &["artifact", "cluster", "host", "project"]),
    ("modules", &["artifact", "cluster", "engine", "host", "project"]),
    ("rehearsal", &["artifact", "engine", "host", "project"]),
    ("report", &["engine"]),
    // The command line puts the parts together.
    ("cli", &["artifact", "cluster", "engine", "host", "modules", "project", "rehearsal", "report"]),
];

/// What of the engine reporters may know: what events and status consist of, nothing that acts.
const REPORTERS_SEE: &[&str] = &["action", "event", "status"];

/// What of the engine modules may know: the types of observations, plans and status, nothing that carries plans out.
const MODULES_SEE_NOT: &[&str] = &["executor", "journal", "live", "lock", "run", "session"];

/// `src/host/ssh/mod.rs` → `["host", "ssh"]`.
fn module_of(path: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        path.with_extension("").iter().skip(1).map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

/// Every path that a file names, by file; tests left out.
fn imports() -> BTreeMap<String, (Vec<String>, BTreeSet<Vec<String>>)> {
    let sources: Vec<_> = files("src")
        .into_iter()
        .filter(|path| extension(path) == "rs" && path != Path::new("src/main.rs"))
        .map(|path| (Source::new(&path, &read(&path)), path))
        .collect();
    let tests: BTreeSet<_> = sources.iter().flat_map(|(source, _)| source.test_files.clone()).collect();
    sources
        .iter()
        .filter(|(_, path)| !tests.iter().any(|test| path.starts_with(test)))
        .map(|(source, path)| {
            let module = module_of(path);
            let paths = source.paths(&module);
            (path.display().to_string(), (module, paths))
        })
        .collect()
}

#[test]
fn imports_run_one_way() {
    let rules: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut edges = BTreeSet::new();
    for (file, (module, paths)) in imports() {
        let Some(part) = module.first() else { continue };
        let allowed =
            rules.get(part.as_str()).unwrap_or_else(|| panic!("{file}: no rule says what `{part}` may import"));
        for path in paths {
            let Some(other) = path.first().filter(|other| *other != part && *other != "secret") else { continue };
            edges.insert((part.clone(), other.clone()));
            if !allowed.contains(&other.as_str()) {
                wrong.push(format!("{file} names crate::{}", path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the direction:\n{}", wrong.join("\n"));
    // Were the reader of imports blind, nothing would ever be wrong.
    for (part, other) in [("cli", "engine"), ("modules", "host"), ("report", "engine"), ("cluster", "host")] {
        assert!(edges.contains(&(part.into(), other.into())), "{part} → {other} was not seen");
    }
}

#[test]
fn modules_do_not_know_each_other() {
    let wrong: Vec<String> = imports()
        .into_iter()
        .filter(|(_, (module, _))| module.first().is_some_and(|part| part == "modules") && module.len() > 1)
        .flat_map(|(file, (module, paths))| {
            let foreign = move |path: &Vec<String>| path[0] == "modules" && path.get(1) != module.get(1);
            paths
                .into_iter()
                .filter(move |p| !p.is_empty() && foreign(p))
                .map(move |p| format!("{file}: {}", p.join("::")))
        })
        .collect();
    assert!(wrong.is_empty(), "what two modules need belongs into the engine or below:\n{}", wrong.join("\n"));
}

#[test]
fn modules_carry_nothing_out_and_reporters_only_read() {
    let mut wrong = Vec::new();
    for (file, (module, paths)) in imports() {
        for path in paths.iter().filter(|path| path.first().is_some_and(|part| part == "engine")) {
            let Some(of_engine) = path.get(1) else { continue };
            let bad = match module.first().map(String::as_str) {
                Some("report") => !REPORTERS_SEE.contains(&of_engine.as_str()),
                Some("modules") => MODULES_SEE_NOT.contains(&of_engine.as_str()),
                _ => false,
            };
            if bad {
                wrong.push(format!("{file} names crate::{}", path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
