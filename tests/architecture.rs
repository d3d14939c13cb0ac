//! What holds the whole together and no single part would notice: who imports whom, how long files are, that every
//! script is used, and that what the documents say can be typed.

#[path = "architecture/documents.rs"]
mod documents;
#[path = "architecture/example.rs"]
mod example;
#[path = "architecture/imports.rs"]
mod imports;
#[path = "architecture/source.rs"]
mod source;
#[path = "architecture/worked_example.rs"]
mod worked_example;

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the crate.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder of the crate, as paths relative to the crate, sorted.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found.into_iter().map(|path| path.strip_prefix(root()).unwrap().to_owned()).collect()
}

/// The text of a file of the crate.
fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What follows the last dot of a file's name.
fn extension(path: &Path) -> &str {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default()
}

#[test]
fn no_source_file_is_longer_than_600_lines() {
    let long: Vec<String> = ["src", "tests"]
        .into_iter()
        .flat_map(files)
        .filter(|path| extension(path) == "rs")
        .map(|path| (read(&path).lines().count(), path))
        .filter(|(lines, _)| *lines > 600)
        .map(|(lines, path)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "split these:\n{}", long.join("\n"));
}

#[test]
fn every_template_is_used() {
    let listed = read("src/host/scripts.rs");
    let source: String = files("src").iter().filter(|p| extension(p) == "rs").map(read).collect();
    let unused: Vec<PathBuf> = files("templates")
        .into_iter()
        .filter(|path| {
            let below = path.strip_prefix("templates").unwrap().display().to_string();
            match below.strip_prefix("host/") {
                Some(script) => !listed.contains(&format!("\"{script}\"")),
                None => !source.contains(&format!("templates/{below}\")")),
            }
        })
        .collect();
    assert!(unused.is_empty(), "no program text names {unused:?}");
}
