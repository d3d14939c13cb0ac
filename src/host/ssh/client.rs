//! Our side of a connection: is the server the one it claims to be, and is it still there?

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::{self, DisconnectReason};
use russh::keys::ssh_key::PublicKey;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKeyOrCertificate};
use tokio::sync::watch;

use super::config::Strict;
use super::known_hosts::{self, KnownHosts, Place, Verdict, fingerprint};
use super::target::Target;
use super::{Question, SshOptions};
use crate::host::HostError;
use crate::secret::Secret;

/// Host-key algorithms we accept; which of them comes first depends on what is known of the host.
const HOST_KEYS: [Algorithm; 6] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// What the connection and its users both see.
#[derive(Debug, Default)]
pub struct Shared {
    /// Why the host key was refused: SSH itself only knows that it was.
    refused: Mutex<Option<HostError>>,
    /// How many questions a person is thinking about: that time is not the server's.
    asking: AtomicUsize,
    /// Why the connection is lost, as soon as it is.
    lost: watch::Sender<Option<String>>,
}

impl Shared {
    /// Why the host key was refused, if it was.
    pub fn refused(&self) -> Option<HostError> {
        self.refused.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Why the connection was lost. Waits a moment for the reason, which comes right after the loss.
    pub async fn loss(&self) -> String {
        let mut lost = self.lost.subscribe();
        let told = tokio::time::timeout(Duration::from_millis(200), lost.wait_for(Option::is_some)).await;
        match told {
            Ok(Ok(reason)) => reason.clone().unwrap_or_default(),
            _ => "the connection does not work any more".into(),
        }
    }

    /// Whether the connection is lost.
    pub fn is_lost(&self) -> bool {
        self.lost.borrow().is_some()
    }

    fn lose(&self, reason: String) {
        self.lost.send_if_modified(|lost| {
            let news = lost.is_none();
            if news {
                *lost = Some(reason);
            }
            news
        });
    }

    /// Asks a person, one question at a time over all servers.
    pub async fn ask(&self, options: &SshOptions, question: Question) -> Option<Secret> {
        let ask = options.ask.clone()?;
        self.asking.fetch_add(1, Ordering::Relaxed);
        let answer = ask(question).await;
        self.asking.fetch_sub(1, Ordering::Relaxed);
        answer
    }

    /// Marks time as a person's, not the server's, while `work` (which may ask) runs.
    pub async fn thinking<T>(&self, work: impl Future<Output = T>) -> T {
        self.asking.fetch_add(1, Ordering::Relaxed);
        let done = work.await;
        self.asking.fetch_sub(1, Ordering::Relaxed);
        done
    }

    /// Gives `work` the time `limit`, not counting what a person needs to answer. `None`: it took longer.
    pub async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            match tokio::time::timeout(limit, &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if self.asking.load(Ordering::Relaxed) > 0 => {}
                Err(_) => return None,
            }
        }
    }
}

/// Handles what the server sends of itself.
pub struct Client {
    target: Target,
    options: SshOptions,
    shared: Arc<Shared>,
    /// The key that was trusted: when keys are exchanged again nobody is asked again.
    trusted: Option<PublicKey>,
}

impl Client {
    /// For one connection to `target`.
    pub fn new(target: Target, options: SshOptions, shared: Arc<Shared>) -> Self {
        Self { target, options, shared, trusted: None }
    }

    /// What is negotiated: key types that are known of the host come first, so that it shows one that can be checked.
    pub fn config(target: &Target) -> client::Config {
        let known = KnownHosts::read(&target.known_as, &target.known_hosts);
        let mut config = client::Config {
            client_id: russh::SshId::Standard(concat!("SSH-2.0-xgenctl_", env!("CARGO_PKG_VERSION")).into()),
            keepalive_interval: Some(target.keepalive),
            keepalive_max: target.keepalive_max,
            nodelay: true,
            ..client::Config::default()
        };
        config.preferred.key = known_hosts::prefer(&known.types(), &HOST_KEYS).into();
        config
    }

    fn error(&self, reason: String, hint: String) -> HostError {
        HostError::HostKey { host: self.target.node.clone(), reason, hint }
    }

    async fn check(&mut self, key: &PublicKey) -> Result<(), HostError> {
        if self.trusted.as_ref().is_some_and(|trusted| trusted.key_data() == key.key_data()) {
            return Ok(());
        }
        let seen = |target: &Target| KnownHosts::read(&target.known_as, &target.known_hosts).check(key);
        if let Some(verdict) = self.settled(seen(&self.target), key) {
            return verdict;
        }
        // One unknown host at a time; another connection may have learnt this one meanwhile.
        let keys = self.options.keys.clone();
        let _turn = self.shared.thinking(keys.lock()).await;
        let verdict = seen(&self.target);
        if let Some(verdict) = self.settled(verdict.clone(), key) {
            return verdict;
        }
        self.unknown(verdict, key).await
    }

    /// The verdicts that need no decision.
    fn settled(&self, verdict: Verdict, key: &PublicKey) -> Option<Result<(), HostError>> {
        let shown = describe(key);
        let name = &self.target.known_as;
        match verdict {
            Verdict::Known => Some(Ok(())),
            Verdict::Revoked(place) => Some(Err(self.error(
                format!("its host key ({shown}) is revoked in {place}"),
                "the server must get a new host key; nobody can trust this one any more".into(),
            ))),
            Verdict::Changed(place, known) => Some(Err(self.error(
                format!("its host key changed: {name} shows {shown}, but {place} has {}", describe(&known)),
                format!(
                    "if the server was installed anew, forget the old key with `{}`; if not, somebody may be between \
                     you and the server",
                    forget(name, &place)
                ),
            ))),
            Verdict::OtherType(..) | Verdict::Unknown { .. } => None,
        }
    }

    /// Decides about a key that is not known.
    async fn unknown(&self, verdict: Verdict, key: &PublicKey) -> Result<(), HostError> {
        let shown = describe(key);
        let name = &self.target.known_as;
        let (reason, other_type, hint) = match &verdict {
            Verdict::OtherType(place, known) => (
                format!("its host key is new: {name} shows {shown}, but {place} has {}", describe(known)),
                true,
                format!(
                    "compare the fingerprint on the server, then forget the old key with `{}`",
                    forget(name, place)
                ),
            ),
            Verdict::Unknown { authority } => (
                match authority {
                    Some(place) => format!(
                        "its host key is not known: {name} shows {shown}; the certificate authority in {place} is not \
                         used, as host certificates are not supported"
                    ),
                    None => format!("its host key is not known: {name} shows {shown}"),
                },
                false,
                format!(
                    "compare the fingerprint on the server (`ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub`), then connect \
                     once with `ssh -p {} {}@{}`, or run again with --accept-new-host-keys",
                    self.target.port, self.target.user, self.target.host
                ),
            ),
            // Settled before.
            Verdict::Known | Verdict::Revoked(_) | Verdict::Changed(..) => return Ok(()),
        };
        // A host that is known by another key is not new: that is for a person to decide.
        let accept = self.options.accept_new_host_keys || self.target.strict == Strict::AcceptNew;
        if accept && !other_type {
            self.remember(key);
            return Ok(());
        }
        if self.target.strict != Strict::Yes && self.options.ask.is_some() {
            let question = Question::Confirm(format!("{}: {reason}\nConnect and remember this key", self.target.node));
            let answer = self.shared.ask(&self.options, question).await;
            if answer.is_some_and(|a| a.expose().trim().eq_ignore_ascii_case("yes")) {
                self.remember(key);
                return Ok(());
            }
        }
        Err(self.error(reason, hint))
    }

    fn remember(&self, key: &PublicKey) {
        let target = &self.target;
        let default = PathBuf::from("/dev/null");
        let file = target.known_hosts.first().unwrap_or(&default);
        match known_hosts::remember(&target.known_as, key, target.hash_known_hosts, file) {
            Ok(()) => self.options.warn(format!(
                "{}: remembered the host key of {} ({}) in {}",
                target.node,
                target.known_as,
                describe(key),
                file.display()
            )),
            Err(e) => self.options.warn(format!(
                "{}: the host key of {} could not be remembered in {}: {e}",
                target.node,
                target.known_as,
                file.display()
            )),
        }
    }
}

/// Whether the other end is gone: which of these it is depends only on what was under way.
fn is_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
    )
}

/// Type and fingerprint of a key.
fn describe(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm().as_str(), fingerprint(key))
}

/// The command that removes a host's old keys.
fn forget(name: &str, place: &Place) -> String {
    format!("ssh-keygen -R '{name}' -f '{}'", place.file.display())
}

impl Drop for Client {
    fn drop(&mut self) {
        // Whatever ended the connection's task ends with this: nobody may wait for it any more.
        self.shared.lose("the connection was closed".into());
    }
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let key = shown.public_key();
        match self.check(&key).await {
            Ok(()) => {
                self.trusted = Some(key);
                Ok(true)
            }
            Err(error) => {
                *self.shared.refused.lock().unwrap_or_else(|e| e.into_inner()) = Some(error);
                Ok(false)
            }
        }
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Self::Error>) -> Result<(), Self::Error> {
        let (text, result) = match reason {
            DisconnectReason::ReceivedDisconnect(info) => (format!("the server ended it: {}", info.message), Ok(())),
            DisconnectReason::Error(error) => {
                let text = match &error {
                    russh::Error::KeepaliveTimeout => {
                        let silence = self.target.keepalive * (self.target.keepalive_max as u32 + 1);
                        format!("the server has not answered for {} s", silence.as_secs())
                    }
                    russh::Error::HUP | russh::Error::Disconnect => "the server closed the connection".into(),
                    russh::Error::IO(e) if is_end(e.kind()) => "the server closed the connection".into(),
                    error => error.to_string(),
                };
                (text, Err(error))
            }
        };
        self.shared.lose(format!("the connection is lost: {text}"));
        result
    }
}
