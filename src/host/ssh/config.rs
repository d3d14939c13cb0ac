//! `~/.ssh/config`, as far as it says how a server is reached.
//!
//! The first value found for a keyword wins, the user's file comes before the system's, blocks are chosen by the name the
//! user gave. `Match` blocks are left out, except `Match all`: their conditions may run programs. Keywords that do not
//! concern us are passed over, so any file that OpenSSH takes is taken here too.

use std::path::{Path, PathBuf};

/// How deep files may include each other, as in OpenSSH.
const DEEPEST: usize = 16;

/// What is done with a host key that is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strict {
    /// `yes`: refused.
    Yes,
    /// `ask`: the user is asked.
    Ask,
    /// `accept-new`, `no`, `off`: taken and remembered. A changed key is refused all the same.
    AcceptNew,
}

/// The settings of one host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// `HostName`, with its tokens still in it.
    pub host_name: Option<String>,
    /// `User`.
    pub user: Option<String>,
    /// `Port`.
    pub port: Option<u16>,
    /// `IdentityFile`, every one, in order, with its tokens still in it.
    pub identity_files: Vec<String>,
    /// `IdentitiesOnly`.
    pub identities_only: Option<bool>,
    /// `IdentityAgent`.
    pub identity_agent: Option<String>,
    /// `ProxyJump`; `none` included.
    pub proxy_jump: Option<String>,
    /// Whether a `ProxyCommand` applies, which cannot be followed.
    pub proxy_command: Option<String>,
    /// `UserKnownHostsFile`, with its tokens still in it.
    pub user_known_hosts: Option<Vec<String>>,
    /// `GlobalKnownHostsFile`.
    pub global_known_hosts: Option<Vec<String>>,
    /// `StrictHostKeyChecking`.
    pub strict: Option<Strict>,
    /// `HashKnownHosts`.
    pub hash_known_hosts: Option<bool>,
    /// `HostKeyAlias`.
    pub host_key_alias: Option<String>,
    /// `ServerAliveInterval` in seconds.
    pub alive_interval: Option<u64>,
    /// `ServerAliveCountMax`.
    pub alive_count: Option<usize>,
    /// `ConnectTimeout` in seconds.
    pub connect_timeout: Option<u64>,
}

/// Reads what the files in `files` (path, and folder that a relative `Include` starts from) say about `host`. A file that
/// is not there says nothing.
pub fn read(host: &str, home: &Path, files: &[(PathBuf, PathBuf)]) -> Settings {
    let mut settings = Settings::default();
    for (file, folder) in files {
        let mut reader = Reader { host, home, folder, settings: &mut settings };
        reader.file(file, true, 0);
    }
    settings
}

struct Reader<'a> {
    host: &'a str,
    home: &'a Path,
    folder: &'a Path,
    settings: &'a mut Settings,
}

impl Reader<'_> {
    /// `wanted`: whether the block that included this file applies; in one that does not, no block of the file does.
    fn file(&mut self, file: &Path, wanted: bool, depth: usize) {
        let Ok(bytes) = std::fs::read(file) else { return };
        let mut applies = wanted;
        for line in String::from_utf8_lossy(&bytes).lines() {
            let Some((keyword, args)) = words(line) else { continue };
            match keyword.as_str() {
                "host" => applies = wanted && chosen(&args, self.host),
                "match" => applies = wanted && args.len() == 1 && args[0].eq_ignore_ascii_case("all"),
                "include" => {
                    for pattern in &args {
                        for path in self.included(pattern) {
                            if depth < DEEPEST {
                                self.file(&path, applies, depth + 1);
                            }
                        }
                    }
                }
                _ if applies => self.settings.take(&keyword, args),
                _ => {}
            }
        }
    }

    fn included(&self, pattern: &str) -> Vec<PathBuf> {
        let path = tilde(pattern, self.home);
        expand(&if path.is_absolute() { path } else { self.folder.join(path) })
    }
}

impl Settings {
    fn take(&mut self, keyword: &str, args: Vec<String>) {
        let Some(value) = args.first().cloned() else { return };
        let number = value.parse::<u64>().ok();
        match keyword {
            "hostname" => first(&mut self.host_name, Some(value)),
            "user" => first(&mut self.user, Some(value)),
            "port" => first(&mut self.port, value.parse().ok()),
            "identityfile" => self.identity_files.push(value),
            "identitiesonly" => first(&mut self.identities_only, flag(&value)),
            "identityagent" => first(&mut self.identity_agent, Some(value)),
            // The earlier of the two wins.
            "proxyjump" if self.proxy_command.is_none() => first(&mut self.proxy_jump, Some(value)),
            "proxycommand" if self.proxy_jump.is_none() => first(&mut self.proxy_command, Some(args.join(" "))),
            "userknownhostsfile" => first(&mut self.user_known_hosts, Some(args)),
            "globalknownhostsfile" => first(&mut self.global_known_hosts, Some(args)),
            "stricthostkeychecking" => {
                let strict = match value.to_ascii_lowercase().as_str() {
                    "yes" | "true" => Some(Strict::Yes),
                    "ask" => Some(Strict::Ask),
                    "accept-new" | "no" | "off" | "false" => Some(Strict::AcceptNew),
                    _ => None,
                };
                first(&mut self.strict, strict);
            }
            "hashknownhosts" => first(&mut self.hash_known_hosts, flag(&value)),
            "hostkeyalias" => first(&mut self.host_key_alias, Some(value)),
            "serveraliveinterval" => first(&mut self.alive_interval, seconds(&value)),
            "serveralivecountmax" => first(&mut self.alive_count, number.map(|n| n as usize)),
            "connecttimeout" => first(&mut self.connect_timeout, seconds(&value)),
            _ => {}
        }
    }
}

fn first<T>(slot: &mut Option<T>, value: Option<T>) {
    if slot.is_none() {
        *slot = value;
    }
}

fn flag(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" => Some(true),
        "no" | "false" => Some(false),
        _ => None,
    }
}

/// A time as ssh_config has it: `90`, `90s`, `1m30s`, `2h`.
fn seconds(value: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut number = String::new();
    for c in value.chars() {
        let unit = match c.to_ascii_lowercase() {
            '0'..='9' => {
                number.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    if number.is_empty() { Some(total).filter(|_| !value.is_empty()) } else { total.checked_add(number.parse().ok()?) }
}

/// Keyword (lower case) and arguments of a line: `Keyword value`, `Keyword=value`, `Keyword = "a value"`, comments.
fn words(line: &str) -> Option<(String, Vec<String>)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=')?;
    let keyword = line[..end].trim_matches('"').to_ascii_lowercase();
    let rest = line[end..].trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let mut args = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if matches!(chars.peek(), Some('"' | '\\')) || (!quoted && chars.peek() == Some(&' ')) => {
                word.get_or_insert_default().extend(chars.next());
            }
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => args.extend(word.take()),
            '#' if !quoted && word.is_none() => break,
            c => word.get_or_insert_default().push(c),
        }
    }
    args.extend(word);
    Some((keyword, args))
}

/// Whether the patterns of a `Host` line choose `host`: one must match, and none with a `!`.
fn chosen(patterns: &[String], host: &str) -> bool {
    // Older files separate patterns with commas as well.
    let all = || patterns.iter().flat_map(|p| p.split(','));
    matches_list(all(), host)
}

/// Whether `name` matches a list of patterns: one must match, and none that starts with `!`. Case does not matter.
pub fn matches_list<'a>(patterns: impl Iterator<Item = &'a str>, name: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(not) if wildcard(not, name) => return false,
            Some(_) => {}
            None => found = found || wildcard(pattern, name),
        }
    }
    found
}

/// Whether `name` matches `pattern`, with `*` for any text and `?` for one character. Case does not matter.
pub fn wildcard(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let name: Vec<char> = name.to_lowercase().chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            // Let the last star take one character more.
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// `~` and `~/…` become the home folder.
pub fn tilde(path: &str, home: &Path) -> PathBuf {
    match path.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(path),
    }
}

/// The files a path with `*` and `?` stands for, sorted.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = part.as_os_str();
        let text = part.to_string_lossy();
        if !text.contains(['*', '?']) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut next = Vec::new();
        for folder in &found {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if wildcard(&text, &name) && (!name.starts_with('.') || text.starts_with('.')) {
                    next.push(entry.path());
                }
            }
        }
        next.sort();
        found = next;
    }
    found.retain(|path| path.is_file());
    found
}

/// Replaces `%h`, `%d`, `%r`, `%p`, `%n`, `%u`, `%L`-like tokens from the pairs given, and `%%`; others stay.
pub fn tokens(text: &str, values: &[(char, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('%') => out.push('%'),
            Some(token) => match values.iter().find(|(name, _)| *name == token) {
                Some((_, value)) => out.push_str(value),
                None => out.extend(['%', token]),
            },
            None => out.push('%'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str, host: &str) -> Settings {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".ssh");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("config"), text).unwrap();
        read(host, home.path(), &[(folder.join("config"), folder)])
    }

    #[test]
    fn the_first_value_wins_and_identity_files_add_up() {
        let text = "Host web*\n  User alice\n  IdentityFile ~/.ssh/a\nHost *\n  User bob\n  Port 2222\n  IdentityFile ~/.ssh/b\n";
        let web = settings(text, "web-1");
        assert_eq!((web.user.as_deref(), web.port), (Some("alice"), Some(2222)));
        assert_eq!(web.identity_files, ["~/.ssh/a", "~/.ssh/b"]);
        assert_eq!(settings(text, "db").user.as_deref(), Some("bob"));
    }

    #[test]
    fn patterns_negate_and_do_not_mind_case() {
        let text = "Host *.example !bad.example\n  Port 1\nHost ?x\n  Port 2\n";
        assert_eq!(settings(text, "GOOD.example").port, Some(1));
        assert_eq!(settings(text, "bad.example").port, None);
        assert_eq!(settings(text, "ax").port, Some(2));
        assert_eq!(settings("Host !a\n  Port 1\n", "b").port, None, "a negation alone chooses nothing");
    }

    #[test]
    fn match_blocks_are_left_out_but_match_all_is_not() {
        let text = "Host a\n  User one\nMatch exec \"touch /tmp/never\"\n  User two\n  Port 9\nMatch all\n  Port 7\n";
        let a = settings(text, "a");
        assert_eq!((a.user.as_deref(), a.port), (Some("one"), Some(7)));
        assert_eq!(settings(text, "b").user, None);
    }

    #[test]
    fn lines_are_read_as_openssh_reads_them() {
        let text = "hOsT=a # comment\n\tUser = \"with space\"\n UserKnownHostsFile ~/one \"/two three\"\n\
                    StrictHostKeyChecking accept-new\n ServerAliveInterval 1m30s\nNonsense here\nProxyJump x,y\nProxyCommand nc\n";
        let a = settings(text, "a");
        assert_eq!(a.user.as_deref(), Some("with space"));
        assert_eq!(a.user_known_hosts.unwrap(), ["~/one", "/two three"]);
        assert_eq!(a.strict, Some(Strict::AcceptNew));
        assert_eq!(a.alive_interval, Some(90));
        assert_eq!((a.proxy_jump.as_deref(), a.proxy_command), (Some("x,y"), None));
    }

    #[test]
    fn includes_are_followed_inside_their_block_only_and_cannot_loop() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".ssh");
        std::fs::create_dir_all(folder.join("d")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        write("config", "Include d/*.conf\nHost b\n  Include extra\nInclude config\nHost *\n  User last\n");
        write("d/1.conf", "Host a\n  User first\n");
        write("d/2.conf", "Host a\n  User second\n  Port 5\n");
        write("extra", "Host *\n  Port 6\n");
        let files = [(folder.join("config"), folder.clone())];
        let a = read("a", home.path(), &files);
        assert_eq!((a.user.as_deref(), a.port), (Some("first"), Some(5)));
        let b = read("b", home.path(), &files);
        assert_eq!((b.user.as_deref(), b.port), (Some("last"), Some(6)));
        assert_eq!(read("c", home.path(), &files).port, None);
    }

    #[test]
    fn wildcards_and_tokens() {
        assert!(wildcard("a*b*c", "aXXbYYbc") && !wildcard("a*b", "abc") && wildcard("*", "") && !wildcard("?", ""));
        assert_eq!(tokens("%h.x/%d/%%/%z", &[('h', "host"), ('d', "/home/o")]), "host.x//home/o/%/%z");
        assert_eq!(tilde("~/k", Path::new("/h")), PathBuf::from("/h/k"));
        assert_eq!(tilde("~other/k", Path::new("/h")), PathBuf::from("~other/k"));
        assert_eq!((seconds("2h"), seconds("x"), seconds("")), (Some(7200), None, None));
    }
}
