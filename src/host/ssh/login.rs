//! Logging in, in OpenSSH's order: the key of project.yaml, the agent, other key files, a password.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use russh::MethodKind;
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_key::PublicKey;
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, decode_secret_key};
use tokio::net::UnixStream;

use super::client::{Client, Shared};
use super::target::{KeyFile, Named, Target};
use super::{Question, SshOptions};
use crate::host::HostError;
use crate::secret::Secret;

/// How long a server may think about one attempt. Some wait on purpose after a wrong one.
const ATTEMPT: Duration = Duration::from_secs(60);
/// How long the agent may take to list its keys.
const AGENT: Duration = Duration::from_secs(5);
/// How often a passphrase or a password is asked for.
const MOST_ASKED: usize = 3;
/// How many rounds of questions a server may ask.
const MOST_ROUNDS: usize = 10;

/// Logs in.
///
/// # Errors
/// [`HostError::Login`] with everything that was tried, [`HostError::Connection`] where the connection broke.
pub async fn login(
    handle: &mut Handle<Client>,
    target: &Target,
    options: &SshOptions,
    shared: &Shared,
) -> Result<(), HostError> {
    let mut login = Login { handle, target, options, shared, rsa: None, allowed: None, tried: Vec::new() };
    if login.with_keys().await? || login.with_password().await? {
        return Ok(());
    }
    Err(login.refused())
}

struct Login<'a> {
    handle: &'a mut Handle<Client>,
    target: &'a Target,
    options: &'a SshOptions,
    shared: &'a Shared,
    /// The hash RSA keys sign with here, once it was asked for.
    rsa: Option<Option<HashAlg>>,
    /// The methods the server said it takes, once it said so.
    allowed: Option<Vec<MethodKind>>,
    /// What was tried, in words.
    tried: Vec<String>,
}

/// What one attempt came to.
enum Step {
    In,
    Refused,
    /// The server wants another method on top.
    More,
}

/// A key to try; the lowest rank goes first.
struct Candidate<'a> {
    rank: u8,
    way: Way<'a>,
}

/// Where a key is.
enum Way<'a> {
    Agent(Box<PublicKey>, String),
    File(&'a KeyFile, &'a Material),
}

/// A key file, as far as it can be used without asking anybody.
enum Material {
    Open(Arc<PrivateKey>),
    /// Needs a passphrase. The public half may be known all the same.
    Locked(Option<PublicKey>),
    /// The file has only the public half: the agent has the other one.
    Public(PublicKey),
    Missing,
    Broken(String),
}

impl Login<'_> {
    /// Tries every key; true: we are in.
    async fn with_keys(&mut self) -> Result<bool, HostError> {
        let files: Vec<(KeyFile, Material)> = self.target.keys.iter().map(|k| (k.clone(), self.read(k))).collect();
        let named = |key: &PublicKey| {
            let same = |m: &Material| m.public().is_some_and(|p| p.key_data() == key.key_data());
            files.iter().find(|(_, material)| same(material)).map(|(file, _)| file.named)
        };
        let (mut agent, identities) = self.agent().await.map_or((None, Vec::new()), |(a, keys)| (Some(a), keys));
        let mut candidates: Vec<Candidate> = Vec::new();
        for identity in identities {
            // Certificates are not supported.
            let AgentIdentity::PublicKey { key, comment } = identity else { continue };
            let rank = match named(&key) {
                Some(Named::Project) => 0,
                Some(Named::Config) => 2,
                Some(Named::Nobody) => 3,
                None if self.target.identities_only => continue,
                None => 3,
            };
            candidates.push(Candidate { rank, way: Way::Agent(Box::new(key), comment) });
        }
        for (file, material) in &files {
            let rank = if file.named == Named::Project { 1 } else { 4 };
            candidates.push(Candidate { rank, way: Way::File(file, material) });
        }
        // Stable: within a rank the order of the agent and of the files stays.
        candidates.sort_by_key(|c| c.rank);
        let mut offered: Vec<PublicKey> = Vec::new();
        for candidate in candidates {
            if !self.takes(MethodKind::PublicKey) {
                break;
            }
            let step = match (candidate.way, &mut agent) {
                (Way::File(file, material), _) => self.with_file(file, material, &mut offered).await?,
                (Way::Agent(key, comment), Some(agent)) => {
                    self.with_agent_key(agent, &key, &comment, &mut offered).await?
                }
                // Its keys are listed, so there is an agent.
                (Way::Agent(..), None) => continue,
            };
            if matches!(step, Step::In) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn with_agent_key(
        &mut self,
        agent: &mut AgentClient<UnixStream>,
        key: &PublicKey,
        comment: &str,
        offered: &mut Vec<PublicKey>,
    ) -> Result<Step, HostError> {
        let what = format!("the agent's key {comment}");
        let hash = self.hash(key).await?;
        let attempt = self.handle.authenticate_publickey_with(self.target.user.clone(), key.clone(), hash, agent);
        match self.shared.within(ATTEMPT, attempt).await {
            Some(Ok(result)) => {
                offered.push(key.clone());
                self.step(result, &what).await
            }
            Some(Err(error)) => {
                self.tried.push(format!("{what} (the agent did not sign: {error})"));
                Ok(Step::Refused)
            }
            None => Err(self.silent()),
        }
    }

    async fn with_file(
        &mut self,
        file: &KeyFile,
        material: &Material,
        offered: &mut Vec<PublicKey>,
    ) -> Result<Step, HostError> {
        let what = format!("the key {}", file.path.display());
        if let Some(public) = material.public()
            && offered.iter().any(|o| o.key_data() == public.key_data())
        {
            return Ok(Step::Refused);
        }
        let key = match material {
            Material::Open(key) => key.clone(),
            Material::Missing => {
                if file.named != Named::Nobody {
                    self.tried.push(format!("{what} (the file does not exist)"));
                }
                return Ok(Step::Refused);
            }
            Material::Broken(reason) => {
                self.tried.push(format!("{what} ({reason})"));
                return Ok(Step::Refused);
            }
            Material::Public(_) => {
                self.tried
                    .push(format!("{what} (only its public half is there, and the agent does not have the other)"));
                return Ok(Step::Refused);
            }
            Material::Locked(public) => {
                let public = public.clone();
                // Nobody is asked for the passphrase of a key that the server would not take.
                if file.passphrase.is_none()
                    && let Some(public) = &public
                {
                    let hash = self.hash(public).await?;
                    let mut taken = Taken(false);
                    let user = self.target.user.clone();
                    let attempt = self.handle.authenticate_publickey_with(user, public.clone(), hash, &mut taken);
                    match self.shared.within(ATTEMPT, attempt).await {
                        Some(Ok(result)) => {
                            offered.push(public.clone());
                            return self.step(result, &what).await;
                        }
                        Some(Err(_)) if taken.0 => {}
                        Some(Err(error)) => return Err(self.target.broken(error.to_string())),
                        None => return Err(self.silent()),
                    }
                }
                match self.unlock(file).await? {
                    Some(key) => key,
                    None => {
                        self.tried.push(format!("{what} (it needs a passphrase)"));
                        return Ok(Step::Refused);
                    }
                }
            }
        };
        offered.push(key.public_key().clone());
        let hash = self.hash(key.public_key()).await?;
        let key = PrivateKeyWithHashAlg::new(key, hash);
        let attempt = self.handle.authenticate_publickey(self.target.user.clone(), key);
        let result = match self.shared.within(ATTEMPT, attempt).await {
            Some(result) => result.map_err(|e| self.target.broken(e.to_string()))?,
            None => return Err(self.silent()),
        };
        self.step(result, &what).await
    }

    /// Reads a key file.
    fn read(&self, file: &KeyFile) -> Material {
        let text = match std::fs::read_to_string(&file.path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Material::Missing,
            Err(e) => return Material::Broken(e.to_string()),
        };
        if let Ok(public) = PublicKey::from_openssh(text.trim()) {
            return Material::Public(public);
        }
        let mode = std::fs::metadata(&file.path).map(|m| m.permissions().mode() & 0o777).unwrap_or(0);
        if mode & 0o077 != 0 {
            self.options.warn(format!(
                "the key {} has the mode {mode:04o}: others can read it; `chmod 600` it, or ssh will not use it",
                file.path.display()
            ));
        }
        if let Ok(key) = PrivateKey::from_openssh(&text) {
            return if key.is_encrypted() {
                Material::Locked(Some(key.public_key().clone()))
            } else {
                Material::Open(Arc::new(key))
            };
        }
        match decode_secret_key(&text, None) {
            Ok(key) => Material::Open(Arc::new(key)),
            Err(_) if text.contains("ENCRYPTED") => Material::Locked(public_beside(&file.path)),
            Err(e) => Material::Broken(format!("it cannot be read as a private key: {e}")),
        }
    }

    /// Decrypts a key, with the passphrase of project.yaml or one that is asked for; once for all servers.
    async fn unlock(&self, file: &KeyFile) -> Result<Option<Arc<PrivateKey>>, HostError> {
        let mut keys = self.shared.thinking(self.options.keys.lock()).await;
        if let Some(key) = keys.get(&file.path) {
            return Ok(Some(key.clone()));
        }
        let path = file.path.display();
        let unreadable = |e: std::io::Error| self.target.refused(format!("the key {path} cannot be read: {e}"));
        let text = std::fs::read_to_string(&file.path).map_err(unreadable)?;
        let mut question = format!("{}: passphrase of the key {path}", self.target.node);
        for _ in 0..MOST_ASKED {
            let passphrase = match &file.passphrase {
                Some(given) => given.clone(),
                None => match self.shared.ask(self.options, Question::Hidden(question.clone())).await {
                    Some(answer) => answer,
                    None => return Ok(None),
                },
            };
            match self.shared.thinking(decrypt(text.clone(), passphrase)).await {
                Some(key) => {
                    keys.insert(file.path.clone(), key.clone());
                    return Ok(Some(key));
                }
                None if file.passphrase.is_some() => {
                    return Err(self.target.refused(format!("the passphrase of the key {path} is wrong")));
                }
                None => question = format!("{}: that was wrong; passphrase of the key {path}", self.target.node),
            }
        }
        Ok(None)
    }

    /// The agent and the keys it has; `None` where there is no agent or none that answers.
    async fn agent(&mut self) -> Option<(AgentClient<UnixStream>, Vec<AgentIdentity>)> {
        let socket = self.target.agent.as_ref()?;
        let list = async {
            let mut client = AgentClient::connect_uds(socket).await?;
            let identities = client.request_identities().await?;
            Ok::<_, russh::keys::Error>((client, identities))
        };
        let reason = match tokio::time::timeout(AGENT, list).await {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        self.tried.push(format!("the agent at {} ({reason})", socket.display()));
        None
    }

    /// The hash to sign with: RSA keys only, the best one the server takes.
    async fn hash(&mut self, key: &PublicKey) -> Result<Option<HashAlg>, HostError> {
        if !key.algorithm().is_rsa() {
            return Ok(None);
        }
        if let Some(hash) = self.rsa {
            return Ok(hash);
        }
        let best = self.handle.best_supported_rsa_hash().await.map_err(|e| self.target.broken(e.to_string()))?;
        // A server that does not say what it takes is a recent one more often than one that knows SHA-1 only.
        let hash = best.unwrap_or(Some(HashAlg::Sha512));
        self.rsa = Some(hash);
        Ok(hash)
    }

    /// Tries passwords; true: we are in.
    async fn with_password(&mut self) -> Result<bool, HostError> {
        if self.allowed.is_none() && self.target.password.is_none() {
            // No key was tried: what does the server take at all?
            let attempt = self.handle.authenticate_none(self.target.user.clone());
            let result = self.shared.within(ATTEMPT, attempt).await.ok_or_else(|| self.silent())?;
            let result = result.map_err(|e| self.target.broken(e.to_string()))?;
            if matches!(self.note(result).await?, Step::In) {
                return Ok(true);
            }
        }
        let who = format!("{}@{}", self.target.user, self.target.host);
        let asks = if self.target.password.is_some() { 1 } else { MOST_ASKED };
        for _ in 0..asks {
            let by_password = self.takes(MethodKind::Password);
            if !by_password && !self.takes(MethodKind::KeyboardInteractive) {
                return Ok(false);
            }
            if by_password {
                let password = match self.target.password.clone() {
                    Some(password) => password,
                    None => {
                        let question = Question::Hidden(format!("{}: password of {who}", self.target.node));
                        let turn = self.options.keys.clone();
                        let _turn = self.shared.thinking(turn.lock()).await;
                        match self.shared.ask(self.options, question).await {
                            Some(answer) => answer,
                            None => return Ok(false),
                        }
                    }
                };
                let attempt = self.handle.authenticate_password(self.target.user.clone(), password.expose());
                let result = self.shared.within(ATTEMPT, attempt).await.ok_or_else(|| self.silent())?;
                let result = result.map_err(|e| self.target.broken(e.to_string()))?;
                match self.step(result, "the password").await? {
                    Step::In => return Ok(true),
                    // The same words would be wrong by the other method too, and count against the account.
                    Step::Refused if self.takes(MethodKind::Password) => continue,
                    // Or passwords are not taken at all, which the server says only now.
                    Step::Refused | Step::More => {}
                }
            }
            if self.takes(MethodKind::KeyboardInteractive) && self.interactively().await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Answers the server's own questions; true: we are in.
    async fn interactively(&mut self) -> Result<bool, HostError> {
        let broken = |e: russh::Error| self.target.broken(e.to_string());
        let start = self.handle.authenticate_keyboard_interactive_start(self.target.user.clone(), None);
        let mut reply = self.shared.within(ATTEMPT, start).await.ok_or_else(|| self.silent())?.map_err(broken)?;
        let mut password = self.target.password.clone();
        for _ in 0..MOST_ROUNDS {
            let prompts = match reply {
                KeyboardInteractiveAuthResponse::Success => return Ok(true),
                KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                    let result = AuthResult::Failure { remaining_methods, partial_success };
                    return Ok(matches!(self.step(result, "the answers to its questions").await?, Step::In));
                }
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
            };
            let mut answers = Vec::with_capacity(prompts.len());
            for prompt in &prompts {
                let text = format!("{}: {}", self.target.node, prompt.prompt.trim());
                // The password of project.yaml answers the first hidden question, a person everything else.
                let answer = match password.take_if(|_| !prompt.echo) {
                    Some(password) => Some(password),
                    None => {
                        let question = if prompt.echo { Question::Visible(text) } else { Question::Hidden(text) };
                        let turn = self.options.keys.clone();
                        let _turn = self.shared.thinking(turn.lock()).await;
                        self.shared.ask(self.options, question).await
                    }
                };
                answers.push(answer.map(|a| a.expose().to_owned()).unwrap_or_default());
            }
            let respond = self.handle.authenticate_keyboard_interactive_respond(answers);
            reply = self.shared.within(ATTEMPT, respond).await.ok_or_else(|| self.silent())?.map_err(broken)?;
        }
        self.tried.push("the answers to its questions (it asks without end)".into());
        Ok(false)
    }

    /// Notes how an attempt with `what` ended.
    async fn step(&mut self, result: AuthResult, what: &str) -> Result<Step, HostError> {
        let step = self.note(result).await?;
        match step {
            Step::In => {}
            Step::Refused => self.tried.push(format!("{what} (refused)")),
            Step::More => self.tried.push(format!("{what} (accepted, but it wants more)")),
        }
        Ok(step)
    }

    async fn note(&mut self, result: AuthResult) -> Result<Step, HostError> {
        let AuthResult::Failure { remaining_methods, partial_success } = result else { return Ok(Step::In) };
        // Sent after the reply, if at all: a closed connection looks like a refusal of everything.
        if remaining_methods.is_empty() && (self.shared.is_lost() || self.handle.is_closed()) {
            let reason = self.shared.loss().await;
            if self.tried.len() > 1 || reason.to_lowercase().contains("authentication") {
                return Err(self.target.refused(format!(
                    "{} after we tried {}; name the right key (`ssh.key`, or `IdentityFile` with `IdentitiesOnly yes`)",
                    reason,
                    list(&self.tried)
                )));
            }
            return Err(self.target.broken(reason));
        }
        self.allowed = Some(remaining_methods.iter().copied().collect());
        Ok(if partial_success { Step::More } else { Step::Refused })
    }

    /// Whether the server takes a method, as far as is known.
    fn takes(&self, method: MethodKind) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.contains(&method))
    }

    fn silent(&self) -> HostError {
        self.target.broken(format!("the server did not answer a login within {} s", ATTEMPT.as_secs()))
    }

    fn refused(&self) -> HostError {
        let who = format!("{}@{}", self.target.user, self.target.address());
        let tried = if self.tried.is_empty() {
            "there is no key, no agent and no password to try".to_owned()
        } else {
            format!("tried {}", list(&self.tried))
        };
        let takes: Vec<&str> = self.allowed.iter().flatten().map(<&str>::from).collect();
        let takes = if takes.is_empty() { String::new() } else { format!("; the server takes {}", takes.join(", ")) };
        self.target.refused(format!("{who}: {tried}{takes}"))
    }
}

impl Material {
    fn public(&self) -> Option<&PublicKey> {
        match self {
            Self::Open(key) => Some(key.public_key()),
            Self::Locked(public) => public.as_ref(),
            Self::Public(public) => Some(public),
            Self::Missing | Self::Broken(_) => None,
        }
    }
}

fn list(tried: &[String]) -> String {
    if tried.is_empty() { "nothing".into() } else { tried.join(", ") }
}

/// The public half that lies beside a key file.
fn public_beside(path: &Path) -> Option<PublicKey> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    PublicKey::from_openssh(std::fs::read_to_string(beside).ok()?.trim()).ok()
}

/// `None`: the passphrase is wrong. Slow on purpose, so not on the threads that serve connections.
async fn decrypt(text: String, passphrase: Secret) -> Option<Arc<PrivateKey>> {
    let work = move || decode_secret_key(&text, Some(passphrase.expose())).ok().map(Arc::new);
    tokio::task::spawn_blocking(work).await.ok().flatten()
}

/// Signs nothing, and notes that the server would have taken the key.
struct Taken(bool);

/// Why [`Taken`] does not sign.
#[derive(Debug, thiserror::Error)]
#[error("nothing is signed yet")]
struct NotSigned;

impl From<russh::SendError> for NotSigned {
    fn from(_: russh::SendError) -> Self {
        Self
    }
}

impl russh::Signer for Taken {
    type Error = NotSigned;

    async fn auth_sign(
        &mut self,
        _key: &AgentIdentity,
        _hash: Option<HashAlg>,
        _data: Vec<u8>,
    ) -> Result<Vec<u8>, NotSigned> {
        self.0 = true;
        Err(NotSigned)
    }
}
