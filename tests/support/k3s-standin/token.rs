//! Join tokens: `K10<sha256 of the authority's certificate>::<user>:<password>`, or the password alone.

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

/// A token, taken apart.
pub struct Token {
    /// The digest that the server's certificate authority must have.
    digest: Option<String>,
    /// The secret part.
    pub password: String,
}

impl Token {
    /// Takes a token apart.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let Some(rest) = text.strip_prefix("K10") else {
            return Ok(Self { digest: None, password: text.to_owned() });
        };
        let (digest, credentials) = rest.split_once("::").context("invalid token format")?;
        let (_, password) = credentials.split_once(':').context("invalid token format")?;
        if digest.len() != 64 {
            bail!("invalid token CA hash length");
        }
        Ok(Self { digest: Some(digest.to_owned()), password: password.to_owned() })
    }

    /// Compares the digest with an authority's certificate.
    pub fn verify(&self, authority: &str) -> anyhow::Result<()> {
        let actual = digest(authority);
        match &self.digest {
            Some(expected) if *expected != actual => {
                bail!("token CA hash does not match the Cluster CA certificate hash: {expected} != {actual}")
            }
            Some(_) => Ok(()),
            None => {
                crate::log::line(
                    "warning",
                    "Cluster CA certificate is not trusted by the host CA bundle, but the token does not include a CA \
                     hash. Use the full token from the server's node-token file to enable Cluster CA validation.",
                );
                Ok(())
            }
        }
    }
}

/// The whole token of a cluster.
pub fn full(authority: &str, password: &str) -> String {
    format!("K10{}::server:{password}", digest(authority))
}

fn digest(certificate: &str) -> String {
    hex(&Sha256::digest(certificate))
}

/// Random bytes in hexadecimal.
pub fn random(bytes: usize) -> String {
    hex(&(0..bytes).map(|_| rand::random::<u8>()).collect::<Vec<_>>())
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
