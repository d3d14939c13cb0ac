//! A program while it runs: the way through sudo, its three streams, its end.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{HostError, Output, Process, Sudo, Transport};
use crate::secret::Secret;

/// What sudo is told to ask with, so that its question cannot be mistaken for anything else.
const PROMPT: &str = "[xgenctl-sudo]";
/// What is printed by root right before the program starts: from here on standard input is the program's.
const MARK: &str = "[xgenctl-run]\n";
/// The shell text sudo runs; the program and its arguments follow as its own arguments.
const ENTER: &str = r#"printf "[xgenctl-run]\n" >&2; exec "$@""#;
/// More than any sudo lecture.
const MOST_PREAMBLE: usize = 64 * 1024;
/// Standard output beyond this is an error: nothing that is asked of a server answers with so much.
const MOST_STDOUT: usize = 32 * 1024 * 1024;
/// Only the end of standard error is of interest.
const MOST_STDERR: usize = 1024 * 1024;
/// Size of the pieces in which standard input is sent.
const PIECE: usize = 64 * 1024;

/// A program that runs, as root.
pub(super) struct Running {
    pub(super) stdin: Box<dyn AsyncWrite + Send + Unpin>,
    pub(super) stdout: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) stderr: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) status: BoxFuture<'static, Result<i32, HostError>>,
}

/// Starts a program as root. `limit`: after this time the server itself ends it, whatever became of the connection; only
/// behind sudo, where a signal of the login user would not reach it.
pub(super) async fn start(
    host: &str,
    transport: &dyn Transport,
    sudo: &Sudo,
    argv: &[String],
    limit: Option<Duration>,
) -> Result<Running, HostError> {
    match sudo {
        Sudo::NotNeeded => {
            let Process { stdin, stdout, stderr, status } = transport.spawn(argv).await?;
            Ok(Running { stdin, stdout, stderr, status })
        }
        Sudo::Use { password } => {
            let process = transport.spawn(&behind_sudo(argv, limit)).await?;
            enter(host, process, password.as_ref()).await
        }
    }
}

/// The argument vector that runs `argv` as root through sudo.
fn behind_sudo(argv: &[String], limit: Option<Duration>) -> Vec<String> {
    let head = ["env", "LC_ALL=C", "sudo", "-S", "-p", PROMPT, "--", "sh", "-c", ENTER, "sh"];
    let mut all: Vec<String> = head.into_iter().map(str::to_owned).collect();
    if let Some(limit) = limit {
        // One second more: xgenctl notices first, and says what did not end in time.
        let seconds = limit.as_secs() + 1;
        all.extend(["timeout".into(), "-k".into(), "5".into(), seconds.to_string()]);
    }
    all.extend(argv.iter().cloned());
    all
}

/// Reads what sudo says until the program starts, and answers the one question for a password.
async fn enter(host: &str, process: Process, password: Option<&Secret>) -> Result<Running, HostError> {
    let Process { mut stdin, stdout, mut stderr, status } = process;
    let refuse = |reason: String| Err(HostError::Sudo { host: host.to_owned(), reason });
    let mut said: Vec<u8> = Vec::new();
    let mut answered = false;
    loop {
        let started = find(&said, MARK.as_bytes());
        // What follows the mark is the program's, whatever it looks like.
        let asked = find(&said, PROMPT.as_bytes()).filter(|at| started.is_none_or(|mark| *at < mark));
        if let Some(at) = asked {
            said.drain(at..at + PROMPT.len());
            if answered {
                return refuse("the password is wrong".into());
            }
            let Some(password) = password else { return refuse("a password is required".into()) };
            answered = true;
            // Where this fails sudo is gone, and its last words follow.
            let _ = stdin.write_all(format!("{}\n", password.expose()).as_bytes()).await;
            let _ = stdin.flush().await;
            continue;
        }
        if let Some(at) = started {
            let rest = said.split_off(at + MARK.len());
            let stderr = Box::new(std::io::Cursor::new(rest).chain(stderr));
            return Ok(Running { stdin, stdout, stderr, status });
        }
        let mut piece = [0; 4096];
        let read = stderr.read(&mut piece).await.unwrap_or(0);
        said.extend_from_slice(&piece[..read]);
        if read == 0 {
            drop(stdin);
            let code = status.await?;
            return refuse(refusal(&String::from_utf8_lossy(&said), code));
        }
        if said.len() > MOST_PREAMBLE {
            return refuse("it printed a lot and never started the program".into());
        }
    }
}

/// Why sudo ended without having started the program.
fn refusal(said: &str, code: i32) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let line_with = |words: &[&str]| lines.iter().find(|l| words.iter().any(|w| l.contains(w)));
    if code == 127 || line_with(&["sudo: command not found", "'sudo': No such file"]).is_some() {
        return "it is not installed".into();
    }
    if let Some(line) = line_with(&["not in the sudoers file", "is not allowed to", "may not run sudo"]) {
        return line.trim_start_matches("sudo: ").to_owned();
    }
    if line_with(&["must have a tty", "a terminal is required"]).is_some() {
        return "the server lets it run on a terminal only (`requiretty` in /etc/sudoers)".into();
    }
    match lines.last() {
        Some(line) => line.trim_start_matches("sudo: ").to_owned(),
        None => format!("it ended with code {code} and said nothing"),
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|w| w == part)
}

impl Running {
    /// Feeds standard input, reads both outputs at the same time, and waits for the end. `sent` hears how many bytes of
    /// `input` were handed over so far.
    pub(super) async fn finish(
        self,
        host: &str,
        label: &str,
        input: &mut (dyn AsyncRead + Send + Unpin),
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Output, HostError> {
        let Self { stdin, stdout, stderr, status } = self;
        let (fed, stdout, stderr, code) =
            tokio::join!(feed(stdin, input, sent), first(stdout, MOST_STDOUT), last(stderr, MOST_STDERR), status);
        let code = code?;
        let unreadable = |what: &str, e: std::io::Error| HostError::Connection {
            host: host.to_owned(),
            reason: format!("{what} of `{label}`: {e}"),
        };
        fed.map_err(|e| HostError::File { host: host.to_owned(), path: label.to_owned(), reason: e.to_string() })?;
        let stdout = stdout.map_err(|e| unreadable("the output", e))?;
        let stderr = stderr.map_err(|e| unreadable("the error output", e))?;
        let Some(stdout) = stdout else {
            return Err(HostError::Protocol {
                host: host.to_owned(),
                reason: format!("`{label}` printed more than {} MiB", MOST_STDOUT / 1024 / 1024),
            });
        };
        Ok(Output { code, stdout, stderr })
    }
}

/// Copies `input` to the program, then ends its standard input. Only an error of `input` itself counts: a program that
/// ends before it has read everything is judged by its exit code.
async fn feed(
    mut stdin: Box<dyn AsyncWrite + Send + Unpin>,
    input: &mut (dyn AsyncRead + Send + Unpin),
    sent: &(dyn Fn(u64) + Send + Sync),
) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut total = 0;
    loop {
        let read = input.read(&mut piece).await?;
        if read == 0 {
            let _ = stdin.shutdown().await;
            return Ok(());
        }
        if stdin.write_all(&piece[..read]).await.is_err() || stdin.flush().await.is_err() {
            return Ok(());
        }
        total += read as u64;
        sent(total);
    }
}

/// Everything from `from`; `None` where it is more than `most` bytes, after it was read to its end all the same.
async fn first(mut from: Box<dyn AsyncRead + Send + Unpin>, most: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut kept = Vec::new();
    let mut piece = vec![0; PIECE];
    let mut fits = true;
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return Ok(fits.then_some(kept));
        }
        fits = fits && kept.len() + read <= most;
        if fits {
            kept.extend_from_slice(&piece[..read]);
        }
    }
}

/// The last `most` bytes of `from`.
pub(super) async fn last(mut from: impl AsyncRead + Unpin, most: usize) -> std::io::Result<Vec<u8>> {
    let mut kept: Vec<u8> = Vec::new();
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            kept.drain(..kept.len().saturating_sub(most));
            return Ok(kept);
        }
        kept.extend_from_slice(&piece[..read]);
        // Trimmed now and then only: moving a MiB for every piece would be slow.
        if kept.len() > 2 * most {
            kept.drain(..kept.len() - most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sudo that answers as told: what it prints to standard error, and the code it ends with.
    fn process(stderr: &str, code: i32) -> Process {
        Process {
            stdin: Box::new(tokio::io::sink()),
            stdout: Box::new(tokio::io::empty()),
            stderr: Box::new(std::io::Cursor::new(stderr.as_bytes().to_vec())),
            status: Box::pin(futures::future::ready(Ok(code))),
        }
    }

    async fn reason(stderr: &str, code: i32, password: Option<&str>) -> String {
        let password = password.map(Secret::new);
        match enter("box", process(stderr, code), password.as_ref()).await {
            Ok(_) => "entered".into(),
            Err(e) => e.to_string(),
        }
    }

    #[tokio::test]
    async fn every_refusal_of_sudo_is_told() {
        assert_eq!(reason("[xgenctl-sudo]", 1, None).await, "box: sudo: a password is required");
        let twice = "[xgenctl-sudo]Sorry, try again.\n[xgenctl-sudo]";
        assert_eq!(reason(twice, 1, Some("wrong-one")).await, "box: sudo: the password is wrong");
        let unknown = "[xgenctl-sudo]\nops is not in the sudoers file.\n";
        assert_eq!(reason(unknown, 1, Some("right-one")).await, "box: sudo: ops is not in the sudoers file.");
        let none = "env: 'sudo': No such file or directory\n";
        assert_eq!(reason(none, 127, None).await, "box: sudo: it is not installed");
        assert_eq!(reason("", 3, None).await, "box: sudo: it ended with code 3 and said nothing");
        assert_eq!(reason("lecture\n[xgenctl-run]\n", 0, None).await, "entered");
    }

    #[tokio::test]
    async fn what_follows_the_mark_is_the_programs() {
        let text = "sudo: unable to resolve host\n[xgenctl-run]\nfirst words";
        let mut running = enter("box", process(text, 0), None).await.unwrap_or_else(|e| panic!("{e}"));
        let mut rest = String::new();
        running.stderr.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "first words");
    }

    #[tokio::test]
    async fn the_password_is_written_once_and_only_to_the_prompt() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut process = process("[xgenctl-sudo]\n[xgenctl-run]\n", 0);
        process.stdin = Box::new(ours);
        let password = Secret::new("open-sesame");
        let running = enter("box", process, Some(&password)).await.unwrap_or_else(|e| panic!("{e}"));
        drop(running);
        let mut got = String::new();
        theirs.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "open-sesame\n");
        assert!(!behind_sudo(&["true".into()], None).join(" ").contains("open-sesame"));
    }

    #[tokio::test]
    async fn long_output_is_bounded() {
        let long = vec![7u8; 3 * 1024];
        assert_eq!(first(Box::new(std::io::Cursor::new(long.clone())), 1024).await.unwrap(), None);
        assert_eq!(last(std::io::Cursor::new(long), 1024).await.unwrap().len(), 1024);
    }
}
