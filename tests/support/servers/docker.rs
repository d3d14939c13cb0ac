//! Docker Engine by its command line.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// The label of every container and network; its value names the process that made it.
const LABEL: &str = "xgenctl-e2e";

/// Runs `docker` and returns its standard output without the last newline.
///
/// # Panics
/// Where docker fails.
pub fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> String {
    try_run(args).unwrap_or_else(|reason| panic!("{reason}"))
}

/// Runs `docker`; an error carries what it wrote to standard error.
pub fn try_run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Result<String, String> {
    let mut command = Command::new("docker");
    command.args(args);
    let shown = format!("{command:?}");
    let output = output(command, &[]).map_err(|e| format!("{shown}: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    } else {
        Err(format!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
    }
}

/// Runs a program with something to read, and returns all that it wrote.
pub fn output(mut command: Command, stdin: &[u8]) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut pipe = child.stdin.take().expect("standard input is piped");
    std::thread::scope(|scope| {
        // Beside the reading of its output: a program may write before it has read everything. One that ends without
        // reading breaks the pipe, which its exit code tells better.
        scope.spawn(move || pipe.write_all(stdin));
        child.wait_with_output()
    })
}

/// A name that nothing else on this machine has: containers of tests that run side by side share one engine.
pub fn unique_name(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("xgenctl-e2e-{}-{}-{what}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The option that marks something as made by this process.
pub fn label() -> String {
    format!("--label={LABEL}={}", creator(std::process::id()).expect("this process runs"))
}

/// A process by its id and start time, since ids are used again; `None` where no such process runs.
fn creator(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the program's name in brackets, may hold blanks.
    let after_name = stat.rsplit_once(')')?.1;
    Some(format!("{pid}-{}", after_name.split_whitespace().nth(19)?))
}

/// Removes containers and networks that a killed test run left behind; those of running ones stay. Once per process.
pub fn remove_leftovers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let format = format!("--format={{{{.ID}}}} {{{{.Label \"{LABEL}\"}}}}");
        let filter = format!("--filter=label={LABEL}");
        for (list, remove) in [
            (["ps", "--all"].as_slice(), ["rm", "--force", "--volumes"].as_slice()),
            (&["network", "ls"], &["network", "rm"]),
        ] {
            let listed = run(list.iter().copied().chain([filter.as_str(), format.as_str()]));
            for (id, made_by) in listed.lines().filter_map(|line| line.split_once(' ')) {
                let pid = made_by.split('-').next().and_then(|pid| pid.parse().ok());
                if pid.and_then(creator).as_deref() != Some(made_by) {
                    // Another run may be removing the same thing at this moment.
                    let _ = try_run(remove.iter().copied().chain([id]));
                }
            }
        }
    });
}
