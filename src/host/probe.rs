//! The wire format of `probe.sh`: [`parse`] reads what the script prints, [`render`] prints what the script would (for
//! rehearsal).
//!
//! Lines of fields with a tab between them, the key first; an optional field at the end is left out where there is none. A
//! field that holds a tab or a line break, or begins with `=`, stands there as `=` and its base64. Contents of files are
//! base64 always. [`FIRST`] opens the list and [`LAST`] closes it: what a login shell prints around it does no harm, and
//! an answer that was cut short is noticed.

use std::fmt::{Display, Write as _};
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::seen::Listening;
use super::{FileKind, FileSeen, HostSeen, UnitSeen};
use crate::host::seen::Firewall;

/// The line that opens the list, with the version of the format.
const FIRST: &str = "xgenctl-probe\t1";
/// The line that closes it.
const LAST: &str = "end";

/// Reads the output of the probe script. `operator_clock_ms` is not in it: the caller's own clock.
///
/// # Errors
/// A sentence that says which line could not be understood, or what the host could not look at.
pub fn parse(output: &[u8]) -> Result<HostSeen, String> {
    let mut seen = HostSeen::default();
    let mut lines = output.split_inclusive(|b| *b == b'\n').enumerate();
    if !lines.any(|(_, line)| line.strip_suffix(b"\n") == Some(FIRST.as_bytes())) {
        return Err(format!("the probe printed no `{}` line", FIRST.replace('\t', " ")));
    }
    for (index, line) in lines {
        let whole = line.strip_suffix(b"\n");
        if whole.unwrap_or(line) == LAST.as_bytes() {
            return Ok(seen);
        }
        let Some(line) = whole else { break };
        let fields: Vec<String> =
            line.split(|b| *b == b'\t').map(decode).collect::<Result<_, _>>().map_err(|e| at(index, &e))?;
        let (key, fields) = fields.split_first().ok_or_else(|| at(index, "it is empty"))?;
        if key == "error" {
            return Err(fields.join(" "));
        }
        take(&mut seen, key, &mut Fields(fields)).map_err(|e| at(index, &format!("`{}`: {e}", shorten(key))))?;
    }
    Err("the probe's answer is cut short: its last line is missing".into())
}

/// Names a line of the output.
fn at(index: usize, reason: &str) -> String {
    format!("line {} of the probe's answer: {reason}", index + 1)
}

/// Garbage need not be repeated in full.
fn shorten(text: &str) -> String {
    if text.chars().count() <= 40 { text.to_owned() } else { text.chars().take(40).chain(['…']).collect() }
}

/// The text of a field. Bytes that are no UTF-8 are replaced: nothing xgenctl compares holds such bytes.
fn decode(field: &[u8]) -> Result<String, String> {
    match field.strip_prefix(b"=") {
        Some(encoded) => {
            let bytes = STANDARD.decode(encoded).map_err(|e| format!("a field is no base64: {e}"))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        None => Ok(String::from_utf8_lossy(field).into_owned()),
    }
}

/// An IPv6 address the way people write it; /proc has all its zeros. Anything else stays as it is.
fn short_address(text: String) -> String {
    text.parse::<std::net::Ipv6Addr>().map_or(text, |address| address.to_string())
}

/// The fields of a line after its key, taken one after another.
struct Fields<'a>(&'a [String]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn text(&mut self) -> Result<String, String> {
        self.next().map(str::to_owned).ok_or_else(|| "a field is missing".into())
    }

    fn parsed<T: FromStr<Err: Display>>(&mut self) -> Result<T, String> {
        let text = self.text()?;
        text.parse().map_err(|e| format!("`{}`: {e}", shorten(&text)))
    }

    fn flag(&mut self) -> Result<bool, String> {
        match self.text()?.as_str() {
            "1" => Ok(true),
            "0" => Ok(false),
            other => Err(format!("`{}` is neither 0 nor 1", shorten(other))),
        }
    }

    fn done(&self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("{} fields too many", self.0.len())) }
    }
}

/// Puts one line where it belongs.
fn take(seen: &mut HostSeen, key: &str, fields: &mut Fields) -> Result<(), String> {
    let facts = &mut seen.facts;
    match key {
        "hostname" => facts.hostname = fields.text()?,
        "os_id" => facts.os_id = fields.text()?,
        "os_version" => facts.os_version = fields.text()?,
        "os_name" => facts.os_name = fields.text()?,
        "kernel_name" => facts.kernel_name = fields.text()?,
        "kernel" => facts.kernel = fields.text()?,
        "arch" => facts.arch = fields.text()?,
        "machine_id" => facts.machine_id = fields.text()?,
        "systemd" => facts.systemd = fields.flag()?,
        "root" => facts.root = fields.flag()?,
        "cpus" => facts.cpus = fields.parsed()?,
        "memory_kib" => facts.memory_kib = fields.parsed()?,
        "swap_kib" => facts.swap_kib = fields.parsed()?,
        "data_free_kib" => facts.data_free_kib = fields.parsed()?,
        "data_size_kib" => facts.data_size_kib = fields.parsed()?,
        "data_fs" => facts.data_fs = fields.text()?,
        "bin_free_kib" => facts.bin_free_kib = fields.parsed()?,
        "cgroup_version" => facts.cgroup_version = fields.parsed()?,
        "controller" => facts.cgroup_controllers.push(fields.text()?),
        "modules_known" => facts.kernel_modules = Some(Vec::new()),
        "module" => {
            let modules = facts.kernel_modules.as_mut().ok_or("it comes before `modules_known`")?;
            modules.push(fields.text()?);
        }
        "clock_ms" => facts.clock_ms = fields.parsed()?,
        "address" => facts.addresses.push(fields.parsed()?),
        "default_address" => facts.default_address = Some(fields.parsed::<IpAddr>()?),
        "default_route" => facts.default_route = fields.flag()?,
        "nameserver" => facts.nameservers.push(fields.text()?),
        "resolves_itself" => facts.resolves_itself = fields.flag()?,
        "listen" => facts.listening.push(Listening {
            protocol: fields.text()?,
            address: fields.text().map(short_address)?,
            port: fields.parsed()?,
            program: fields.next().map(str::to_owned),
        }),
        "firewall" => facts.firewalls.push(Firewall { name: fields.text()?, allowed: Vec::new() }),
        "allow" => {
            let firewall = facts.firewalls.last_mut().ok_or("it comes before any `firewall`")?;
            firewall.allowed.push(fields.text()?);
        }
        "other_kubernetes" => facts.other_kubernetes.push(fields.text()?),
        "selinux" => facts.selinux = fields.text()?,
        "k3s_selinux" => facts.k3s_selinux = fields.flag()?,
        "path" => {
            let path = fields.text()?;
            let file = file(fields)?;
            // Asked for twice, as a file and as a path: the content that came with the first stays.
            seen.files.entry(path).or_insert(file);
        }
        "content" => {
            let path = fields.text()?;
            let content = STANDARD.decode(fields.text()?).map_err(|e| format!("{}: no base64: {e}", shorten(&path)))?;
            let file = seen.files.get_mut(&path).ok_or("it comes before the `path` it belongs to")?;
            file.content = Some(content);
        }
        "unit" => {
            let name = fields.text()?;
            let unit = UnitSeen {
                active: fields.text()?,
                sub: fields.text()?,
                enabled: fields.text()?,
                main_pid: fields.parsed()?,
                restarts: fields.parsed()?,
                path: fields.text()?,
                needs_reload: fields.flag()?,
                restart_pending: fields.flag()?,
            };
            seen.units.insert(name, unit);
        }
        "version" => {
            let path = fields.text()?;
            seen.versions.insert(path, fields.text()?);
        }
        _ => return Err("an unknown key".into()),
    }
    fields.done()
}

/// The rest of a `path` line.
fn file(fields: &mut Fields) -> Result<FileSeen, String> {
    let kind = match fields.text()?.as_str() {
        "file" => FileKind::File,
        "folder" => FileKind::Folder,
        "link" => FileKind::Link,
        "other" => FileKind::Other,
        unknown => return Err(format!("`{}` is no kind of file", shorten(unknown))),
    };
    let mode = fields.text()?;
    Ok(FileSeen {
        kind,
        mode: u32::from_str_radix(&mode, 8).map_err(|e| format!("mode `{}`: {e}", shorten(&mode)))?,
        owner: fields.text()?,
        group: fields.text()?,
        size: fields.parsed()?,
        content: None,
        target: fields.next().map(str::to_owned),
    })
}

/// Lines of fields, growing.
#[derive(Default)]
struct Lines(String);

impl Lines {
    /// Adds a line; `fields` are encoded where they have to be.
    fn add(&mut self, key: &str, fields: &[&dyn Display]) {
        self.0.push_str(key);
        for field in fields {
            let text = field.to_string();
            self.0.push('\t');
            if text.starts_with('=') || text.contains(['\t', '\n']) {
                self.0.push('=');
                STANDARD.encode_string(&text, &mut self.0);
            } else {
                self.0.push_str(&text);
            }
        }
        self.0.push('\n');
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.add(key, &[&u8::from(value)]);
    }

    fn each(&mut self, key: &str, values: &[String]) {
        for value in values {
            self.add(key, &[value]);
        }
    }
}

/// Prints `seen` the way the probe script does: [`parse`] of it gives `seen` back, but for `operator_clock_ms`.
pub fn render(seen: &HostSeen) -> Vec<u8> {
    let mut lines = Lines::default();
    // Writing to a String cannot fail.
    let _ = writeln!(lines.0, "{FIRST}");
    render_facts(&mut lines, seen);
    for (path, file) in &seen.files {
        let kind = match file.kind {
            FileKind::File => "file",
            FileKind::Folder => "folder",
            FileKind::Link => "link",
            FileKind::Other => "other",
        };
        let mode = format!("{:o}", file.mode);
        let mut fields: Vec<&dyn Display> = vec![path, &kind, &mode, &file.owner, &file.group, &file.size];
        if let Some(target) = &file.target {
            fields.push(target);
        }
        lines.add("path", &fields);
        if let Some(content) = &file.content {
            lines.add("content", &[path, &STANDARD.encode(content)]);
        }
    }
    for (name, unit) in &seen.units {
        let (reload, pending) = (u8::from(unit.needs_reload), u8::from(unit.restart_pending));
        let UnitSeen { active, sub, enabled, main_pid, restarts, path, .. } = unit;
        lines.add("unit", &[name, active, sub, enabled, main_pid, restarts, path, &reload, &pending]);
    }
    for (path, version) in &seen.versions {
        lines.add("version", &[path, version]);
    }
    lines.add(LAST, &[]);
    lines.0.into_bytes()
}

/// The lines of the machine itself.
fn render_facts(lines: &mut Lines, seen: &HostSeen) {
    let facts = &seen.facts;
    lines.add("hostname", &[&facts.hostname]);
    lines.add("os_id", &[&facts.os_id]);
    lines.add("os_version", &[&facts.os_version]);
    lines.add("os_name", &[&facts.os_name]);
    lines.add("kernel_name", &[&facts.kernel_name]);
    lines.add("kernel", &[&facts.kernel]);
    lines.add("arch", &[&facts.arch]);
    lines.add("machine_id", &[&facts.machine_id]);
    lines.flag("systemd", facts.systemd);
    lines.flag("root", facts.root);
    lines.add("cpus", &[&facts.cpus]);
    lines.add("memory_kib", &[&facts.memory_kib]);
    lines.add("swap_kib", &[&facts.swap_kib]);
    lines.add("data_free_kib", &[&facts.data_free_kib]);
    lines.add("data_size_kib", &[&facts.data_size_kib]);
    lines.add("data_fs", &[&facts.data_fs]);
    lines.add("bin_free_kib", &[&facts.bin_free_kib]);
    lines.add("cgroup_version", &[&facts.cgroup_version]);
    lines.each("controller", &facts.cgroup_controllers);
    if let Some(modules) = &facts.kernel_modules {
        lines.add("modules_known", &[]);
        lines.each("module", modules);
    }
    lines.add("clock_ms", &[&facts.clock_ms]);
    lines.flag("default_route", facts.default_route);
    for address in &facts.addresses {
        lines.add("address", &[address]);
    }
    if let Some(address) = &facts.default_address {
        lines.add("default_address", &[address]);
    }
    lines.each("nameserver", &facts.nameservers);
    lines.flag("resolves_itself", facts.resolves_itself);
    for socket in &facts.listening {
        let mut fields: Vec<&dyn Display> = vec![&socket.protocol, &socket.address, &socket.port];
        if let Some(program) = &socket.program {
            fields.push(program);
        }
        lines.add("listen", &fields);
    }
    for firewall in &facts.firewalls {
        lines.add("firewall", &[&firewall.name]);
        lines.each("allow", &firewall.allowed);
    }
    lines.each("other_kubernetes", &facts.other_kubernetes);
    lines.add("selinux", &[&facts.selinux]);
    lines.flag("k3s_selinux", facts.k3s_selinux);
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "probe_script_tests.rs"]
mod script_tests;
