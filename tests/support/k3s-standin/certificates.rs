//! The cluster's certificate authority and what it signs.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};

/// The certificate authority: what servers share with each other.
#[derive(Clone, Serialize, Deserialize)]
pub struct Authority {
    /// Its certificate, in PEM: the token holds its digest.
    pub certificate: String,
    key: String,
}

/// A certificate with its key, both in PEM.
pub struct Signed {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// What a certificate is for.
pub enum Purpose {
    /// A server that is reached by these names and addresses.
    Serving(Vec<String>),
    /// A client that belongs to a group.
    Client(&'static str),
}

fn authority_params() -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "k3s-server-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

impl Authority {
    /// Reads the one of an earlier start.
    pub fn load(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join("server-ca.crt");
        if !path.exists() {
            return Ok(None);
        }
        let certificate = std::fs::read_to_string(path)?;
        let key = std::fs::read_to_string(folder.join("server-ca.key"))?;
        Ok(Some(Self { certificate, key }))
    }

    /// Makes a new one.
    pub fn generate() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = authority_params()?.self_signed(&key)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Keeps it for the next start.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        crate::server::write_secret(&folder.join("server-ca.key"), self.key.as_bytes(), 0o600)?;
        crate::server::write_secret(&folder.join("server-ca.crt"), self.certificate.as_bytes(), 0o644)
    }

    /// Signs a certificate for a new key.
    pub fn sign(&self, name: &str, purpose: Purpose) -> anyhow::Result<Signed> {
        let issuer = Issuer::new(authority_params()?, KeyPair::from_pem(&self.key).context("the authority's key")?);
        let (names, usage, group) = match purpose {
            Purpose::Serving(names) => (names, ExtendedKeyUsagePurpose::ServerAuth, None),
            Purpose::Client(group) => (Vec::new(), ExtendedKeyUsagePurpose::ClientAuth, Some(group)),
        };
        // An address has to be written as one, whichever way it was spelt.
        let names = names.into_iter().map(|name| name.parse::<IpAddr>().map_or(name, |ip| ip.to_string()));
        let mut params = CertificateParams::new(names.collect::<Vec<_>>())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Signed { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}
