//! `init` without a terminal: flags in, files out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::site::Site;

#[test]
fn flags_make_a_project_that_loads_and_converges() {
    let site = Site::empty();
    let made = site
        .run("init --name shop --domain shop.example --node name=master,host=10.0.0.10 --node name=one,host=10.0.0.11")
        .ok()
        .complains("");
    assert_eq!(
        made.stdout,
        "wrote   ./project.yaml
wrote   ./secrets.yaml (only you can read it; 7 passwords generated)
next    xgenctl check; then xgenctl setup all
"
    );
    let mode = fs::metadata(site.path("secrets.yaml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let secrets = site.read("secrets.yaml");
    site.rehearse("setup all").ok();
    site.rehearse("status").ok();
    // A rehearsal makes up what is missing and saves nothing of it.
    assert_eq!(site.read("secrets.yaml"), secrets);

    let project = site.read("project.yaml");
    site.run("init --name other --domain other.example")
        .ends_with_code(2)
        .complains("error: ./project.yaml is there already\nhint: --force replaces it and keeps the old one as .bak\n");
    assert_eq!(site.read("project.yaml"), project);
    site.run("init --name other --domain other.example --force").ok();
    assert_ne!(site.read("project.yaml"), project);
    assert_eq!(site.read("secrets.yaml"), secrets, "secrets are never replaced");
}

#[test]
fn it_writes_to_another_folder_and_names_the_file_in_the_next_commands() {
    let site = Site::empty();
    let made = site.run("init --name shop --domain shop.example --out sites/shop").ok();
    assert!(
        made.stdout.ends_with(
            "next    xgenctl check -p sites/shop/project.yaml; then xgenctl setup all -p sites/shop/project.yaml\n"
        ),
        "{}",
        made.stdout
    );
    site.rehearse("setup all -p sites/shop/project.yaml").ok();
}

#[test]
fn without_answers_and_a_terminal_nothing_is_written() {
    let site = Site::empty();
    site.run("init").ends_with_code(2).complains(
        "error: there is no terminal to ask on, and these are missing: --name, --domain
hint: give them, or run `xgenctl init` on a terminal; `--help` lists all flags
",
    );
    site.run("init --name Shop_1 --domain shop.example")
        .ends_with_code(2)
        .complains("error: --name: `Shop_1` may only have lower-case letters, digits and `-`\n");
    assert_eq!(fs::read_dir(site.path("")).unwrap().count(), 0);
}
