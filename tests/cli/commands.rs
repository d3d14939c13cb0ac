//! `kubeconfig`, `runs`, `schema`, `completions`, `--help` and `--version`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::site::Site;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

const OTHER: &str = "apiVersion: v1
kind: Config
current-context: other
clusters:
- name: other
  cluster:
    server: https://192.0.2.1:6443
contexts:
- name: other
  context:
    cluster: other
    user: other
users:
- name: other
  user:
    token: secret-of-another-cluster
";

#[test]
fn a_kubeconfig_is_printed_or_written_for_its_owner_alone() {
    let site = Site::converged();
    let printed = site.rehearse("kubeconfig").ok().complains("");
    assert!(printed.stdout.contains("server: https://10.0.0.10:6443\n"), "{}", printed.stdout);
    assert!(printed.stdout.contains("current-context: shop\n"), "{}", printed.stdout);
    let written = site.rehearse("kubeconfig --write k.yaml").ok().complains("");
    assert_eq!(written.stdout, "wrote k.yaml (context shop)\n");
    assert_eq!(site.read("k.yaml"), printed.stdout);
    assert_eq!(mode(&site.path("k.yaml")), 0o600);
}

#[test]
fn a_file_that_is_there_is_not_replaced() {
    let site = Site::converged();
    for content in [OTHER, "no kubeconfig\n"] {
        site.write("k.yaml", content);
        let refused = site.rehearse("kubeconfig --write k.yaml").ends_with_code(1);
        assert!(refused.stderr.starts_with("error: k.yaml "), "{}", refused.stderr);
        assert!(refused.stderr.contains("\nhint: "), "{}", refused.stderr);
        assert_eq!(site.read("k.yaml"), content);
    }
    let both = site.rehearse("kubeconfig --write k.yaml --merge").ends_with_code(2);
    assert!(
        both.stderr.starts_with("error: the argument '--write <FILE>' cannot be used with '--merge'\n")
            || both.stderr.starts_with("error: the argument '--merge' cannot be used with '--write <FILE>'\n"),
        "{}",
        both.stderr
    );
}

#[test]
fn merging_keeps_what_is_there_and_a_backup_of_it() {
    let site = Site::converged();
    site.write("kube.yaml", OTHER);
    let path = site.path("kube.yaml");
    let kubeconfig = [("KUBECONFIG", path.to_str().unwrap())];
    let merged = site.run_with("kubeconfig --merge --rehearse=r", &kubeconfig).ok().complains("");
    assert!(
        merged
            .stdout
            .starts_with("wrote DIR/kube.yaml (context shop); what was there is kept as DIR/kube.yaml.backup-"),
        "{}",
        merged.stdout
    );
    let text = site.read("kube.yaml");
    for part in
        ["current-context: other\n", "secret-of-another-cluster", "https://192.0.2.1:6443", "https://10.0.0.10:6443"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    let backups: Vec<PathBuf> = fs::read_dir(site.path(""))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.to_str().unwrap().contains(".backup-"))
        .collect();
    assert_eq!(backups.len(), 1);
    assert_eq!(fs::read_to_string(&backups[0]).unwrap(), OTHER);

    // Again: the same content, and no second backup of it.
    site.run_with("kubeconfig --merge --rehearse=r", &kubeconfig).ok();
    assert_eq!(site.read("kube.yaml"), text);
    assert_eq!(fs::read_dir(site.path("")).unwrap().count(), 4);
    site.run_with("kubeconfig --merge --set-current --rehearse=r", &kubeconfig).ok();
    assert!(site.read("kube.yaml").contains("current-context: shop\n"));
}

#[test]
fn merging_makes_the_file_that_kubectl_uses_and_never_guesses_at_a_broken_one() {
    let site = Site::converged();
    let merged = site.rehearse("kubeconfig --merge").ok();
    assert_eq!(merged.stdout, "wrote HOME/.kube/config (context shop)\n");
    assert_eq!(mode(&site.home().join(".kube/config")), 0o600);

    site.write("broken.yaml", "clusters: [\n");
    let path = site.path("broken.yaml");
    let refused = site.run_with("kubeconfig --merge --rehearse=r", &[("KUBECONFIG", path.to_str().unwrap())]);
    let refused = refused.ends_with_code(1);
    assert!(refused.stderr.starts_with("error: DIR/broken.yaml is not a kubeconfig: "), "{}", refused.stderr);
    assert!(
        refused.stderr.ends_with("\nhint: correct or move that file, or write to another one; it was left as it is\n"),
        "{}",
        refused.stderr
    );
    assert_eq!(site.read("broken.yaml"), "clusters: [\n");
}

#[test]
fn without_a_cluster_there_is_no_kubeconfig() {
    let told = "error: no server of the cluster has a kubeconfig yet\nhint: run `xgenctl setup k3s` first\n";
    Site::three().rehearse("kubeconfig --merge").ends_with_code(1).complains(told);
}

#[test]
fn runs_are_listed_and_shown_and_their_logs_are_private_and_hold_no_secret() {
    let site = Site::three();
    assert_eq!(site.run("runs").ok().stdout, "No runs yet.\n");
    assert_eq!(site.run("runs -o json").ok().value(), serde_json::json!([]));
    site.run("runs show last")
        .ends_with_code(2)
        .complains("error: there is no run `last`\nhint: `xgenctl runs` lists the runs that are kept\n");

    site.rehearse("setup all").ok();
    site.rehearse("setup all --dry-run --force").ok();
    site.rehearse("setup agents --force -v").ok();
    let list = site.run("runs -o json").ok().complains("").value();
    let mut commands: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|run| (run["command"].as_str().unwrap(), run["outcome"].as_str().unwrap()))
        .collect();
    // Those of one second are in no particular order.
    commands.sort_unstable();
    assert_eq!(commands, [("setup agents", "changed"), ("setup all", "changed"), ("setup all --dry-run", "planned")]);
    assert!(list.as_array().unwrap().iter().all(|run| run["rehearsal"] == true && run["project"] == "shop"));
    let table = site.run("runs").ok();
    assert_eq!(table.stdout.lines().count(), 4, "{}", table.stdout);

    let shown = site.run("runs show last").ok().complains("");
    assert!(shown.stdout.contains("  setup "), "{}", shown.stdout);
    for line in site.run("runs show last -o json").ok().stdout.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["event"].is_string() && event["at"].is_string());
    }
    site.run("runs show nonsense").ends_with_code(2);

    let secrets = site.simulated_secrets();
    let runs = site.home().join(".local/state/xgenctl/runs");
    assert_eq!(mode(&runs), 0o700);
    let mut files = 0;
    for run in fs::read_dir(&runs).unwrap() {
        for file in fs::read_dir(run.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            let text = fs::read_to_string(&path).unwrap();
            for secret in &secrets {
                assert!(!text.contains(secret.as_str()), "{secret} in {}", path.display());
            }
            files += 1;
        }
    }
    assert_eq!(files, 6);
}

#[test]
fn no_output_holds_a_secret() {
    let site = Site::converged();
    let secrets = site.simulated_secrets();
    for args in [
        "setup all --dry-run --force",
        "setup all --dry-run --force -o json",
        "setup all --force --yes -v",
        "status",
        "status -o json",
        "check -o json",
        "node list -o json",
        "runs show last",
    ] {
        let output = site.rehearse(args);
        for secret in &secrets {
            assert!(
                !output.stdout.contains(secret.as_str()) && !output.stderr.contains(secret.as_str()),
                "{args}: {secret}"
            );
        }
    }
}

#[test]
fn completions_schema_help_and_version() {
    let site = Site::empty();
    for (shell, part) in
        [("bash", "complete -F _xgenctl"), ("zsh", "#compdef xgenctl"), ("fish", "complete -c xgenctl")]
    {
        let script = site.run(&format!("completions {shell}")).ok().complains("");
        assert!(script.stdout.contains(part), "{shell}");
        assert!(script.stdout.contains("kubeconfig"), "{shell}");
    }
    site.run("completions tcsh").ends_with_code(2);
    let schema: serde_json::Value = serde_json::from_str(&site.run("schema").ok().complains("").stdout).unwrap();
    assert!(schema["properties"]["nodes"].is_object());
    assert_eq!(site.run("--version").ok().stdout, concat!("xgenctl ", env!("CARGO_PKG_VERSION"), "\n"));
    let codes = "
Exit codes:
    0  done, or nothing to do
    1  a step failed
    2  wrong command line or project.yaml
    3  a preflight check blocks
    4  not converged (status; setup --dry-run --exit-code)
    5  another run holds the lock
  130  interrupted
";
    for help in ["--help", "-h", "help"] {
        assert!(site.run(help).ok().stdout.ends_with(codes), "{help}");
    }
    // Every command explains itself; each is built, which finds clashes of flags.
    for command in [
        "init",
        "setup",
        "status",
        "node",
        "node list",
        "node add",
        "node remove",
        "check",
        "kubeconfig",
        "schema",
        "runs",
        "runs show",
        "completions",
    ] {
        let help = site.run(&format!("{command} --help")).ok();
        assert!(help.stdout.contains("\nUsage: xgenctl"), "{command}: {}", help.stdout);
    }
    let wrong = site.run("setpu all").ends_with_code(2);
    assert!(wrong.stderr.contains("similar subcommands exist: 'status', 'setup'"), "{}", wrong.stderr);
    site.run("").ends_with_code(2);
}
