//! The cache of verified artifacts on the operator's machine.
//!
//! `artifacts/<product>/<version>/<asset>`, with `<asset>.sha256` beside it: the line of the release's checksum list. A
//! download goes to `<asset>.part`, which stays when it breaks off and is continued the next time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy as _;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};

use super::{Artifact, Body, Download, FetchError, Fetched, http::without_credentials};

/// How often a request is made before its error is final.
const TRIES: u32 = 3;
/// The pause before the second try; it doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How often another process's download is looked at.
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// A checksum list is a few hundred bytes; what is longer than this is none.
const LONGEST_LIST: usize = 1 << 20;
/// Progress is told once for so many bytes.
const PROGRESS_STEP: u64 = 256 * 1024;

type Progress<'a> = &'a (dyn Fn(u64, Option<u64>) + Send + Sync);

/// Fetches artifacts and keeps them.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    first_pause: Duration,
}

impl Store {
    /// A store in xgenctl's cache folder; it and what it needs in it are made when something is fetched.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self { root: cache_dir.into(), first_pause: FIRST_PAUSE }
    }

    /// xgenctl's cache folder: `$XDG_CACHE_HOME/xgenctl`, by default `~/.cache/xgenctl`.
    ///
    /// # Errors
    /// Where neither XDG_CACHE_HOME nor a home folder is known.
    pub fn default_dir() -> Result<PathBuf, FetchError> {
        match etcetera::base_strategy::Xdg::new() {
            Ok(dirs) => Ok(dirs.cache_dir().join("xgenctl")),
            Err(error) => Err(FetchError::Cache { path: "~/.cache/xgenctl".into(), reason: error.to_string() }),
        }
    }

    /// Where an artifact is kept, whether it is there or not.
    pub fn path_of(&self, artifact: &Artifact) -> PathBuf {
        self.root.join("artifacts").join(&artifact.product).join(&artifact.version).join(&artifact.asset)
    }

    /// The artifact from the cache if it is there unharmed, else from where it is published. `progress` is told the
    /// bytes so far and in all (where known) of a download.
    ///
    /// # Errors
    /// See [`FetchError`]. What passes by itself (a broken connection, 5xx) has been tried three times.
    pub async fn fetch(
        &self,
        artifact: &Artifact,
        download: &dyn Download,
        progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<Fetched, FetchError> {
        for part in [&artifact.product, &artifact.version, &artifact.asset, &artifact.checksums] {
            if part.is_empty() || part.starts_with('.') || part.contains(['/', '\0']) {
                let path = self.path_of(artifact);
                return Err(cache_error(&path, format!("`{part}` cannot be the name of a file or folder")));
            }
        }
        let slot = Slot::new(self.path_of(artifact), artifact, self.first_pause);
        if let Some(found) = slot.cached().await? {
            return Ok(found);
        }
        if let Some(folder) = slot.asset.parent() {
            fs::create_dir_all(folder).map_err(|e| io_error(folder, &e))?;
        }
        let mut part = Part::lock(&slot.part).await?;
        // Another process may have fetched it while this one waited.
        let result = match slot.cached().await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => slot.download(&mut part, download, progress).await,
            Err(error) => Err(error),
        };
        part.clean_up(&result);
        result
    }
}

/// The files of one artifact.
struct Slot<'a> {
    artifact: &'a Artifact,
    asset: PathBuf,
    digest: PathBuf,
    part: PathBuf,
    /// The release's own list: a person who fills the cache by hand may put it there as it is.
    list: PathBuf,
    first_pause: Duration,
}

/// What an asset has to be.
struct Expected {
    sha256: String,
    /// The address or the file that says so.
    list: String,
}

impl<'a> Slot<'a> {
    fn new(asset: PathBuf, artifact: &'a Artifact, first_pause: Duration) -> Self {
        let beside = |suffix| asset.with_file_name(format!("{}{suffix}", artifact.asset));
        let (digest, part) = (beside(".sha256"), beside(".part"));
        let list = asset.with_file_name(&artifact.checksums);
        Self { artifact, asset, digest, part, list, first_pause }
    }

    /// The asset, if it is in the cache and is what its checksum says.
    async fn cached(&self) -> Result<Option<Fetched>, FetchError> {
        let Some(Expected { sha256: expected, .. }) = self.known_digest() else { return Ok(None) };
        match digest_of(&self.asset).await {
            Ok((sha256, size)) if sha256 == expected => {
                Ok(Some(Fetched { path: self.asset.clone(), sha256, size, downloaded: false }))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(&self.asset, &error)),
        }
    }

    /// The digest that an earlier run or a person left in the cache.
    fn known_digest(&self) -> Option<Expected> {
        [&self.digest, &self.list].into_iter().find_map(|file| {
            let sha256 = checksum(&fs::read_to_string(file).ok()?, &self.artifact.asset)?;
            Some(Expected { sha256, list: file.display().to_string() })
        })
    }

    /// The digest, from the cache or from the release's list.
    async fn expected(&self, download: &dyn Download) -> Result<Expected, FetchError> {
        if let Some(known) = self.known_digest() {
            return Ok(known);
        }
        let url = self.artifact.checksums_url();
        let text = self.read_list(download, &url).await?;
        let (list, asset) = (without_credentials(&url), &self.artifact.asset);
        let none = || FetchError::NoChecksum { url: list.clone(), asset: asset.clone() };
        let sha256 = checksum(&text, asset).ok_or_else(none)?;
        // The file is written under the part's lock, and a torn one is no checksum and is fetched again.
        fs::write(&self.digest, format!("{sha256}  {asset}\n")).map_err(|e| io_error(&self.digest, &e))?;
        Ok(Expected { sha256, list })
    }

    /// The release's list; what may pass by itself is tried again.
    async fn read_list(&self, download: &dyn Download, url: &str) -> Result<String, FetchError> {
        let mut tries = 1;
        loop {
            match read_list(download, url).await {
                Err(error) if error.is_transient() && tries < TRIES => self.pause(tries).await,
                result => return result,
            }
            tries += 1;
        }
    }

    /// Waits after the given try, each time twice as long.
    async fn pause(&self, tries: u32) {
        tokio::time::sleep(self.first_pause * 2u32.pow(tries - 1)).await;
    }

    async fn download(
        &self,
        part: &mut Part,
        download: &dyn Download,
        progress: Progress<'_>,
    ) -> Result<Fetched, FetchError> {
        let Expected { sha256: expected, list } = self.expected(download).await?;
        let url = self.artifact.url();
        let mut resumed = part.length()?;
        // What an earlier run left may be complete already.
        if resumed > 0 && digest_of(&self.part).await.map_err(|e| part.error(&e))?.0 == expected {
            return self.publish(part, expected, resumed).await;
        }
        loop {
            let mut tries = 0;
            loop {
                tries += 1;
                match part.append(download, &url, progress).await {
                    Ok(()) => break,
                    // What is there is longer than what is published: it cannot be a part of it.
                    Err(FetchError::Status { status: 416, .. }) if part.length()? > 0 => {
                        part.empty()?;
                        resumed = 0;
                    }
                    Err(error) if error.is_transient() && tries < TRIES => self.pause(tries).await,
                    Err(error) => return Err(error),
                }
            }
            let (got, size) = digest_of(&self.part).await.map_err(|e| part.error(&e))?;
            if got == expected {
                return self.publish(part, expected, size).await;
            }
            part.empty()?;
            if resumed > 0 {
                // The beginning came from another run and may be of another file; what follows is all of one piece.
                resumed = 0;
                continue;
            }
            // The list is asked for again the next time, in case it is the list that is wrong.
            let _ = fs::remove_file(&self.digest);
            return Err(FetchError::Digest { url: without_credentials(&url), list, expected, got });
        }
    }

    /// Gives a complete part its final name.
    async fn publish(&self, part: &Part, sha256: String, size: u64) -> Result<Fetched, FetchError> {
        let file = part.file.try_clone().map_err(|e| part.error(&e))?;
        blocking(move || file.sync_all()).await.map_err(|e| part.error(&e))?;
        fs::rename(&self.part, &self.asset).map_err(|e| io_error(&self.asset, &e))?;
        Ok(Fetched { path: self.asset.clone(), sha256, size, downloaded: true })
    }
}

/// A download that is under way, locked against other processes.
struct Part {
    path: PathBuf,
    file: File,
}

impl Part {
    /// Opens the part and waits until no other process works on it.
    async fn lock(path: &Path) -> Result<Self, FetchError> {
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(path)
                .map_err(|e| io_error(path, &e))?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    drop(file);
                    tokio::time::sleep(LOCK_PAUSE).await;
                    continue;
                }
                // Some network file systems have no locks. A collision there ends as a digest that does not match.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            let part = Self { path: path.to_owned(), file };
            // The one who held the lock before may have renamed or removed the file it is on.
            if part.is_at_its_path() {
                return Ok(part);
            }
        }
    }

    fn error(&self, error: &io::Error) -> FetchError {
        io_error(&self.path, error)
    }

    fn length(&self) -> Result<u64, FetchError> {
        Ok(self.file.metadata().map_err(|e| self.error(&e))?.len())
    }

    fn empty(&mut self) -> Result<(), FetchError> {
        self.file.set_len(0).map_err(|e| self.error(&e))
    }

    /// Downloads what is missing at the end of the part.
    async fn append(&mut self, download: &dyn Download, url: &str, progress: Progress<'_>) -> Result<(), FetchError> {
        let offset = self.file.seek(SeekFrom::End(0)).map_err(|e| self.error(&e))?;
        let Body { length, mut stream } = download.get(url, offset).await?;
        let total = length.map(|length| offset + length);
        let (mut done, mut told) = (offset, offset);
        progress(done, total);
        while let Some(chunk) = stream.next().await {
            let lost = |reason| FetchError::Connection {
                url: without_credentials(url),
                reason: format!("{reason}; the download broke off after {done} bytes"),
            };
            let chunk = chunk.map_err(lost)?;
            self.file.write_all(&chunk).map_err(|e| self.error(&e))?;
            done += chunk.len() as u64;
            if done - told >= PROGRESS_STEP {
                told = done;
                progress(done, total);
            }
        }
        if done != told {
            progress(done, total);
        }
        match total {
            Some(expected) if done < expected => {
                Err(FetchError::Truncated { url: without_credentials(url), got: done, expected })
            }
            _ => Ok(()),
        }
    }

    fn is_at_its_path(&self) -> bool {
        match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(own)) => there.ino() == own.ino() && there.dev() == own.dev(),
            _ => false,
        }
    }

    /// Leaves the part only where it can be continued.
    fn clean_up(self, result: &Result<Fetched, FetchError>) {
        let full = self.file.metadata().is_ok_and(|m| m.len() > 0);
        // Where the disk is full, what came so far must not keep it so.
        let keep = full && !matches!(result, Ok(_) | Err(FetchError::Cache { .. }));
        if !keep && self.is_at_its_path() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Reads a checksum list.
async fn read_list(download: &dyn Download, url: &str) -> Result<String, FetchError> {
    let Body { length, mut stream } = download.get(url, 0).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let lost = |reason| FetchError::Connection { url: without_credentials(url), reason };
        bytes.extend_from_slice(&chunk.map_err(lost)?);
        if bytes.len() > LONGEST_LIST {
            break;
        }
    }
    let got = bytes.len() as u64;
    match length {
        Some(expected) if got < expected && bytes.len() <= LONGEST_LIST => {
            Err(FetchError::Truncated { url: without_credentials(url), got, expected })
        }
        _ => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// The digest that a list in sha256sum's format has for a file, in lower case.
fn checksum(list: &str, asset: &str) -> Option<String> {
    list.lines().find_map(|line| {
        let (digest, name) = line.trim().split_once([' ', '\t'])?;
        let name = name.trim_start();
        let name = name.strip_prefix('*').unwrap_or(name);
        let name = name.strip_prefix("./").unwrap_or(name);
        let is_digest = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        (is_digest && name == asset).then(|| digest.to_ascii_lowercase())
    })
}

/// SHA-256 in hexadecimal and the size of a file.
async fn digest_of(path: &Path) -> io::Result<(String, u64)> {
    let path = path.to_owned();
    let hash = move || {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut size = 0;
        loop {
            let got = match file.read(&mut buffer) {
                Ok(0) => return Ok((format!("{:x}", hasher.finalize()), size)),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hasher.update(&buffer[..got]);
            size += got as u64;
        }
    };
    blocking(hash).await
}

/// Runs what takes its time on the disk without holding up the rest.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn io_error(path: &Path, error: &io::Error) -> FetchError {
    let reason = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("no space left on this machine for the download: {error}")
        }
        _ => error.to_string(),
    };
    cache_error(path, reason)
}

fn cache_error(path: &Path, reason: String) -> FetchError {
    FetchError::Cache { path: path.display().to_string(), reason }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
