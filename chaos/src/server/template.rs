//! Initialised data directories. Initialising takes seconds, copying an initialised one a tenth of a second, so
//! each binary's fresh directory is cached and copied, holes left as holes.
//!
//! A cached directory is never opened by a server: it is made aside, moved into place whole, and only read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use converge_mysql::Flavor;

use super::arguments;
use super::discover::ServerBinary;
use crate::error::Error;

/// Part of the cached directory's name: raise it when what initialising does changes.
const RECIPE: u32 = 1;
/// What a fresh server must know: the account that the harness logs in with over TCP.
const ACCOUNT: &str = "\
CREATE USER IF NOT EXISTS 'root'@'127.0.0.1' IDENTIFIED BY '';
GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;
";

/// Makes `data` an initialised data directory for `binary`, by way of the cache where there is one.
pub fn populate(binary: &ServerBinary, data: &Path) -> Result<(), Error> {
    match cached(binary) {
        Some(template) => {
            if !template.is_dir() {
                make(binary, &template)?;
            }
            copy_directory(&template, data)
        }
        None => initialise(binary, data),
    }
}

/// Where the cached directory of a binary belongs; `None` where there is no place for caches.
fn cached(binary: &ServerBinary) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .filter(|cache| cache.is_absolute())?;
    let file = std::fs::metadata(&binary.path).ok()?;
    let name =
        format!("{}-{}-{:x}-{:x}-{RECIPE}", binary.kind(), binary.info.version, file.ino(), file.mtime());
    Some(cache.join("converge").join("datadirs").join(name))
}

fn make(binary: &ServerBinary, template: &Path) -> Result<(), Error> {
    let parent = template.parent().unwrap_or(template);
    std::fs::create_dir_all(parent).map_err(Error::io("making", parent))?;
    let aside = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(parent)
        .map_err(Error::io("making a directory in", parent))?;
    let data = aside.path().join("data");
    initialise(binary, &data)?;
    match std::fs::rename(&data, template) {
        // Another process was faster; its directory is as good.
        Err(_) if template.is_dir() => Ok(()),
        other => other.map_err(Error::io("moving a data directory to", template)),
    }
}

fn initialise(binary: &ServerBinary, data: &Path) -> Result<(), Error> {
    std::fs::create_dir(data).map_err(Error::io("making", data))?;
    match binary.info.flavor {
        Flavor::MySql => initialise_mysql(binary, data),
        Flavor::MariaDb => initialise_mariadb(binary, data),
    }?;
    // Holds the server's UUID, which every server needs its own of; it is made anew at the next start.
    match std::fs::remove_file(data.join("auto.cnf")) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing auto.cnf in", data)(e)),
        _ => Ok(()),
    }
}

fn initialise_mysql(binary: &ServerBinary, data: &Path) -> Result<(), Error> {
    let directory = data.parent().unwrap_or(data);
    let account = tempfile::NamedTempFile::new_in(directory).map_err(Error::io("writing in", directory))?;
    std::fs::write(account.path(), ACCOUNT).map_err(Error::io("writing", account.path()))?;
    let mut command = Command::new(&binary.path);
    command
        .args(arguments::common(binary, data))
        .args(["--initialize-insecure", "--mysqlx=OFF", "--secure-file-priv=NULL"])
        .arg(arguments::joined("--init-file=", account.path()));
    run(command, &binary.path, "")
}

/// What `mariadb-install-db` does, without the many programs that it needs besides the server.
fn initialise_mariadb(binary: &ServerBinary, data: &Path) -> Result<(), Error> {
    let mut sql =
        String::from("CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n");
    let scripts = system_scripts(&binary.path)?;
    for script in &scripts {
        sql += &std::fs::read_to_string(script).map_err(Error::io("reading", script))?;
        sql.push('\n');
    }
    // In bootstrap mode accounts can be made only after the privilege tables are loaded.
    sql = sql + "FLUSH PRIVILEGES;\n" + ACCOUNT;
    let mut command = Command::new(&binary.path);
    command.args(arguments::common(binary, data)).args(["--bootstrap", "--max-allowed-packet=8M"]);
    run(command, &binary.path, &sql)
}

/// The SQL scripts that make MariaDB's system tables, in order. They are in the distribution's or the tarball's
/// `share`, and called `mariadb_…` from 11 on.
fn system_scripts(server: &Path) -> Result<Vec<PathBuf>, Error> {
    const SCRIPTS: [&str; 4] =
        ["system_tables.sql", "performance_tables.sql", "system_tables_data.sql", "sys_schema.sql"];
    let base = server.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    let places = [base.join("share"), PathBuf::from("/usr/share"), PathBuf::from("/usr/local/share")];
    places
        .iter()
        .flat_map(|share| [share.join("mariadb"), share.join("mysql"), share.clone()])
        .flat_map(|place| {
            ["mariadb_", "mysql_"].map(|prefix| SCRIPTS.map(|s| place.join(format!("{prefix}{s}"))))
        })
        .find(|scripts| scripts.iter().all(|s| s.is_file()))
        .map(Vec::from)
        .ok_or_else(|| Error::Initialise {
            path: server.into(),
            why: format!(
                "its scripts (mysql_system_tables.sql and others) are not in {}",
                places[0].display()
            ),
        })
}

/// Runs an initialising command to its end with `input` on its standard input.
fn run(mut command: Command, program: &Path, input: &str) -> Result<(), Error> {
    let failed = |why: String| Error::Initialise { path: program.into(), why };
    let output = tempfile::NamedTempFile::new().map_err(|e| failed(e.to_string()))?;
    let reopen = || output.reopen().map_err(|e| failed(e.to_string()));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(reopen()?)
        .stderr(reopen()?)
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(|e| failed(e.to_string()))?;
    }
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(format!("{status}{}", tail(output.path())))) }
}

/// The last lines of a log, for an error message.
pub fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(8192)..]).into_owned();
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(8)..].iter().map(|line| format!("\n    {line}")).collect()
}

/// Copies a directory with all that is in it.
pub fn copy_directory(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::create_dir(to).map_err(Error::io("making", to))?;
    for entry in std::fs::read_dir(from).map_err(Error::io("reading", from))? {
        let entry = entry.map_err(Error::io("reading", from))?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_directory(&source, &copy)?;
        } else {
            copy_file(&source, &copy).map_err(Error::io("copying", &source))?;
        }
    }
    Ok(())
}

/// Copies a file, leaving blocks of zeros out. Holes read as zeros, so the copy has the same bytes.
fn copy_file(from: &Path, to: &Path) -> std::io::Result<()> {
    static ZEROS: [u8; 32 * 1024] = [0; 32 * 1024];
    let (mut source, mut copy) = (File::open(from)?, File::create_new(to)?);
    copy.set_permissions(source.metadata()?.permissions())?;
    let (mut block, mut length) = (ZEROS, 0);
    loop {
        let n = source.read(&mut block)?;
        if n == 0 {
            return copy.set_len(length);
        }
        if block[..n] == ZEROS[..n] {
            copy.seek(SeekFrom::Current(n as i64))?;
        } else {
            copy.write_all(&block[..n])?;
        }
        length += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_copy_has_the_same_bytes_and_fewer_blocks() {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = vec![0u8; 1_000_003];
        bytes[70_000] = 7;
        bytes[500_000] = 9;
        std::fs::write(directory.path().join("a"), &bytes).unwrap();
        copy_file(&directory.path().join("a"), &directory.path().join("b")).unwrap();
        assert_eq!(std::fs::read(directory.path().join("b")).unwrap(), bytes);
        let blocks = |name| std::fs::metadata(directory.path().join(name)).unwrap().blocks();
        assert!(blocks("b") < blocks("a"), "{} {}", blocks("b"), blocks("a"));
    }
}
