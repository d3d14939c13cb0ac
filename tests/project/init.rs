//! `xgenctl init`: the files it writes, by flags and by answers.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Parser;
use xgenctl::cli::init::{Ask, InitArgs, InitError, Rule, init};
use xgenctl::project::{Mode, Project, SecretsStore};
use xgenctl::secret::Redactor;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: InitArgs,
}

fn args(folder: &Path, flags: &[&str]) -> InitArgs {
    let output = folder.display().to_string();
    let all = ["init", "--out", &output].into_iter().chain(flags.iter().copied());
    Cli::try_parse_from(all).unwrap_or_else(|e| panic!("{e}")).args
}

/// Runs without a terminal; what it printed, with the folder as DIR.
fn run(folder: &Path, flags: &[&str], token: Option<&str>) -> Result<String, InitError> {
    let mut out = Vec::new();
    init(args(folder, flags), None, token.map(str::to_owned), &Redactor::default(), &mut out)?;
    Ok(String::from_utf8(out).unwrap().replace(&folder.display().to_string(), "DIR"))
}

fn loaded(folder: &Path) -> (Project, SecretsStore) {
    let path = folder.join("project.yaml");
    let redactor = Redactor::default();
    let mut store = SecretsStore::beside(&path, Mode::Real, &redactor).unwrap();
    let project = Project::load(&path, &mut store, &redactor, Mode::Real).unwrap_or_else(|e| panic!("{}", e.render()));
    assert!(store.warnings().is_empty());
    (project, store)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const REQUIRED: &[&str] = &["--name", "site-1", "--domain", "xgen.example"];

#[test]
fn by_flags_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = run(folder.path(), REQUIRED, None).unwrap();
    assert_eq!(
        out,
        "wrote   DIR/project.yaml\nwrote   DIR/secrets.yaml (only you can read it; 7 passwords generated)\n\
         next    xgenctl check -p DIR/project.yaml; then xgenctl setup all -p DIR/project.yaml\n"
    );
    let (project, store) = loaded(folder.path());
    assert_eq!((project.name.as_str(), project.env.as_str()), ("site-1", "dev"));
    assert_eq!(project.domain.as_deref(), Some("xgen.example"));
    assert_eq!((project.nodes.len(), project.nodes[0].display_name()), (1, "localhost"));
    assert_eq!(store.get("POSTGRES_PASSWORD").unwrap().expose().len(), 32);
    assert_ne!(store.get("POSTGRES_PASSWORD"), store.get("REDIS_PASSWORD"));
    assert_eq!(store.get("GIT_TOKEN"), None);
    let mode = fs::metadata(folder.path().join("secrets.yaml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(names(folder.path()), ["project.yaml", "secrets.yaml"]);
}

#[test]
fn with_nodes_and_a_repository() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "glpat-from-a-file\n").unwrap();
    let token = token.display().to_string();
    let mut flags = REQUIRED.to_vec();
    flags.extend(["--env", "prd", "--git-url", "https://git.example/infra.git", "--git-token-file", &token]);
    flags.extend(["--node", "name=master,host=10.0.0.10,user=ops,port=2222"]);
    flags.extend(["--node", "name=gpu-1,host=fd00::12,jump=ops@bastion"]);
    flags.extend(["--node", "name=edge,role=agent,join=manual"]);
    run(folder.path(), &flags, Some("glpat-from-a-variable")).unwrap();
    let (project, store) = loaded(folder.path());
    let list: Vec<_> = project.nodes.iter().map(|n| (n.display_name(), format!("{:?}", n.role))).collect();
    let expected = [("master", "Server"), ("gpu-1", "Agent"), ("edge", "Agent")];
    assert_eq!(list, expected.map(|(n, r)| (n, r.to_owned())));
    assert_eq!(project.env, "prd");
    assert_eq!(project.source.unwrap().repo_url, "https://git.example/infra.git");
    assert_eq!(store.get("GIT_TOKEN").unwrap().expose(), "glpat-from-a-file");
    let text = fs::read_to_string(folder.path().join("project.yaml")).unwrap();
    assert!(!text.contains("glpat"));
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "snapshots" }, {
        insta::assert_snapshot!("init_project_yaml", text);
    });
}

#[test]
fn without_a_terminal_missing_answers_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = run(folder.path(), &[], None).unwrap_err();
    assert_eq!(error.to_string(), "there is no terminal to ask on, and these are missing: --name, --domain");
    assert_eq!(
        error.hint().as_deref(),
        Some("give them, or run `xgenctl init` on a terminal; `--help` lists all flags")
    );
    assert_eq!(error.exit_code().code(), 2);
    let error = run(folder.path(), &["--name", "a"], None).unwrap_err();
    assert_eq!(error.to_string(), "there is no terminal to ask on, and these are missing: --domain");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn answers_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let error = |flags: &[&str]| {
        let error = run(folder.path(), flags, None).unwrap_err();
        assert_eq!(error.exit_code().code(), 2);
        error.to_string()
    };
    assert_eq!(
        error(&["--name", "Site 1", "--domain", "a.example"]),
        "--name: `Site 1` may only have lower-case letters, digits and `-`"
    );
    assert_eq!(
        error(&["--name", "a", "--domain", "https://a"]),
        "--domain: `https://a` may only have lower-case letters, digits, `-` and `.`"
    );
    assert_eq!(
        error(&["--name", "a", "--domain", "a.example", "--git-url", "https://u:glpat-1@git.example/a"]),
        "--git-url: the token does not belong into the address; it is asked for, or read from --git-token-file"
    );
    assert_eq!(
        error(&[
            "--name",
            "a",
            "--domain",
            "a.example",
            "--node",
            "name=a,host=h",
            "--node",
            "name=b,role=server,host=i"
        ]),
        "project.yaml (not written):15:1: 2 servers: etcd needs an odd number"
    );
    assert!(names(folder.path()).is_empty(), "nothing is written");
    for (node, reason) in [
        ("name=a,hots=h", "unknown key `hots`: did you mean `host`?"),
        ("host=h", "name=NAME is missing"),
        ("name=a,role=worker", "role is server or agent"),
        ("name=a,port=0", "port is a number from 1 to 65535"),
        ("a", "write KEY=VALUE, separated by commas"),
        ("name=a,password=x", "password is never given on the command line"),
    ] {
        let error = Cli::try_parse_from(["init", "--node", node]).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn nothing_is_replaced_unasked_and_secrets_never() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("project.yaml"), "mine\n").unwrap();
    let error = run(folder.path(), REQUIRED, None).unwrap_err();
    assert_eq!(error.to_string(), format!("{}/project.yaml is there already", folder.path().display()));
    assert_eq!(error.hint().as_deref(), Some("--force replaces it and keeps the old one as .bak"));
    assert_eq!(names(folder.path()), ["project.yaml"]);

    fs::write(folder.path().join("secrets.yaml"), "# mine\nREDIS_PASSWORD: old-password\nGIT_TOKEN: old-token\n")
        .unwrap();
    let forced: Vec<&str> = REQUIRED.iter().copied().chain(["--force"]).collect();
    let out = run(folder.path(), &forced, Some("new-token")).unwrap();
    assert_eq!(
        out,
        "wrote   DIR/project.yaml\nkept    the old file as DIR/project.yaml.bak\n\
         wrote   DIR/secrets.yaml (only you can read it; 6 passwords generated)\n\
         kept    the GIT_TOKEN that DIR/secrets.yaml has; change it there if it is old\n\
         next    xgenctl check -p DIR/project.yaml; then xgenctl setup all -p DIR/project.yaml\n"
    );
    let (_, store) = loaded(folder.path());
    assert_eq!(store.get("REDIS_PASSWORD").unwrap().expose(), "old-password");
    assert_eq!(store.get("GIT_TOKEN").unwrap().expose(), "old-token");
    assert!(fs::read_to_string(folder.path().join("secrets.yaml")).unwrap().starts_with("# mine\n"));

    let second = fs::read_to_string(folder.path().join("project.yaml")).unwrap();
    run(folder.path(), &forced, None).unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("project.yaml.bak")).unwrap(), "mine\n");
    assert_eq!(fs::read_to_string(folder.path().join("project.yaml.bak2")).unwrap(), second);
}

#[test]
fn secrets_stay_out_of_git() {
    let folder = tempfile::tempdir().unwrap();
    let ignore = folder.path().join(".gitignore");
    fs::write(&ignore, "target").unwrap();
    let out = run(folder.path(), REQUIRED, None).unwrap();
    assert!(out.contains("changed DIR/.gitignore: secrets.yaml stays out of Git\n"), "{out}");
    assert_eq!(fs::read_to_string(&ignore).unwrap(), "target\nsecrets.yaml\n");
    let forced: Vec<&str> = REQUIRED.iter().copied().chain(["--force"]).collect();
    assert!(!run(folder.path(), &forced, None).unwrap().contains(".gitignore"));
    assert_eq!(fs::read_to_string(&ignore).unwrap(), "target\nsecrets.yaml\n");

    // In a repository without the file; below one that has it already.
    let repository = tempfile::tempdir().unwrap();
    fs::create_dir(repository.path().join(".git")).unwrap();
    run(&repository.path().join("sites/a"), REQUIRED, None).unwrap();
    assert_eq!(fs::read_to_string(repository.path().join("sites/a/.gitignore")).unwrap(), "secrets.yaml\n");
    fs::write(repository.path().join(".gitignore"), "secrets.yaml\n").unwrap();
    run(&repository.path().join("sites/b"), REQUIRED, None).unwrap();
    assert_eq!(names(&repository.path().join("sites/b")), ["project.yaml", "secrets.yaml"]);
}

/// A person with a list of answers.
struct Person(Vec<(&'static str, &'static str)>);

impl Ask for Person {
    fn text(&mut self, question: &str, default: &str, rule: Rule<'_>) -> io::Result<String> {
        let (expected, answer) = self.0.remove(0);
        assert_eq!(question, expected);
        let answer = if answer.is_empty() { default } else { answer };
        rule(answer).map_err(io::Error::other)?;
        Ok(answer.to_owned())
    }

    fn secret(&mut self, question: &str) -> io::Result<String> {
        self.text(question, "", &|_| Ok(()))
    }
}

#[test]
fn by_questions() {
    let folder = tempfile::tempdir().unwrap();
    let mut person = Person(vec![
        ("Name of the project", ""),
        ("Domain of the platform", "xgen.example"),
        ("Environment (dev, stg, prd)", "stg"),
        ("Git repository for Argo CD (empty: later)", "git@git.example:infra.git"),
        ("Server, as USER@HOST (empty: this machine)", "ops@10.0.0.10:2222"),
        ("Its name", ""),
        ("Another node, as USER@HOST (empty: no more)", "worker.example"),
        ("Its name", ""),
        ("Its role (server or agent)", ""),
        ("Another node, as USER@HOST (empty: no more)", ""),
        ("Git token (empty: later)", "glpat-typed"),
    ]);
    let redactor = Redactor::default();
    let mut out = Vec::new();
    init(args(folder.path(), &[]), Some(&mut person), None, &redactor, &mut out).unwrap();
    assert!(person.0.is_empty());
    assert!(!String::from_utf8(out).unwrap().contains("glpat"));
    assert_eq!(redactor.redact("glpat-typed"), "[redacted]");
    let (project, store) = loaded(folder.path());
    assert_eq!((project.name.as_str(), project.env.as_str()), ("xgen", "stg"));
    let list: Vec<_> = project.nodes.iter().map(|n| n.display_name()).collect();
    assert_eq!(list, ["master", "worker-1"]);
    assert_eq!(store.get("GIT_TOKEN").unwrap().expose(), "glpat-typed");
}

#[test]
fn questions_broken_off_leave_nothing() {
    struct Gone;
    impl Ask for Gone {
        fn text(&mut self, _: &str, _: &str, _: Rule<'_>) -> io::Result<String> {
            Err(io::Error::new(io::ErrorKind::Interrupted, "read interrupted"))
        }
        fn secret(&mut self, _: &str) -> io::Result<String> {
            Err(io::Error::new(io::ErrorKind::Interrupted, "read interrupted"))
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let error =
        init(args(folder.path(), &[]), Some(&mut Gone), None, &Redactor::default(), &mut Vec::new()).unwrap_err();
    assert_eq!(
        (error.exit_code().code(), error.to_string().as_str()),
        (130, "the questions were not answered: read interrupted")
    );
    assert!(names(folder.path()).is_empty());
}
