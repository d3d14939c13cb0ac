//! What names, labels, taints, versions and addresses must look like. Each check says what is wrong in a few words.

use std::net::IpAddr;
use std::str::FromStr;

use super::defaults;
use super::model::{K3sVersion, Taint};

fn edge(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// An RFC 1123 label: `xgen`, `gpu-1`.
pub fn label_name(name: &str) -> Result<(), String> {
    match name {
        "" => Err("is empty".into()),
        n if n.len() > 63 => Err("is longer than 63 characters".into()),
        n if n.contains(|c: char| !edge(c) && c != '-') => {
            Err("may only have lower-case letters, digits and `-`".into())
        }
        n if n.starts_with('-') || n.ends_with('-') => Err("must begin and end with a letter or a digit".into()),
        _ => Ok(()),
    }
}

/// An RFC 1123 subdomain, as node names are: `gpu-1`, `gpu-1.site.example`.
pub fn subdomain(name: &str) -> Result<(), String> {
    match name {
        "" => Err("is empty".into()),
        n if n.len() > 253 => Err("is longer than 253 characters".into()),
        n if n.contains(|c: char| !edge(c) && !matches!(c, '-' | '.')) => {
            Err("may only have lower-case letters, digits, `-` and `.`".into())
        }
        n => n.split('.').try_for_each(label_name).map_err(|reason| match reason.as_str() {
            "is empty" => "has an empty part between dots".into(),
            _ => reason,
        }),
    }
}

/// A valid name made of an invalid one, where that is obvious: `GPU_1` is `gpu-1`.
pub fn suggest_name(name: &str) -> Option<String> {
    let made: String = name.to_ascii_lowercase().replace(['_', ' '], "-");
    let made = made.trim_matches(['-', '.']).to_owned();
    (made != name && subdomain(&made).is_ok()).then_some(made)
}

/// The value of a label, and the part of a label's key behind the slash (which must not be empty).
fn label_word(word: &str) -> Result<(), String> {
    let ok = |c: char| c.is_ascii_alphanumeric();
    match word {
        w if w.len() > 63 => Err("is longer than 63 characters".into()),
        w if w.contains(|c: char| !ok(c) && !matches!(c, '-' | '_' | '.')) => {
            Err("may only have letters, digits, `-`, `_` and `.`".into())
        }
        w if w.starts_with(|c| !ok(c)) || w.ends_with(|c| !ok(c)) => {
            Err("must begin and end with a letter or a digit".into())
        }
        _ => Ok(()),
    }
}

/// The key of a label or taint: `gpu`, `example.com/gpu`.
pub fn qualified_key(key: &str) -> Result<(), String> {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            subdomain(prefix).map_err(|reason| format!("has a prefix that {reason}"))?;
            name
        }
        None => key,
    };
    if name.is_empty() { Err("is empty".into()) } else { label_word(name) }
}

/// The value of a label; may be empty.
pub fn label_value(value: &str) -> Result<(), String> {
    label_word(value)
}

/// Whether the kubelet refuses to start with this label: prefixes of Kubernetes itself, but for those it allows.
pub fn reserved_label(key: &str) -> bool {
    const ALLOWED: &[&str] = &[
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    ];
    let Some((prefix, _)) = key.split_once('/') else { return false };
    let under = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    (under("kubernetes.io") || under("k8s.io"))
        && !under("node.kubernetes.io")
        && !under("kubelet.kubernetes.io")
        && !ALLOWED.contains(&key)
}

/// Reads `key=value:Effect` or `key:Effect`.
pub fn taint(text: &str) -> Result<Taint, String> {
    let (left, effect) = text.rsplit_once(':').ok_or("has no effect")?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err("has an unknown effect".into());
    }
    let (key, value) = left.split_once('=').unwrap_or((left, ""));
    qualified_key(key).map_err(|reason| format!("has a key that {reason}"))?;
    label_value(value).map_err(|reason| format!("has a value that {reason}"))?;
    Ok(Taint { key: key.into(), value: value.into(), effect: effect.into() })
}

impl FromStr for K3sVersion {
    type Err = String;

    /// Reads `v1.36.5+k3s1`. The error is what to write instead.
    fn from_str(text: &str) -> Result<Self, String> {
        parse_version(text).ok_or_else(|| {
            let bare = text.trim().trim_start_matches(['v', 'V']);
            let (numbers, _) = bare.split_once(['+', '-']).unwrap_or((bare, ""));
            let release = bare.rsplit_once("k3s").and_then(|(_, n)| n.parse::<u32>().ok()).unwrap_or(1);
            let made = format!("v{numbers}+k3s{release}");
            match parse_version(&made) {
                Some(_) => format!("write the whole name of the release: `{made}`"),
                None => format!(
                    "write the whole name of a release, such as `{}`; channels like stable or latest are not followed, \
                     so that every server gets the same",
                    defaults::K3S_VERSION
                ),
            }
        })
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.len() < 7 && text.bytes().all(|b| b.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}

fn parse_version(text: &str) -> Option<K3sVersion> {
    let rest = text.strip_prefix('v')?;
    let end = rest.find(['+', '-'])?;
    let (numbers, suffix) = rest.split_at(end);
    let mut parts = numbers.split('.').map(number);
    let (major, minor, patch) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() {
        return None;
    }
    let (candidate, build) = suffix.split_once('+')?;
    let candidate_ok = candidate.is_empty() || candidate.strip_prefix("-rc").and_then(number).is_some();
    let build_ok = build.strip_prefix("k3s").and_then(number).is_some();
    (candidate_ok && build_ok).then(|| K3sVersion { major, minor, patch, suffix: suffix.into() })
}

/// A Kubernetes quantity of bytes that is greater than nothing: `20Gi`.
pub fn storage(text: &str) -> bool {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "k", "M", "G", "T", "P", "E"];
    units.contains(&unit)
        && number.starts_with(|c: char| c.is_ascii_digit())
        && number.ends_with(|c: char| c.is_ascii_digit())
        && number.parse::<f64>().is_ok_and(|n| n > 0.0)
}

/// What is wrong with the `host` or `address` of a node, and what to do.
pub fn host(text: &str) -> Result<(), (&'static str, &'static str)> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if text.contains('@') {
        return Err(("has a user in it", "the user goes to `ssh: { user: … }`"));
    }
    if text.starts_with('[') || text.contains(':') {
        return Err((
            "has a port in it",
            "the port goes to `ssh: { port: … }`; an IPv6 address stands without brackets",
        ));
    }
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || !text.chars().all(ok) || text.starts_with(['-', '.']) {
        return Err((
            "is neither a name nor an address",
            "write a DNS name, an IP address or an alias of ~/.ssh/config",
        ));
    }
    Ok(())
}

/// Whether an address is this machine, reached without SSH.
pub fn is_this_machine(host: &str) -> bool {
    host == "localhost"
}

/// A path inside a repository: relative, and never out of it.
pub fn inside(path: &str) -> bool {
    !path.is_empty() && !path.starts_with('/') && !path.split('/').any(|part| part == "..")
}

/// Parts of `[user@]host[:port]`, IPv6 addresses in brackets.
///
/// # Errors
/// What is wrong, in a few words.
pub fn endpoint(text: &str) -> Result<(Option<&str>, &str, Option<u16>), String> {
    let (user, rest) = match text.rsplit_once('@') {
        Some(("", _)) => return Err("the user before `@` is empty".into()),
        Some((user, _)) if user.contains(':') => {
            return Err("a password does not belong there: use a key, an agent or secrets.yaml".into());
        }
        Some((user, _)) if user.starts_with('-') || user.contains(char::is_whitespace) => {
            return Err("the user is no login name".into());
        }
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    let (name, port) = if let Some(inner) = rest.strip_prefix('[') {
        let (address, after) = inner.split_once(']').ok_or("the bracket `[` is not closed")?;
        (address, after.strip_prefix(':').or((!after.is_empty()).then_some("?")))
    } else if rest.parse::<IpAddr>().is_ok() {
        (rest, None)
    } else {
        match rest.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (rest, None),
        }
    };
    host(name).map_err(|(reason, _)| format!("`{}` {reason}", super::error::shorten(name)))?;
    let port = match port {
        None => None,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err("the port is not a number from 1 to 65535".into()),
        },
    };
    Ok((user, name, port))
}

/// The form of names of secrets: `[A-Z][A-Z0-9_]*`.
pub fn secret_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.len() <= 128
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_whole_names_of_releases() {
        for good in ["v1.36.5+k3s1", "v1.36.0-rc1+k3s2", "v1.20.15+k3s10"] {
            assert_eq!(good.parse::<K3sVersion>().unwrap().to_string(), good);
        }
        for (bad, made) in [
            ("1.36.5", "v1.36.5+k3s1"),
            ("v1.36.5", "v1.36.5+k3s1"),
            ("v1.36.5-k3s2", "v1.36.5+k3s2"),
            ("1.36.5+k3s3", "v1.36.5+k3s3"),
        ] {
            assert!(bad.parse::<K3sVersion>().unwrap_err().contains(&format!("`{made}`")), "{bad}");
        }
        for bad in ["latest", "", "v1.36+k3s1", "v01.2.3+k3s1", "v1.2.3.4+k3s1", "stable", "v1.x.3+k3s1"] {
            let help = bad.parse::<K3sVersion>().unwrap_err();
            assert!(help.contains("such as `v1.36.5+k3s1`"), "{bad}: {help}");
        }
        for bad in ["v1.36.5+rke2r1", "v1.36.5+k3s", "v1.36.5-beta+k3s1", "v1.36.5+k3s1 "] {
            assert!(bad.parse::<K3sVersion>().is_err(), "{bad}");
        }
        assert_eq!(
            defaults::K3S_VERSION.parse::<K3sVersion>().map(|v| v.to_string()).as_deref(),
            Ok(defaults::K3S_VERSION)
        );
    }

    #[test]
    fn names_and_labels() {
        for good in ["a", "gpu-1", "gpu-1.site.example", "1a"] {
            assert_eq!(subdomain(good), Ok(()), "{good}");
        }
        for bad in ["", "GPU", "gpu_1", "-a", "a-", "a..b", ".a", "ä"] {
            assert!(subdomain(bad).is_err(), "{bad}");
        }
        assert_eq!(suggest_name("GPU_1").as_deref(), Some("gpu-1"));
        assert_eq!(suggest_name("ä"), None);
        assert!(reserved_label("node-role.kubernetes.io/gpu"));
        assert!(!reserved_label("node.kubernetes.io/gpu"));
        assert!(!reserved_label("topology.kubernetes.io/zone"));
        assert!(!reserved_label("example.com/gpu"));
    }

    #[test]
    fn taints_read_both_ways() {
        for text in ["gpu=true:NoSchedule", "gpu:NoExecute", "example.com/gpu=a.b:PreferNoSchedule"] {
            assert_eq!(taint(text).unwrap().to_string(), text);
        }
        for bad in ["gpu", "gpu=true", "gpu:Never", "=a:NoSchedule", "a b:NoSchedule", "a=b=c:NoSchedule"] {
            assert!(taint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn endpoints() {
        assert_eq!(endpoint("ops@10.0.0.1:2222"), Ok((Some("ops"), "10.0.0.1", Some(2222))));
        assert_eq!(endpoint("server"), Ok((None, "server", None)));
        assert_eq!(endpoint("root@[fd00::1]:22"), Ok((Some("root"), "fd00::1", Some(22))));
        assert_eq!(endpoint("fd00::1"), Ok((None, "fd00::1", None)));
        for bad in ["", "@a", "a:", "a:0", "a:70000", "[fd00::1", "[fd00::1]x", "a:b@c", "-oProxyCommand=x", "a b"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn quantities() {
        for good in ["20Gi", "1", "1.5G", "100Mi"] {
            assert!(storage(good), "{good}");
        }
        for bad in ["", "0", "Gi", "20GB", "-1Gi", "1.", ".5Gi", "20 Gi", "1.2.3Gi"] {
            assert!(!storage(bad), "{bad}");
        }
    }
}
