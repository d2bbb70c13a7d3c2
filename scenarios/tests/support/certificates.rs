//! Certificates made for one test by the `openssl` command: authorities, and what they issued.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory of certificates; gone when this is.
pub struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    /// An empty directory.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// The path of a file in it.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The path as it stands in a URL.
    pub fn url(&self, file: &str) -> String {
        self.path(file).to_str().unwrap().replace(' ', "%20")
    }

    /// An authority: `NAME.pem` and `NAME.key`.
    pub fn authority(&self, name: &str) {
        let (key, pem, subject) = (format!("{name}.key"), format!("{name}.pem"), format!("/CN={name}"));
        let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject];
        self.openssl(&[&new[..], &["-keyout", &key, "-out", &pem]].concat());
    }

    /// A certificate by an authority: `NAME.pem` and `NAME.key`. `extension` as `subjectAltName=DNS:host`.
    pub fn issue(&self, authority: &str, name: &str, extension: &str) {
        let (key, request, pem) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let (ca, ca_key) = (format!("{authority}.pem"), format!("{authority}.key"));
        let subject = format!("/CN=somebody called {name}");
        let new = ["req", "-newkey", "rsa:2048", "-nodes", "-subj", &subject];
        self.openssl(&[&new[..], &["-keyout", &key, "-out", &request]].concat());
        std::fs::write(self.path("extension"), extension).unwrap();
        let sign = ["x509", "-req", "-days", "2", "-in", &request, "-CA", &ca, "-CAkey", &ca_key];
        self.openssl(&[&sign[..], &["-CAcreateserial", "-extfile", "extension", "-out", &pem]].concat());
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(self.folder.path());
        let output =
            command.output().expect("the openssl command, which makes the certificates of this test");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The arguments with which a server offers encryption.
    pub fn server(&self, authority: &str, name: &str) -> Vec<String> {
        let option = |option: &str, file: &str| format!("--{option}={}", self.path(file).display());
        vec![
            option("ssl-ca", &format!("{authority}.pem")),
            option("ssl-cert", &format!("{name}.pem")),
            option("ssl-key", &format!("{name}.key")),
        ]
    }
}

/// Writes an option file beside the certificates.
pub fn option_file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
