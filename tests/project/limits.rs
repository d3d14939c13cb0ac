//! Files that cost more than a project may: refused at once, with a clear text.

use std::fs;

use xgenctl::project::{Mode, Project, SecretsStore};
use xgenctl::secret::Redactor;

use super::{error, load};

/// The error of a file on disk, its folder written as DIR.
fn error_of_file(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("project.yaml");
    fs::write(&file, bytes).unwrap();
    let redactor = Redactor::default();
    let mut store = SecretsStore::open(None, [], Mode::Real, &redactor).unwrap();
    let error = Project::load(&file, &mut store, &redactor, Mode::Real).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    error.render().replace(&folder.path().display().to_string(), "DIR")
}

const TOO_LARGE: &str = "error: DIR/project.yaml: the file is larger than 1 MiB\n  = help: a project file has a few \
                         kilobytes; check that this is the right file\n";

#[test]
fn ten_megabytes() {
    assert_eq!(error_of_file(&vec![b'#'; 10 << 20]), TOO_LARGE);
}

#[test]
fn one_byte_too_many_and_not_one_less() {
    let mut text = b"project: { name: a }\n#".to_vec();
    text.resize((1 << 20) + 1, b'x');
    assert_eq!(error_of_file(&text), TOO_LARGE);
    load(std::str::from_utf8(&text[..1 << 20]).unwrap()).unwrap();
}

fn too_deep(text: &str) {
    let error = error(text);
    assert!(error.starts_with("error: nested more than 64 levels deep\n"), "{error}");
    assert!(error.contains("--> project.yaml:"), "{error}");
    assert!(error.ends_with("= help: a project file needs fewer than ten levels; check brackets and indentation\n"));
    assert!(error.lines().all(|line| line.chars().count() < 200), "{error}");
}

#[test]
fn ten_thousand_levels() {
    too_deep(&format!("a: {}", "[".repeat(10_000)));
    too_deep(&format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000)));
    too_deep(&"{a: ".repeat(10_000));
    too_deep(&"- ".repeat(10_000));
    too_deep(&(0..1_000).map(|i| format!("{}a:\n", " ".repeat(i))).collect::<String>());
}

#[test]
fn sixty_four_levels_are_allowed() {
    let nested = |n: usize| format!("project: {{ name: a }}\nvars: {{ a: {}{} }}\n", "[".repeat(n), "]".repeat(n));
    load(&nested(62)).unwrap();
    too_deep(&nested(63));
}

#[test]
fn aliases_that_expand_without_end() {
    let mut text = String::from("vars:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let alias = format!("*a{}", i - 1);
        text.push_str(&format!("  a{i}: &a{i} [{}]\n", vec![alias; 9].join(", ")));
    }
    assert_eq!(
        error(&text),
        "error: more than 100000 values, aliases expanded\n --> project.yaml:7:12\n  |\n\
         7 |   a5: &a5 [*a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4]\n  \
         |            ^^^ the limit is passed here\n  |\n  \
         = help: write the file without aliases that refer to each other\n"
    );
}

#[test]
fn aliases_that_nest_without_end() {
    let mut text = String::from("vars:\n  a0: &a0 [x]\n");
    for i in 1..80 {
        text.push_str(&format!("  a{i}: &a{i} [*a{}]\n", i - 1));
    }
    too_deep(&text);
}

#[test]
fn an_alias_of_itself() {
    assert_eq!(
        error("vars: { a: &a [*a] }\n"),
        "error: an alias inside the value it stands for\n --> project.yaml:1:16\n  |\n1 | vars: { a: &a [*a] }\n  \
         |                ^^ would expand without end\n  |\n  = help: write the value out\n"
    );
}

#[test]
fn many_values_and_many_faults() {
    let error_values = error(&format!("vars: [{}]\n", "a,".repeat(200_000)));
    assert!(error_values.starts_with("error: more than 100000 values"), "{error_values}");
    assert!(error_values.len() < 1_000);
    let faults: String = (0..5_000).map(|i| format!("zz{i}: 1\n")).collect();
    let text = error(&format!("project: {{ name: a }}\n{faults}"));
    assert_eq!(text.matches("error: unknown key").count(), 20);
    assert!(text.ends_with("\nerror: project.yaml: 4980 more problems are not shown\n"), "{text}");
}

#[test]
fn a_long_line_is_cut_around_the_marker() {
    let text = format!("project: {{ name: a, description: \"{}\", nam: b, {} }}\n", "ä".repeat(5_000), "x: 1");
    let error = error(&text);
    assert!(error.contains("ää\", nam: b, x: 1 }"), "{error}");
    assert!(error.contains(" --> project.yaml:1:5038\n"), "{error}");
    assert!(error.lines().all(|line| line.chars().count() < 200), "{error}");
}

#[test]
fn not_a_text() {
    assert_eq!(
        error_of_file(b"project:\n  name: \xff\n"),
        "error: the file is not UTF-8 text\n --> DIR/project.yaml:2:9\n  = help: save it as UTF-8\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let redactor = Redactor::default();
    let mut store = SecretsStore::open(None, [], Mode::Real, &redactor).unwrap();
    let mut load = |path| Project::load(path, &mut store, &redactor, Mode::Real).unwrap_err().render();
    let dir = folder.path().display().to_string();
    assert_eq!(load(folder.path()).replace(&dir, "DIR"), "error: DIR: cannot be read: Is a directory\n");
    assert_eq!(
        load(&folder.path().join("none")).replace(&dir, "DIR"),
        "error: DIR/none: there is no such file\n  = help: check the path, or write one with `xgenctl init`\n"
    );
}

/// Whatever a file holds, the answer is a project or an error, never a panic.
#[test]
fn no_text_makes_it_fall_over() {
    const PARTS: &[&str] = &[
        "project",
        ":",
        " ",
        "{",
        "}",
        "[",
        "]",
        "\n",
        "  ",
        "- ",
        "name",
        "\"",
        "'",
        "&a",
        "*a",
        "!t",
        "|",
        ">",
        "#",
        ",",
        "?",
        "---",
        "...",
        "\t",
        "\r\n",
        "ä",
        "😀",
        "\u{feff}",
        "nodes",
        "host",
        "ssh",
        "password",
        "${secret:",
        "A}",
        "1",
        "~",
        "%",
        "@",
        "`",
        "\u{2028}",
        "\u{85}",
        "://u:p@h",
    ];
    for seed in 1..=5_000u64 {
        // A xorshift generator: the same texts on every machine.
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut text = String::from(if seed % 2 == 0 { "project: { name: a }\nnodes:\n  - " } else { "" });
        for _ in 0..40 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push_str(PARTS[(state % PARTS.len() as u64) as usize]);
        }
        let result = std::panic::catch_unwind(|| match load(&text) {
            Ok(_) => String::from("fine"),
            Err(error) => error.render(),
        });
        assert!(result.is_ok_and(|text| !text.is_empty()), "seed {seed}:\n{text}");
    }
}

/// A megabyte of anything is answered without work that grows faster than the file.
#[test]
fn large_files_are_no_burden() {
    let head = "project: { name: a }\n";
    let rows = |n: usize, row: &dyn Fn(usize) -> String| (0..n).map(row).collect::<String>();
    let texts = [
        format!("{head}{}", rows(45_000, &|i| format!("unknown-key-{i}: 1\n"))),
        format!("{head}services:\n{}", rows(24_000, &|i| format!("  - {{ name: s{i} }}\n"))),
        format!("{head}services:\n{}", rows(40_000, &|_| "  - { nam: s }\n".into())),
        format!("{head}nodes:\n{}", rows(15_000, &|i| format!("  - {{ name: n{i}, role: agent, host: h{i} }}\n"))),
        format!("{head}k3s:\n  config:\n{}", rows(30_000, &|i| format!("    option-{i}: 1\n"))),
        format!("{head}k3s:\n  config:\n{}", rows(30_000, &|i| format!("    Option_{i}: ${{x}}\n"))),
        format!("{head}destinations:\n{}", rows(30_000, &|i| format!("  e{i}: {{}}\n"))),
        format!("{head}vars:\n{}", rows(30_000, &|i| format!("  password{i}: \"http://u:p@h\"\n"))),
        format!("{head}vars: {{ {} }}\n", rows(40_000, &|i| format!("k{i}: &a{i} v, "))),
        format!("{head}vars: {{ a: \"{}\" }}\n", "\\\"".repeat(400_000)),
        format!("{head}vars:\n  a: |\n{}", "    text\n".repeat(100_000)),
        format!("{head}{}", "# a\n".repeat(200_000)),
        format!("{head}{}", " ".repeat(1_000_000)),
        format!("{head}vars: {}", "? ".repeat(400_000)),
        format!("{head}vars: {}", ": ".repeat(400_000)),
        format!("{head}vars: {}", "a ".repeat(400_000)),
        format!("{head}vars: {}", "a\n\n ".repeat(200_000)),
        format!("{head}vars: {}", "!a ".repeat(300_000)),
        format!("{head}vars: {}", "\u{e4}:".repeat(300_000)),
    ];
    for text in &texts {
        assert!(text.len() <= 1 << 20, "{}", text.len());
        let start = std::time::Instant::now();
        let rendered = load(text).map_or_else(|e| e.render(), |_| String::new());
        println!("{:>5} ms  {:?}", start.elapsed().as_millis(), &text[21..text.len().min(60)]);
        assert!(rendered.len() < 20_000, "{}", rendered.len());
    }
}
