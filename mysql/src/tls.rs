//! How a connection is encrypted, and how much of the server's identity is checked: the modes of the `mysql` client.
//!
//! Nothing here is weaker than its name: where a mode cannot be had the connection is refused, and only `PREFERRED`
//! goes on without encryption.

use std::fmt;
use std::str::FromStr;

use mysql_async::{ClientIdentity, SslOpts};

/// As `--ssl-mode` of the `mysql` client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsMode {
    /// No encryption.
    #[default]
    Disabled,
    /// Encryption if the server offers it, whoever the server is.
    Preferred,
    /// Encryption, whoever the server is.
    Required,
    /// Encryption, and the server's certificate was issued by the given authority.
    VerifyCa,
    /// Also, the certificate names the host.
    VerifyIdentity,
}

const MODES: [(TlsMode, &str); 5] = [
    (TlsMode::Disabled, "DISABLED"),
    (TlsMode::Preferred, "PREFERRED"),
    (TlsMode::Required, "REQUIRED"),
    (TlsMode::VerifyCa, "VERIFY_CA"),
    (TlsMode::VerifyIdentity, "VERIFY_IDENTITY"),
];

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = MODES.iter().find(|(mode, _)| mode == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for TlsMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = MODES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)).map(|(mode, _)| *mode);
        known.ok_or_else(|| {
            let names = MODES.map(|(_, name)| name).join(", ");
            format!("unknown ssl-mode {text:?}: it is one of {names}")
        })
    }
}

/// A mode and the files it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// What is demanded.
    pub mode: TlsMode,
    /// File with the certificates of the authorities that are trusted (PEM).
    pub ca: Option<String>,
    /// File with this client's certificate (PEM).
    pub cert: Option<String>,
    /// File with this client's private key (PEM).
    pub key: Option<String>,
}

/// The driver skips the check of names only where the text of the complaint about them contains this word, which the
/// words of its TLS library no longer do, but for the name itself. It is checked after the chain of certificates, and
/// no other complaint quotes the name.
const ANY_NAME: &str = "NotValidForName";

impl Tls {
    /// Whether a server without encryption is refused.
    pub fn is_demanded(&self) -> bool {
        self.mode >= TlsMode::Required
    }

    /// What is missing for the mode.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.mode >= TlsMode::VerifyCa && self.ca.is_none() {
            return Err(format!("ssl-mode={} needs ssl-ca=FILE, the authority to trust", self.mode));
        }
        if self.cert.is_some() != self.key.is_some() {
            return Err("ssl-cert and ssl-key go together".into());
        }
        Ok(())
    }

    /// The driver's options, files read; `None` without encryption. The error names the file.
    pub(crate) fn driver_options(&self) -> Result<Option<SslOpts>, String> {
        if self.mode == TlsMode::Disabled {
            return Ok(None);
        }
        self.check()?;
        let mut options = SslOpts::default();
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            let (cert, key) = (read(cert, "CERTIFICATE")?, read(key, "PRIVATE KEY")?);
            options = options.with_client_identity(Some(ClientIdentity::new(cert.into(), key.into())));
        }
        if self.mode <= TlsMode::Required {
            options = options.with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true);
            return Ok(Some(options));
        }
        let ca = read(self.ca.as_deref().unwrap_or_default(), "CERTIFICATE")?;
        options = options.with_root_certs(vec![ca.into()]).with_disable_built_in_roots(true);
        if self.mode == TlsMode::VerifyCa {
            options = options
                .with_danger_skip_domain_validation(true)
                .with_danger_tls_hostname_override(Some(ANY_NAME));
        }
        Ok(Some(options))
    }
}

/// A PEM file that has at least one section of the kind.
fn read(path: &str, kind: &str) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("cannot read {path}: {e}"))?;
    let text = String::from_utf8_lossy(&bytes);
    let has = text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(kind));
    if has { Ok(bytes) } else { Err(format!("{path} holds no {} in PEM form", kind.to_lowercase())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_named_as_in_the_client() {
        for (mode, name) in MODES {
            assert_eq!((mode.to_string().as_str(), name.to_lowercase().parse()), (name, Ok(mode)));
        }
        assert!("VERIFY".parse::<TlsMode>().unwrap_err().contains("VERIFY_IDENTITY"));
    }

    #[test]
    fn what_a_mode_needs_is_asked_for() {
        let tls = Tls { mode: TlsMode::VerifyCa, ..Tls::default() };
        assert!(tls.driver_options().unwrap_err().contains("ssl-ca"));
        let tls = Tls { ca: Some("no/such.pem".into()), ..tls };
        assert!(tls.driver_options().unwrap_err().contains("no/such.pem"));
        let tls = Tls { mode: TlsMode::Required, cert: Some("a".into()), ..Tls::default() };
        assert!(tls.driver_options().unwrap_err().contains("ssl-key"));
        assert!(Tls::default().driver_options().unwrap().is_none());
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let tls = Tls { mode: TlsMode::VerifyCa, ca: Some(path), ..Tls::default() };
        assert!(tls.driver_options().unwrap_err().contains("no certificate"));
    }
}
