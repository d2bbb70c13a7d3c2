//! Which server binaries this machine has. A binary is what its `--version` says, not what it is called:
//! distributions ship `mysqld` as a link to `mariadbd`.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use converge_mysql::{Flavor, ServerInfo};

use crate::error::Error;

/// The environment variable that names server binaries, separated by commas.
pub const SERVERS_VARIABLE: &str = "CONVERGE_SERVERS";
/// Where distributions put servers outside an ordinary user's PATH.
const MORE_DIRECTORIES: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/usr/libexec"];
const NAMES: [&str; 2] = ["mysqld", "mariadbd"];
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);

/// A server binary on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerBinary {
    /// Its path, links resolved.
    pub path: PathBuf,
    /// What it says that it is.
    pub info: ServerInfo,
}

impl ServerBinary {
    /// Runs `path --version`.
    pub fn probe(path: &Path) -> Result<Self, Error> {
        let bad = |why: String| Error::BadServerBinary { path: path.into(), why };
        let canonical = path.canonicalize().map_err(|e| bad(e.to_string()))?;
        let text = version_text(&canonical).map_err(|e| bad(e.to_string()))?;
        let info = ServerInfo::parse(&text).map_err(|e| bad(e.to_string()))?;
        Ok(Self { path: canonical, info })
    }

    /// `mysql` or `mariadb`, as commands take it.
    pub fn kind(&self) -> &'static str {
        match self.info.flavor {
            Flavor::MySql => "mysql",
            Flavor::MariaDb => "mariadb",
        }
    }
}

impl fmt::Display for ServerBinary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.info, self.path.display())
    }
}

/// The server binaries of this machine, each once: those that `CONVERGE_SERVERS` names, else those on PATH.
///
/// An entry of `CONVERGE_SERVERS` that is not a usable server is an error; an unusable one on PATH is passed over.
pub fn discover() -> Result<Vec<ServerBinary>, Error> {
    match std::env::var(SERVERS_VARIABLE) {
        Ok(list) if !list.trim().is_empty() => named(&list),
        _ => Ok(on_path(&std::env::var_os("PATH").unwrap_or_default())),
    }
}

/// The binary that `wanted` names: `mysql` or `mariadb` (the first such that [`discover`] finds), or a path.
pub fn select(wanted: &str) -> Result<ServerBinary, Error> {
    if wanted.contains('/') {
        return ServerBinary::probe(Path::new(wanted));
    }
    pick(discover()?, wanted)
}

fn pick(found: Vec<ServerBinary>, wanted: &str) -> Result<ServerBinary, Error> {
    let names = found.iter().map(ToString::to_string).collect();
    found
        .into_iter()
        .find(|b| b.kind().eq_ignore_ascii_case(wanted))
        .ok_or_else(|| Error::NoServerBinary { wanted: wanted.into(), found: names })
}

fn named(list: &str) -> Result<Vec<ServerBinary>, Error> {
    let mut binaries = Vec::new();
    for entry in list.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        add(&mut binaries, ServerBinary::probe(Path::new(entry))?);
    }
    Ok(binaries)
}

fn on_path(path: &std::ffi::OsStr) -> Vec<ServerBinary> {
    let directories = std::env::split_paths(path).chain(MORE_DIRECTORIES.iter().map(PathBuf::from));
    let mut binaries = Vec::new();
    for candidate in directories.flat_map(|d| NAMES.map(|name| d.join(name))).filter(|c| c.is_file()) {
        match ServerBinary::probe(&candidate) {
            Ok(binary) => add(&mut binaries, binary),
            Err(e) => tracing::warn!("passed over: {e}"),
        }
    }
    binaries
}

fn add(binaries: &mut Vec<ServerBinary>, binary: ServerBinary) {
    if !binaries.contains(&binary) {
        binaries.push(binary);
    }
}

fn version_text(path: &Path) -> std::io::Result<String> {
    let mut child = Command::new(path)
        .args(["--no-defaults", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let give_up = Instant::now() + VERSION_TIMEOUT;
    // The line fits a pipe's buffer, so that waiting before reading cannot block the child.
    while child.try_wait()?.is_none() {
        if Instant::now() >= give_up {
            child.kill()?;
            child.wait()?;
            return Err(std::io::Error::other("--version gave no answer"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut text = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut text)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn fake(directory: &Path, name: &str, says: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_link_called_mysqld_is_what_it_says_and_counts_once() {
        let directory = tempfile::tempdir().unwrap();
        let maria = fake(directory.path(), "mariadbd", "mariadbd  Ver 10.11.14-MariaDB-0+deb12u2 for Linux");
        symlink(&maria, directory.path().join("mysqld")).unwrap();
        let found = on_path(directory.path().as_os_str());
        let here: Vec<_> = found.iter().filter(|b| b.path == maria.canonicalize().unwrap()).collect();
        assert_eq!(here.len(), 1);
        assert_eq!(here[0].kind(), "mariadb");
    }

    #[test]
    fn a_bad_entry_in_the_list_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let good = fake(directory.path(), "a", "/usr/sbin/mysqld  Ver 8.4.2 for Linux on x86_64");
        let list = format!("{},{}", good.display(), directory.path().join("absent").display());
        let error = named(&list).unwrap_err().to_string();
        assert!(error.contains("absent"), "{error}");
        let noise = fake(directory.path(), "noise", "hello");
        let error = named(&noise.display().to_string()).unwrap_err().to_string();
        assert!(error.contains("noise"), "{error}");
        assert_eq!(named(&format!(" {0} ,{0},", good.display())).unwrap().len(), 1);
    }

    #[test]
    fn a_kind_that_is_not_there_is_named_with_what_is() {
        let directory = tempfile::tempdir().unwrap();
        let mysql = fake(directory.path(), "m", "m  Ver 9.7.4 for Linux on x86_64");
        let found = named(&mysql.display().to_string()).unwrap();
        assert_eq!(pick(found.clone(), "MySQL").unwrap().kind(), "mysql");
        let error = pick(found, "mariadb").unwrap_err().to_string();
        assert!(error.contains("no mariadb server") && error.contains("MySQL 9.7.4"), "{error}");
    }
}
