//! secrets.yaml: reading, overriding, generating, and never showing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use xgenctl::project::{Mode, ProjectError, SecretsStore};
use xgenctl::secret::{Redactor, Secret};

fn open(path: &Path, mode: Mode) -> Result<SecretsStore, ProjectError> {
    SecretsStore::open(Some(path.to_owned()), [], mode, &Redactor::default())
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets.yaml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    (folder, path)
}

fn value(store: &SecretsStore, name: &str) -> Option<String> {
    store.get(name).map(|s| s.expose().to_owned())
}

/// Only secrets.yaml is in the folder: no temporary file stayed.
fn only_the_file(folder: &Path) {
    let names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["secrets.yaml"]);
}

#[test]
fn every_value_is_text() {
    let (_folder, path) =
        file("# mine\nA: plain\nB: \"quo\\\"ted\"\nC: 0123\nD: true\nE:\nF: ~\nG_2: |\n  two\n  lines\n");
    let store = open(&path, Mode::Real).unwrap();
    assert_eq!(value(&store, "A").as_deref(), Some("plain"));
    assert_eq!(value(&store, "B").as_deref(), Some("quo\"ted"));
    assert_eq!(value(&store, "C").as_deref(), Some("0123"));
    assert_eq!(value(&store, "D").as_deref(), Some("true"));
    assert_eq!((value(&store, "E"), value(&store, "F")), (None, None));
    assert_eq!(value(&store, "G_2").as_deref(), Some("two\nlines\n"));
    assert!(store.warnings().is_empty());
    assert!(!format!("{store:?}").contains("plain"));
}

#[test]
fn a_missing_or_empty_file_is_no_secrets() {
    let (_folder, path) = file("# nothing yet\n");
    assert_eq!(value(&open(&path, Mode::Real).unwrap(), "A"), None);
    assert_eq!(value(&open(&path.with_file_name("none.yaml"), Mode::Real).unwrap(), "A"), None);
}

#[test]
fn variables_win_and_all_values_are_masked() {
    let (_folder, path) = file("A: from-the-file\nB: from-the-file-too\n");
    let redactor = Redactor::default();
    let variables = [("XGENCTL_SECRET_A", "from-the-shell"), ("XGENCTL_SECRET_B", ""), ("PATH", "/bin")];
    let variables = variables.map(|(k, v)| (k.to_owned(), v.to_owned()));
    let store = SecretsStore::open(Some(path), variables, Mode::Real, &redactor).unwrap();
    assert_eq!(value(&store, "A").as_deref(), Some("from-the-shell"));
    assert_eq!(value(&store, "B").as_deref(), Some("from-the-file-too"));
    let text = "from-the-file-too from-the-file from-the-shell";
    assert_eq!(redactor.redact(text), "[redacted] [redacted] [redacted]");
}

#[test]
fn what_others_can_read_is_a_warning() {
    let (_folder, path) = file("A: some-value\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let name = path.display();
    assert_eq!(
        open(&path, Mode::Real).unwrap().warnings(),
        [format!("{name}: others can read it (mode 0644); run: chmod 600 {name}")]
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(open(&path, Mode::Real).unwrap().warnings().is_empty());
}

#[test]
fn a_missing_secret_says_how_to_provide_it() {
    let mut store = SecretsStore::open(Some("site/secrets.yaml".into()), [], Mode::Real, &Redactor::default()).unwrap();
    assert_eq!(
        store.require("GIT_TOKEN", "site/project.yaml:4:9").unwrap_err().render(),
        "error: site/project.yaml:4:9: the secret `GIT_TOKEN` is not set\n  \
         = help: add `GIT_TOKEN: \"…\"` to site/secrets.yaml, or set the variable XGENCTL_SECRET_GIT_TOKEN\n"
    );
    let mut store = SecretsStore::open(None, [], Mode::Real, &Redactor::default()).unwrap();
    assert_eq!(
        store.require("GIT_TOKEN", "--git").unwrap_err().render(),
        "error: --git: the secret `GIT_TOKEN` is not set\n  = help: set the variable XGENCTL_SECRET_GIT_TOKEN\n"
    );
    assert_eq!(
        store.generate_if_missing("POSTGRES_PASSWORD").unwrap_err().render(),
        "error: POSTGRES_PASSWORD: there is no secrets.yaml to save a generated secret in\n  \
         = help: set the variable XGENCTL_SECRET_POSTGRES_PASSWORD, or make a project.yaml with `xgenctl init`\n"
    );
}

#[test]
fn generated_secrets_are_saved_and_stay() {
    let (folder, path) = file("# mine\nA: old-value # note\n\n# last");
    let redactor = Redactor::default();
    let mut store = SecretsStore::open(Some(path.clone()), [], Mode::Real, &redactor).unwrap();
    let made = store.generate_if_missing("NEW_ONE").unwrap();
    assert_eq!(made.expose().len(), 32);
    assert!(made.expose().bytes().all(|b| b.is_ascii_alphanumeric()), "{}", made.expose());
    assert_eq!(redactor.redact(made.expose()), "[redacted]");
    assert_eq!(store.generate_if_missing("NEW_ONE").unwrap(), made);
    assert_eq!(store.generate_if_missing("A").unwrap().expose(), "old-value");
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, format!("# mine\nA: old-value # note\n\n# last\nNEW_ONE: \"{}\"\n", made.expose()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(open(&path, Mode::Real).unwrap().get("NEW_ONE"), Some(made.clone()));
    assert_ne!(store.generate_if_missing("ANOTHER").unwrap(), made);
    only_the_file(folder.path());
}

#[test]
fn a_new_file_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets.yaml");
    let mut store = open(&path, Mode::Real).unwrap();
    let made = store.generate_if_missing("REDIS_PASSWORD").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        format!(
            "# Passwords and tokens of this site. Keep this file to yourself: mode 0600, never in Git.\n\
             REDIS_PASSWORD: \"{}\"   # Redis\n",
            made.expose()
        )
    );
    only_the_file(folder.path());
}

#[test]
fn what_another_process_saved_meanwhile_counts() {
    let (_folder, path) = file("A: aaaaaa\n");
    let (mut one, mut two) = (open(&path, Mode::Real).unwrap(), open(&path, Mode::Real).unwrap());
    let made = one.generate_if_missing("SHARED").unwrap();
    one.generate_if_missing("OTHER").unwrap();
    assert_eq!(two.generate_if_missing("SHARED").unwrap(), made);
    assert_eq!(two.get("OTHER"), one.get("OTHER"));
    assert_eq!(fs::read_to_string(&path).unwrap().matches("SHARED").count(), 1);
}

#[test]
fn a_symbolic_link_stays_one() {
    let (_folder, path) = file("A: aaaaaa\n");
    let link = path.with_file_name("link.yaml");
    symlink("secrets.yaml", &link).unwrap();
    let mut store = open(&link, Mode::Real).unwrap();
    store.generate_if_missing("NEW").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&path).unwrap().contains("NEW: "));
}

#[test]
fn a_rehearsal_makes_up_the_same_and_saves_nothing() {
    let (folder, path) = file("A: aaaaaa\n");
    let redactor = Redactor::default();
    let mut store = SecretsStore::open(Some(path.clone()), [], Mode::Rehearsal, &redactor).unwrap();
    let made = store.generate_if_missing("NEW").unwrap();
    assert_eq!(made, open(&path, Mode::Rehearsal).unwrap().require("NEW", "x").unwrap());
    assert_ne!(made, store.require("NEWER", "x").unwrap());
    assert_eq!(store.generate_if_missing("A").unwrap().expose(), "aaaaaa");
    assert_eq!(redactor.redact(made.expose()), "[redacted]");
    store.set("TOKEN", Secret::new("some-token")).unwrap();
    assert_eq!(value(&store, "TOKEN").as_deref(), Some("some-token"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "A: aaaaaa\n");
    only_the_file(folder.path());
}

#[test]
fn any_value_survives_being_saved() {
    let (_folder, path) = file("");
    let mut store = open(&path, Mode::Real).unwrap();
    for (i, text) in
        ["a\"b\\c", "tab\tnew\nline\r", "ü😀 #x", "${secret:A}", " lead", "'", "\u{7f}\u{1}"].iter().enumerate()
    {
        store.set(&format!("S{i}"), Secret::new(*text)).unwrap();
        assert_eq!(value(&open(&path, Mode::Real).unwrap(), &format!("S{i}")).as_deref(), Some(*text));
    }
}

#[test]
fn a_file_that_a_line_cannot_be_added_to_stays_as_it_is() {
    for text in ["{ A: aaaaaa }\n", "A: aaaaaa\n...\n"] {
        let (folder, path) = file(text);
        let error = open(&path, Mode::Real).unwrap().generate_if_missing("NEW").unwrap_err().render();
        assert_eq!(
            error.replace(&folder.path().display().to_string(), "DIR"),
            "error: DIR/secrets.yaml: a line cannot be added at its end\n  \
             = help: add a line `NEW: \"…\"` by hand, one name a line\n"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        only_the_file(folder.path());
    }
}

#[test]
fn malformed_files_are_refused_without_showing_them() {
    let shape = "  = help: one secret a line: NAME: \"value\"\n";
    let name = "  = help: names have capital letters, digits and `_`, and begin with a letter: GIT_TOKEN\n";
    let cases = [
        ("A: hunter22\nB: [hunter22\n", format!("error: not valid YAML\n --> DIR/secrets.yaml:2:13\n{shape}")),
        ("A: hunter22\n hunter22\n: x\n", format!("error: not valid YAML\n --> DIR/secrets.yaml:3:1\n{shape}")),
        ("A: x\nA: hunter22\n", format!("error: a name stands here twice\n --> DIR/secrets.yaml:2:1\n{shape}")),
        ("hunter22\n", format!("error: not a map of names to values\n --> DIR/secrets.yaml:1:1\n{shape}")),
        ("- hunter22\n", format!("error: not a map of names to values\n --> DIR/secrets.yaml:1:1\n{shape}")),
        ("A: x\nhunter22: x\n", format!("error: entry 2 has no valid name\n --> DIR/secrets.yaml:2:1\n{name}")),
        ("A: { b: hunter22 }\n", format!("error: the value of `A` is no text\n --> DIR/secrets.yaml:1:1\n{shape}")),
        ("A: !hunter22 x\n", format!("error: not valid YAML\n --> DIR/secrets.yaml:1:4\n{shape}")),
    ];
    for (text, expected) in cases {
        let (folder, path) = file(text);
        let error = open(&path, Mode::Real).unwrap_err();
        assert_eq!(error.render().replace(&folder.path().display().to_string(), "DIR"), expected, "{text}");
        assert!(!format!("{error} {error:?}").contains("hunter22"), "{error:?}");
    }
    let variables = [("XGENCTL_SECRET_git".to_owned(), "hunter22".to_owned())];
    let error = SecretsStore::open(None, variables, Mode::Real, &Redactor::default()).unwrap_err();
    assert_eq!(error.render(), format!("error: XGENCTL_SECRET_git: is no name of a secret\n{name}"));
}
