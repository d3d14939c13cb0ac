//! Writing files: small ones in one go, large ones streamed and resumed.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::connection::{Command, FileSpec, Host, Output, Source};
use super::error::{NO_SPACE, READ_ONLY};
use super::{HostError, scripts};

/// Content from here on is sent so that an interrupted upload can be resumed.
const RESUMED_FROM: u64 = 4 * 1024 * 1024;
/// How long an upload may go without a byte moving: also the time the server has to write everything to its disk and to
/// compute the digest.
const STALL: Duration = Duration::from_secs(180);
/// Exit code of the script where the digest differs.
const DIFFERS: i32 = 65;

impl Host {
    /// Writes a file atomically. `progress` is told how many bytes of the content are there in all, those of an earlier,
    /// interrupted upload included.
    ///
    /// # Errors
    /// [`HostError::File`] where the server refuses the file (permission, disk full, read-only, digest) or the source
    /// cannot be read; then, and after any other error, the target is as it was.
    pub async fn put(
        &self,
        file: &FileSpec,
        source: &Source,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), HostError> {
        match source {
            Source::Bytes(bytes) => {
                let output = self.send(file, "", &mut bytes.as_slice(), progress).await?;
                self.judge(file, output)
            }
            Source::Path(path) => self.put_path(file, path, progress).await,
        }
    }

    async fn put_path(
        &self,
        file: &FileSpec,
        path: &Path,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), HostError> {
        let unreadable = |e: std::io::Error| HostError::File {
            host: self.name().to_owned(),
            path: file.path.clone(),
            reason: format!("its source {} cannot be read: {e}", path.display()),
        };
        let mut content = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let size = content.metadata().await.map_err(unreadable)?.len();
        if size < RESUMED_FROM {
            let output = self.send(file, "", &mut content, progress).await?;
            return self.judge(file, output);
        }
        let ask = Command::script(&scripts::PART, [file.path.as_str(), file.sha256.as_str()]);
        let answer = self.run(&ask).await?;
        let there: u64 = answer.trim().parse().map_err(|_| HostError::Protocol {
            host: self.name().to_owned(),
            reason: format!("the size of an interrupted upload was expected, not {:?}", answer.trim()),
        })?;
        // More than there should be is not ours: start over.
        let offset = if there <= size { there } else { 0 };
        content.seek(std::io::SeekFrom::Start(offset)).await.map_err(unreadable)?;
        progress(offset);
        let output = self
            .send(file, &offset.to_string(), &mut content.take(size - offset), &|sent| progress(offset + sent))
            .await?;
        if output.code == DIFFERS {
            // Everything was sent, so what is there is wrong, not short: the next try must not build on it.
            self.run(&Command::script(&scripts::REMOVE, [part_of(file)])).await?;
        }
        self.judge(file, output)
    }

    /// Streams `content` to the script that writes files. There is no limit to the whole time, only to silence.
    async fn send(
        &self,
        file: &FileSpec,
        offset: &str,
        content: &mut (dyn tokio::io::AsyncRead + Send + Unpin),
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Output, HostError> {
        let mode = format!("{:04o}", file.mode);
        let args = [
            file.path.as_str(),
            mode.as_str(),
            file.owner.as_deref().unwrap_or(""),
            file.sha256.as_str(),
            file.restarts.as_deref().unwrap_or(""),
            offset,
        ];
        let command = Command::script(&scripts::PUT, args);
        let moved = AtomicU64::new(0);
        let sent = |total: u64| {
            moved.store(total, Ordering::Relaxed);
            progress(total);
        };
        let upload = self.conduct(&command.argv, &file.path, content, &sent);
        tokio::pin!(upload);
        let mut before = 0;
        loop {
            match tokio::time::timeout(STALL, &mut upload).await {
                Ok(output) => return output,
                Err(_) if moved.load(Ordering::Relaxed) > before => before = moved.load(Ordering::Relaxed),
                Err(_) => {
                    return Err(HostError::TimedOut {
                        host: self.name().to_owned(),
                        command: format!("write {}", file.path),
                        after: STALL,
                    });
                }
            }
        }
    }

    fn judge(&self, file: &FileSpec, output: Output) -> Result<(), HostError> {
        if output.code == 0 {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(HostError::File {
            host: self.name().to_owned(),
            path: file.path.clone(),
            reason: refusal(&said, output.code),
        })
    }
}

/// Where the script keeps what arrived of a resumable upload.
fn part_of(file: &FileSpec) -> String {
    let (folder, base) = file.path.rsplit_once('/').unwrap_or((".", &file.path));
    let digest: String = file.sha256.chars().take(12).collect();
    format!("{folder}/.{base}.{digest}.xgenctl-part")
}

/// Why the script could not write, in words: the system's own where they are among the usual ones.
fn refusal(said: &str, code: i32) -> String {
    let usual = [
        ("No space left on device", NO_SPACE),
        ("Disk quota exceeded", "the disk quota is exceeded"),
        ("Permission denied", "permission denied"),
        ("Operation not permitted", "operation not permitted"),
        ("Read-only file system", READ_ONLY),
        ("Is a directory", "a folder is in the way"),
        ("Not a directory", "a part of the path is not a folder"),
        // What mkdir says where a file is in the way.
        ("File exists", "a part of the path is not a folder"),
        ("invalid user", "the owner does not exist there"),
        ("invalid group", "the group does not exist there"),
        ("what arrived has sha256", "the digest differs"),
    ];
    let last = said.lines().map(str::trim).rfind(|l| !l.is_empty()).unwrap_or("");
    match usual.iter().find(|(words, _)| said.contains(words)) {
        Some((_, reason)) => format!("{reason} ({last})"),
        None if last.is_empty() => format!("it cannot be written (code {code})"),
        None => format!("it cannot be written: {last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_in_words() {
        let full = "cat: write error: No space left on device\n";
        assert_eq!(refusal(full, 1), "no space left on the disk (cat: write error: No space left on device)");
        assert_eq!(refusal("", 9), "it cannot be written (code 9)");
        assert_eq!(refusal("mv: odd\n", 1), "it cannot be written: mv: odd");
    }
}
