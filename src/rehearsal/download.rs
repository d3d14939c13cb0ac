//! The simulated mirror: `<base>/<version>/<asset>` in the layout of the upstream releases, for any base and version.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;

use super::artifact;
use super::faults::{Fault, Point};
use super::world::{Kept, World};
use crate::artifact::{Body, Download, FetchError};

/// How long a download may be silent.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a rehearsal's downloads come from.
pub struct SimDownload {
    world: World,
}

impl SimDownload {
    /// The mirror of a world.
    pub fn new(world: World) -> Self {
        Self { world }
    }
}

/// The content at an address; `None` where there is none.
fn content(url: &str) -> Option<Vec<u8>> {
    let mut parts = url.rsplit('/');
    let asset = parts.next()?;
    let version = parts.next()?.replace("%2B", "+").replace("%2b", "+");
    let known = version.starts_with('v') && version.contains("+k3s") && parts.next().is_some();
    if known { artifact::content(&version, asset) } else { None }
}

#[async_trait]
impl Download for SimDownload {
    async fn get(&self, url: &str, offset: u64) -> Result<Body, FetchError> {
        self.world.record(Kept::Download, "", url);
        let fault = self.world.pass(Point::Download, "", &format!("{url} from {offset}"));
        tokio::time::sleep(Duration::from_millis(40)).await;
        let lost = |reason: &str| FetchError::Connection { url: url.to_owned(), reason: reason.to_owned() };
        let status = |status: u16| FetchError::Status { url: url.to_owned(), status };
        match fault {
            // A real client gives up a download that stalls.
            Some(Fault::Hang) => {
                tokio::time::sleep(STALL_TIMEOUT).await;
                return Err(FetchError::Connection { url: url.to_owned(), reason: "no byte for 30 s".into() });
            }
            Some(Fault::Killed) => return Err(lost("the rehearsed process was killed")),
            Some(Fault::DownloadStatus(code)) => return Err(status(code)),
            Some(Fault::DownloadBroken | Fault::DownloadTruncated | Fault::DownloadCorrupt) | None => {}
            Some(_) => return Err(lost("connection reset by peer")),
        }
        let Some(mut whole) = content(url) else { return Err(status(404)) };
        if fault == Some(Fault::DownloadCorrupt)
            && let Some(last) = whole.last_mut()
        {
            *last ^= 0x20;
        }
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        if from > 0 && from >= whole.len() {
            return Err(status(416));
        }
        let rest = whole.split_off(from);
        let length = rest.len() as u64;
        let mut pieces: Vec<Result<Bytes, String>> =
            rest.chunks(rest.len().div_ceil(4).max(1)).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        match fault {
            Some(Fault::DownloadBroken) => {
                pieces.truncate(2);
                pieces.push(Err("connection reset by peer".into()));
            }
            Some(Fault::DownloadTruncated) => pieces.truncate(2),
            _ => {}
        }
        let stream = futures::stream::iter(pieces).then(|piece| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            piece
        });
        Ok(Body { length: Some(length), stream: Box::pin(stream) })
    }
}
