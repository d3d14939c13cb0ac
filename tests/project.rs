//! project.yaml from the outside: what loads, what it becomes, and the whole text of every error.

use std::path::{Path, PathBuf};

use xgenctl::project::{Mode, Project, ProjectError, SecretsStore};
use xgenctl::secret::Redactor;

#[path = "project/edit.rs"]
mod edit;
#[path = "project/errors.rs"]
mod errors;
#[path = "project/init.rs"]
mod init;
#[path = "project/limits.rs"]
mod limits;
#[path = "project/loads.rs"]
mod loads;
#[path = "project/reference.rs"]
mod reference;
#[path = "project/secrets.rs"]
mod secrets;

/// Secrets without file and variables.
fn no_secrets(mode: Mode) -> SecretsStore {
    SecretsStore::open(Some(PathBuf::from("secrets.yaml")), [], mode, &Redactor::default()).expect("no file, no error")
}

/// Loads text as if it were `project.yaml`, with the secrets given as variables.
fn load_with(text: &str, secrets: &[(&str, &str)], mode: Mode) -> Result<Project, ProjectError> {
    let redactor = Redactor::default();
    let variables = secrets.iter().map(|(name, value)| (format!("XGENCTL_SECRET_{name}"), (*value).to_owned()));
    let mut store = SecretsStore::open(Some("secrets.yaml".into()), variables, mode, &redactor).expect("secrets");
    Project::parse(Path::new("project.yaml"), text, &mut store, &redactor, mode)
}

/// Loads text for a real run without secrets.
fn load(text: &str) -> Result<Project, ProjectError> {
    load_with(text, &[], Mode::Real)
}

/// The whole text of the error that a file gives.
fn error(text: &str) -> String {
    match load(text) {
        Ok(_) => panic!("this should not load:\n{text}"),
        Err(error) => {
            assert_eq!(error.exit_code(), 2);
            error.render()
        }
    }
}
