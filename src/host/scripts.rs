//! The fixed shell scripts that run on servers. Values reach them as arguments, never as text.
//!
//! Their names are what a rehearsal knows them by: it simulates exactly these, and nothing else.

/// A shell script whose text never varies.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    /// Its `$0`: shown in messages and in the server's process list.
    pub name: &'static str,
    /// Its text, for `sh -c`.
    pub text: &'static str,
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $id:ident = $name:literal, $file:literal;)*) => {
        $($(#[$doc])* pub const $id: Script = Script {
            name: $name,
            text: include_str!(concat!("../../templates/host/", $file)),
        };)*
        /// Every script there is.
        pub const ALL: &[&Script] = &[$(&$id),*];
    };
}

scripts! {
    /// Writes standard input to a file: path mode owner sha256 unit offset.
    PUT = "xgenctl-put", "put.sh";
    /// Prints how many bytes of an interrupted upload are there: path sha256.
    PART = "xgenctl-part", "part.sh";
    /// Holds the run lock: holder.
    LOCK = "xgenctl-lock", "lock.sh";
    /// Gathers everything that is seen of a host: interests as `file:PATH`, `stat:PATH`, `unit:NAME`, `version:PATH`.
    PROBE = "xgenctl-probe", "probe.sh";
    /// Starts, restarts or stops a unit: start|restart|stop unit.
    UNIT = "xgenctl-unit", "unit.sh";
    /// Waits until a unit is active: unit seconds.
    WAIT_UNIT = "xgenctl-wait-unit", "wait-unit.sh";
    /// Makes a symbolic link: target path.
    LINK = "xgenctl-link", "link.sh";
    /// Removes files and folders: path...
    REMOVE = "xgenctl-remove", "remove.sh";
    /// Prints a unit's last journal lines: unit lines.
    JOURNAL = "xgenctl-journal", "journal.sh";
    /// Tells whether TCP endpoints can be reached from the host: seconds host:port...; prints
    /// `host:port open|refused|filtered|unresolved|unknown` a line each.
    REACH = "xgenctl-reach", "reach.sh";
    /// Stops K3s and removes everything it left on the host: unit.
    CLEAN = "xgenctl-clean", "clean.sh";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_script_fails_loudly() {
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|s| s.name).collect();
        assert_eq!(names.len(), ALL.len());
        for script in ALL {
            assert!(
                script.text.contains("set -eu") || script.text.contains("exec "),
                "{} goes on after an error",
                script.name
            );
        }
    }
}
