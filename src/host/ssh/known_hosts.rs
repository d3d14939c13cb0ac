//! known_hosts: which host keys are known, read and extended as OpenSSH does.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use rand::RngCore;
use russh::keys::ssh_key::{Algorithm, HashAlg, PublicKey};
use sha1::Sha1;

use super::config::matches_list;

/// What marks the name of a host that is stored as a hash.
const HASHED: &str = "|1|";

/// Where a key was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// What known_hosts says about a host and the key it shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The key is known.
    Known,
    /// The key is marked as revoked: never to be trusted.
    Revoked(Place),
    /// Another key of the same type is known.
    Changed(Place, PublicKey),
    /// Only keys of other types are known.
    OtherType(Place, PublicKey),
    /// Nothing is known of the host. `authority`: except a certificate authority, which is not supported.
    Unknown {
        /// Where that authority is.
        authority: Option<Place>,
    },
}

/// The lines of all known_hosts files that concern one host.
#[derive(Debug, Default)]
pub struct KnownHosts {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    /// Whether the line names the host without the port it is reached at.
    without_port: bool,
    key: PublicKey,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Revoked,
    Authority,
}

/// The name a host has in known_hosts: in brackets with its port where that is not 22.
pub fn name_of(host: &str, port: u16) -> String {
    let host = host.to_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// The fingerprint OpenSSH shows.
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

impl KnownHosts {
    /// Reads every line that concerns `name` (see [`name_of`]). As OpenSSH does, a line with the bare host is a match for
    /// a host at another port too, but never proves that a key changed. A file that is not there has no lines; one that
    /// cannot be understood is passed over line by line.
    pub fn read(name: &str, files: &[PathBuf]) -> Self {
        let bare = bare(name);
        let mut entries = Vec::new();
        for file in files {
            let Ok(bytes) = fs::read(file) else { continue };
            for (index, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
                let Some((kind, hosts, key)) = parse(line) else { continue };
                let exact = concerns(hosts, name);
                if exact || bare.is_some_and(|bare| concerns(hosts, bare)) {
                    let place = Place { file: file.clone(), line: index + 1 };
                    entries.push(Entry { kind, without_port: !exact, key, place });
                }
            }
        }
        Self { entries }
    }

    /// What is said of the key that the host shows.
    pub fn check(&self, key: &PublicKey) -> Verdict {
        let same = |e: &&Entry| e.key.key_data() == key.key_data();
        if let Some(revoked) = self.entries.iter().filter(same).find(|e| e.kind == Kind::Revoked) {
            return Verdict::Revoked(revoked.place.clone());
        }
        let plain = || self.entries.iter().filter(|e| e.kind == Kind::Plain);
        if plain().any(|e| same(&e)) {
            return Verdict::Known;
        }
        let exact = || plain().filter(|e| !e.without_port);
        if let Some(other) = exact().find(|e| family(&e.key.algorithm()) == family(&key.algorithm())) {
            return Verdict::Changed(other.place.clone(), other.key.clone());
        }
        if let Some(other) = exact().next() {
            return Verdict::OtherType(other.place.clone(), other.key.clone());
        }
        let authority = self.entries.iter().find(|e| e.kind == Kind::Authority).map(|e| e.place.clone());
        Verdict::Unknown { authority }
    }

    /// The types of the keys that are known: the ones to ask the host for first.
    pub fn types(&self) -> Vec<Algorithm> {
        self.entries.iter().filter(|e| e.kind == Kind::Plain).map(|e| e.key.algorithm()).collect()
    }
}

/// The types a list of host-key algorithms is ordered by: what is known first, everything else behind it.
pub fn prefer(known: &[Algorithm], all: &[Algorithm]) -> Vec<Algorithm> {
    let is_known = |a: &&Algorithm| known.iter().any(|k| family(k) == family(a));
    let (mut first, rest): (Vec<&Algorithm>, Vec<&Algorithm>) = all.iter().partition(is_known);
    first.extend(rest);
    first.into_iter().cloned().collect()
}

/// RSA keys are one type, whatever hash they sign with.
fn family(algorithm: &Algorithm) -> Algorithm {
    match algorithm {
        Algorithm::Rsa { .. } => Algorithm::Rsa { hash: None },
        other => other.clone(),
    }
}

/// Adds a key, in a file that is made where it is missing, readable for its owner alone.
///
/// # Errors
/// Where the file cannot be written.
pub fn remember(name: &str, key: &PublicKey, hashed: bool, file: &Path) -> std::io::Result<()> {
    if let Some(folder) = file.parent()
        && !folder.exists()
    {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let name = if hashed { hash_name(name) } else { name.to_owned() };
    let mut plain = key.clone();
    plain.set_comment("");
    let text = plain.to_openssh().map_err(std::io::Error::other)?;
    // A last line without an end is completed first. One write: parallel connections append whole lines.
    let unended = fs::read(file).is_ok_and(|bytes| bytes.last().is_some_and(|b| *b != b'\n'));
    let line = format!("{}{name} {}\n", if unended { "\n" } else { "" }, text.trim());
    OpenOptions::new().append(true).create(true).mode(0o600).open(file)?.write_all(line.as_bytes())
}

/// `host` of `[host]:port`.
fn bare(name: &str) -> Option<&str> {
    name.strip_prefix('[')?.rsplit_once("]:").map(|(host, _)| host)
}

/// Marker, host field and key of a line; `None` for a comment or what cannot be understood.
fn parse(line: &str) -> Option<(Kind, &str, PublicKey)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let mut fields = line.split_whitespace();
    let mut hosts = fields.next()?;
    let kind = match hosts {
        "@revoked" => Kind::Revoked,
        "@cert-authority" => Kind::Authority,
        marker if marker.starts_with('@') => return None,
        _ => Kind::Plain,
    };
    if kind != Kind::Plain {
        hosts = fields.next()?;
    }
    let key = PublicKey::from_openssh(&format!("{} {}", fields.next()?, fields.next()?)).ok()?;
    Some((kind, hosts, key))
}

/// Whether the host field of a line means `name`.
fn concerns(hosts: &str, name: &str) -> bool {
    match hosts.strip_prefix(HASHED) {
        Some(hashed) => matches_hash(hashed, name).unwrap_or(false),
        None => matches_list(hosts.split(','), name),
    }
}

fn matches_hash(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let salt = BASE64.decode(salt).ok()?;
    let hash = BASE64.decode(hash).ok()?;
    let mut mac = Hmac::<Sha1>::new_from_slice(&salt).ok()?;
    mac.update(name.as_bytes());
    Some(mac.verify_slice(&hash).is_ok())
}

fn hash_name(name: &str) -> String {
    let mut salt = [0; 20];
    rand::rng().fill_bytes(&mut salt);
    // HMAC takes keys of any length; without one the name is stored as it is, which is as good, only less discreet.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(&salt) else { return name.to_owned() };
    mac.update(name.as_bytes());
    format!("{HASHED}{}|{}", BASE64.encode(salt), BASE64.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";
    const C: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=";

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    fn check(file: &str, name: &str, shown: &str) -> Verdict {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known_hosts");
        fs::write(&path, file).unwrap();
        match KnownHosts::read(name, &[path]).check(&key(shown)) {
            Verdict::Changed(place, key) => Verdict::Changed(Place { file: "f".into(), ..place }, key),
            Verdict::OtherType(place, key) => Verdict::OtherType(Place { file: "f".into(), ..place }, key),
            Verdict::Revoked(place) => Verdict::Revoked(Place { file: "f".into(), ..place }),
            Verdict::Unknown { authority } => {
                Verdict::Unknown { authority: authority.map(|place| Place { file: "f".into(), ..place }) }
            }
            Verdict::Known => Verdict::Known,
        }
    }

    fn place(line: usize) -> Place {
        Place { file: "f".into(), line }
    }

    const UNKNOWN: Verdict = Verdict::Unknown { authority: None };

    #[test]
    fn plain_names_lists_wildcards_and_negation() {
        let file = format!("# comment\n\nweb,10.0.0.1 {A} who@where\n*.lab,!no.lab {B}\nbroken line\n");
        assert_eq!(check(&file, "web", A), Verdict::Known);
        assert_eq!(check(&file, "10.0.0.1", A), Verdict::Known);
        assert_eq!(check(&file, "web", B), Verdict::Changed(place(3), key(A)));
        assert_eq!(check(&file, "x.lab", B), Verdict::Known);
        assert_eq!(check(&file, "no.lab", B), UNKNOWN);
        assert_eq!(check(&file, "other", A), UNKNOWN);
    }

    #[test]
    fn several_keys_of_a_host_and_other_types() {
        let file = format!("web {A}\nweb {B}\n");
        assert_eq!(check(&file, "web", B), Verdict::Known);
        assert_eq!(check(&file, "web", C), Verdict::OtherType(place(1), key(A)));
    }

    #[test]
    fn ports_are_part_of_the_name_and_a_bare_name_only_ever_helps() {
        assert_eq!(name_of("Web", 22), "web");
        let name = name_of("web", 2222);
        assert_eq!(check(&format!("[web]:2222 {A}\n"), &name, A), Verdict::Known);
        assert_eq!(check(&format!("[web]:2222 {A}\n"), "web", A), UNKNOWN);
        assert_eq!(check(&format!("web {A}\n"), &name, A), Verdict::Known);
        assert_eq!(check(&format!("web {A}\n"), &name, B), UNKNOWN);
        assert_eq!(check(&format!("web {B}\n[web]:2222 {A}\n"), &name, C), Verdict::OtherType(place(2), key(A)));
    }

    #[test]
    fn hashed_names_of_openssh_are_found() {
        // Made by `ssh-keygen -H` for example.com.
        let line = format!("|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= {A}\n");
        assert_eq!(check(&line, "example.com", A), Verdict::Known);
        assert_eq!(check(&line, "example.org", A), UNKNOWN);
        assert_eq!(check(&format!("|1|bad {A}\n|1|*|* {A}\n"), "example.com", A), UNKNOWN);
    }

    #[test]
    fn a_revoked_key_is_never_known_and_an_authority_never_enough() {
        let file = format!("web {A}\n@revoked * {A}\n@cert-authority *.lab {B}\n@odd web {B}\n");
        assert_eq!(check(&file, "web", A), Verdict::Revoked(place(2)));
        assert_eq!(check(&file, "x.lab", B), Verdict::Unknown { authority: Some(place(3)) });
    }

    #[test]
    fn what_is_remembered_is_known_afterwards() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        for hashed in [false, true] {
            let file = folder.path().join(format!("new-{hashed}/known_hosts"));
            remember("[web]:2222", &key(A), hashed, &file).unwrap();
            let text = fs::read_to_string(&file).unwrap();
            assert_eq!(text.contains("web"), !hashed);
            // A line without an end is not spoilt.
            fs::write(&file, text.trim_end()).unwrap();
            remember("db", &key(B), hashed, &file).unwrap();
            assert_eq!(KnownHosts::read("[web]:2222", std::slice::from_ref(&file)).check(&key(A)), Verdict::Known);
            assert_eq!(KnownHosts::read("db", std::slice::from_ref(&file)).check(&key(B)), Verdict::Known);
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_known_type_is_asked_for_first() {
        let all = [
            Algorithm::Ed25519,
            Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
            Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
        ];
        let order = prefer(&[Algorithm::Rsa { hash: None }], &all);
        assert_eq!(order, [all[1].clone(), all[2].clone(), all[0].clone()]);
    }
}
