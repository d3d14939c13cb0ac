use super::*;

const K3S: &str = "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Q0E=
    server: https://127.0.0.1:6443
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
kind: Config
preferences: {}
users:
- name: default
  user:
    client-certificate-data: Q0VSVA==
    client-key-data: S0VZ
";

const OTHERS: &str = "# the lab, do not touch
apiVersion: v1
kind: Config
preferences: {colors: true}
extensions:
- {name: minikube, extension: {provider: kvm}}
clusters:
- {name: lab, cluster: {server: 'https://lab.example:6443', tls-server-name: lab}}
users:
- {name: me, user: {exec: {command: login, apiVersion: client.authentication.k8s.io/v1}}}
contexts:
- {name: lab, context: {cluster: lab, user: me, namespace: default}}
current-context: lab
";

fn new() -> String {
    rewrite(K3S, "xgen", "https://10.0.0.10:6443").unwrap()
}

/// A folder with a kubeconfig in it.
fn with(content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn everything_is_named_after_the_project() {
    assert_eq!(
        new(),
        "apiVersion: v1
clusters:
- name: xgen
  cluster:
    certificate-authority-data: Q0E=
    server: https://10.0.0.10:6443
contexts:
- name: xgen
  context:
    cluster: xgen
    user: xgen
current-context: xgen
kind: Config
preferences: {}
users:
- name: xgen
  user:
    client-certificate-data: Q0VSVA==
    client-key-data: S0VZ
"
    );
    let error = rewrite("kind: Config", "xgen", "https://x").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server's kubeconfig is not a kubeconfig: it has 0 clusters where one is expected"
    );
}

#[test]
fn other_entries_unknown_fields_and_the_current_context_stay() {
    let merged = merge(OTHERS, &new(), false, false).unwrap();
    let value: Value = serde_yaml::from_str(&merged).unwrap();
    let before: Value = serde_yaml::from_str(OTHERS).unwrap();
    for key in ["apiVersion", "kind", "preferences", "extensions", "current-context"] {
        assert_eq!(value[key], before[key], "{key}");
    }
    for key in ["clusters", "users", "contexts"] {
        assert_eq!(value[key][0], before[key][0], "{key}");
        assert_eq!(value[key][1]["name"], "xgen", "{key}");
        assert_eq!(value[key].as_sequence().unwrap().len(), 2, "{key}");
    }
    assert_eq!(merge(&merged, &new(), false, false).unwrap(), merged);
    let current: Value = serde_yaml::from_str(&merge(OTHERS, &new(), false, true).unwrap()).unwrap();
    assert_eq!(current["current-context"], "xgen");
}

#[test]
fn entries_of_the_same_cluster_are_replaced_and_those_of_another_are_not() {
    let merged = merge(OTHERS, &new(), false, false).unwrap();
    // Set up again: the address stays, the certificates are others.
    let again = new().replace("Q0E=", "T1RIRVI=").replace("S0VZ", "S0VZMg==");
    let replaced = merge(&merged, &again, false, false).unwrap();
    assert!(replaced.contains("S0VZMg==") && !replaced.contains("S0VZ\n"), "{replaced}");

    let conflict = |existing: &str| {
        let forced = merge(existing, &new(), true, false).unwrap();
        assert!(forced.contains("https://10.0.0.10:6443"));
        merge(existing, &new(), false, false).unwrap_err().to_string()
    };
    let head = "the kubeconfig has a";
    assert_eq!(
        conflict("clusters: [{name: xgen, cluster: {server: 'https://else.example'}}]"),
        format!("{head} cluster `xgen` that belongs to another cluster (https://else.example)")
    );
    assert_eq!(
        conflict("contexts: [{name: xgen, context: {cluster: lab, user: me}}]"),
        format!("{head} context `xgen` that belongs to another cluster (lab)")
    );
    assert_eq!(
        conflict("contexts: [{name: old, context: {cluster: lab, user: xgen}}]"),
        format!("{head} user `xgen` that belongs to another cluster (lab)")
    );
}

#[test]
fn a_new_file_is_private_and_its_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".kube/config");
    let outcome = write(&path, &new(), Mode::New, false).unwrap();
    assert_eq!(outcome, Outcome { path: path.clone(), backup: None, changed: true });
    assert_eq!(fs::read_to_string(&path).unwrap(), new());
    assert_eq!(mode(&path), 0o600);
    // The same again is no conflict, something else is.
    assert!(!write(&path, &new(), Mode::New, false).unwrap().changed);
    let other = rewrite(K3S, "other", "https://10.0.0.20:6443").unwrap();
    let error = write(&path, &other, Mode::New, false).unwrap_err();
    assert_eq!(error.to_string(), format!("{} exists already", path.display()));
    assert_eq!(names(path.parent().unwrap()), ["config"]);
}

#[test]
fn a_merge_keeps_a_backup_with_comments_and_the_second_one_does_nothing() {
    let (folder, path) = with(OTHERS);
    let outcome = write(&path, &new(), Mode::Merge, false).unwrap();
    let backup = outcome.backup.unwrap();
    assert_eq!(fs::read_to_string(&backup).unwrap(), OTHERS);
    let name = backup.file_name().unwrap().to_str().unwrap();
    let digits: String = name.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(digits, "config.backup-00000000-000000");
    assert_eq!((mode(&path), mode(&backup)), (0o600, 0o600));
    let after = fs::read_to_string(&path).unwrap();
    assert_eq!(after, merge(OTHERS, &new(), false, false).unwrap());

    let outcome = write(&path, &new(), Mode::Merge, false).unwrap();
    assert_eq!(outcome, Outcome { path: path.clone(), backup: None, changed: false });
    assert_eq!(fs::read_to_string(&path).unwrap(), after);
    assert_eq!(names(folder.path()).len(), 2);

    // Two backups in the same second do not overwrite each other.
    for server in ["https://10.0.0.11:6443", "https://10.0.0.12:6443"] {
        let moved = rewrite(K3S, "xgen", server).unwrap();
        assert!(write(&path, &moved, Mode::Merge, false).unwrap().backup.is_some());
    }
    assert_eq!(names(folder.path()).len(), 4);
}

#[test]
fn a_symbolic_link_stays_one() {
    let (folder, path) = with(OTHERS);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("config", &link).unwrap();
    write(&link, &new(), Mode::Merge, false).unwrap();
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("config"));
    assert!(fs::read_to_string(&path).unwrap().contains("xgen"));
    let dangling = folder.path().join("dangling");
    std::os::unix::fs::symlink("later", &dangling).unwrap();
    write(&dangling, &new(), Mode::Merge, false).unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("later")).unwrap(), new());
}

#[test]
fn what_is_no_kubeconfig_is_left_alone() {
    for (content, reason) in [
        ("just text", "it is not a mapping"),
        ("clusters: 5", "`clusters` is not a list"),
        ("a: [1", "did not find expected ',' or ']'"),
    ] {
        let (folder, path) = with(content);
        for mode in [Mode::New, Mode::Merge, Mode::Overwrite] {
            let error = write(&path, &new(), mode, false).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{} is not a kubeconfig: {reason}", path.display())), "{error}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        assert_eq!(names(folder.path()), ["config"]);
    }
    let (_folder, path) = with("");
    fs::write(&path, [0xff, 0xfe]).unwrap();
    let error = write(&path, &new(), Mode::Merge, false).unwrap_err().to_string();
    assert_eq!(error, format!("{} is not a kubeconfig: it is not text", path.display()));
}

#[test]
fn empty_files_and_null_lists_are_filled() {
    for content in ["", "\n", "apiVersion: v1\nclusters: null\ncontexts: null\ncurrent-context: \"\"\nusers: null\n"] {
        let (_folder, path) = with(content);
        let outcome = write(&path, &new(), Mode::Merge, false).unwrap();
        assert_eq!(outcome.backup.is_some(), content.len() > 1);
        let value: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(
            (value["current-context"].as_str(), value["users"][0]["name"].as_str()),
            (Some("xgen"), Some("xgen"))
        );
    }
}

#[test]
fn the_first_path_of_the_variable_wins() {
    let home = Path::new("/home/op");
    assert_eq!(default_path(None, home), Path::new("/home/op/.kube/config"));
    assert_eq!(default_path(Some(OsStr::new("")), home), Path::new("/home/op/.kube/config"));
    assert_eq!(default_path(Some(OsStr::new(":/a:/b")), home), Path::new("/a"));
}
