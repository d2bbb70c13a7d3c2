//! Initialised data directories. Initialising takes seconds, copying an initialised one a tenth of a second, so
//! each binary's fresh directory is cached and copied, holes left as holes.
//!
//! A cached directory is never opened by a server: it is made aside, by one process at a time, moved into place whole,
//! and only read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use converge_mysql::Flavor;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::arguments;
use super::discover::ServerBinary;
use super::process::Watchdog;
use crate::error::Error;

/// Part of the cached directory's name: raise it when what initialising does changes.
const RECIPE: u32 = 1;
/// How the name of a directory begins in which a cached one is being made.
const ASIDE: &str = ".new-";
/// Who has the file of this name, beside the cached directories, locked may make one.
const LOCK: &str = ".lock";
/// How long another process may take to make one.
const MAKE_TIMEOUT: Duration = Duration::from_secs(120);
/// The age at which a directory in which one was being made belongs to nobody: making one takes seconds.
const STALE: Duration = Duration::from_secs(600);
/// What a fresh server must know: the account that the harness logs in with over TCP.
const ACCOUNT: &str = "\
CREATE USER IF NOT EXISTS 'root'@'127.0.0.1' IDENTIFIED BY '';
GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;
";

/// Makes `data` an initialised data directory for `binary`, by way of the cache where there is one.
pub fn populate(binary: &ServerBinary, data: &Path) -> Result<(), Error> {
    match cached(binary) {
        Some(template) if template.is_dir() || make(binary, &template)? => instantiate(&template, data),
        _ => initialise(binary, data, None),
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

/// Makes the cached directory, unless somebody else does so meanwhile: then that is waited for. Whether it is there; not
/// where there can be no lock, or another process does not let go of it.
fn make(binary: &ServerBinary, template: &Path) -> Result<bool, Error> {
    let parent = template.parent().unwrap_or(template);
    if let Err(e) = std::fs::create_dir_all(parent) {
        tracing::info!(
            "no data directories are kept in {}: {e}; XDG_CACHE_HOME names another place",
            parent.display()
        );
        return Ok(false);
    }
    let Some(_lock) = locked(&parent.join(LOCK), MAKE_TIMEOUT) else { return Ok(template.is_dir()) };
    if template.is_dir() {
        return Ok(true);
    }
    remove_stale(parent, STALE);
    let aside = tempfile::Builder::new()
        .prefix(ASIDE)
        .tempdir_in(parent)
        .map_err(Error::io("making a directory in", parent))?;
    let watchdog = Watchdog::start(aside.path())?;
    let data = aside.path().join("data");
    initialise(binary, &data, Some(&watchdog))?;
    std::fs::rename(&data, template).map_err(Error::io("moving a data directory to", template))?;
    Ok(true)
}

/// Locks a file against other processes, and against other tasks of this one, until the answer is dropped. Nothing if that
/// is not to be had in time, or not on this file system.
fn locked(path: &Path, bound: Duration) -> Option<Flock<File>> {
    let mut file = File::options().create(true).append(true).open(path).ok()?;
    let give_up = Instant::now() + bound;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < give_up => file = back,
            Err(_) => return None,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Removes what was being made when a machine, or a former version of this program, ended.
fn remove_stale(parent: &Path, age: Duration) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let old = || entry.metadata().ok()?.modified().ok()?.elapsed().ok().map(|gone| gone >= age);
        if entry.file_name().as_encoded_bytes().starts_with(ASIDE.as_bytes()) && old() == Some(true) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// `watchdog`: whose care the initialising process is in; it outlives this process by seconds otherwise.
fn initialise(binary: &ServerBinary, data: &Path, watchdog: Option<&Watchdog>) -> Result<(), Error> {
    let temporary = arguments::temporary(data);
    for directory in [data, &temporary] {
        std::fs::create_dir_all(directory).map_err(Error::io("making", directory))?;
    }
    let (command, input) = match binary.info.flavor {
        Flavor::MySql => (initialising_mysql(binary, data)?, String::new()),
        Flavor::MariaDb => initialising_mariadb(binary, data)?,
    };
    run(command, &binary.path, &input, watchdog)?;
    // Holds the server's UUID, which every server needs its own of; it is made anew at the next start.
    match std::fs::remove_file(data.join("auto.cnf")) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing auto.cnf in", data)(e)),
        _ => Ok(()),
    }
}

fn initialising_mysql(binary: &ServerBinary, data: &Path) -> Result<Command, Error> {
    let account = arguments::temporary(data).join("account.sql");
    std::fs::write(&account, ACCOUNT).map_err(Error::io("writing", &account))?;
    let mut command = Command::new(&binary.path);
    command
        .args(arguments::common(binary, data))
        .args(["--initialize-insecure", "--mysqlx=OFF", "--secure-file-priv=NULL"])
        .arg(arguments::joined("--init-file=", &account));
    Ok(command)
}

/// What `mariadb-install-db` does, without the many programs that it needs besides the server.
fn initialising_mariadb(binary: &ServerBinary, data: &Path) -> Result<(Command, String), Error> {
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
    Ok((command, sql))
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
fn run(mut command: Command, program: &Path, input: &str, watchdog: Option<&Watchdog>) -> Result<(), Error> {
    let failed = |why: String| Error::Initialise { path: program.into(), why };
    let output = tempfile::NamedTempFile::new().map_err(|e| failed(e.to_string()))?;
    let reopen = || output.reopen().map_err(|e| failed(e.to_string()));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(reopen()?)
        .stderr(reopen()?)
        .process_group(0)
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(watchdog) = watchdog {
        watchdog.guard_process(child.id());
    }
    // A program that ends early does not read all of it: why it ended is in its output.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    if let Some(watchdog) = watchdog {
        watchdog.forget_process();
    }
    match (status.success(), written) {
        (true, Ok(())) => Ok(()),
        (true, Err(e)) => Err(failed(format!("it did not read its input: {e}{}", tail(output.path())))),
        (false, _) => Err(failed(format!("{status}{}", tail(output.path())))),
    }
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
    copy_each(from, to, &copy_file)
}

/// Copies a cached directory. Definitions, two thirds of its files, are the cached ones themselves where the file system
/// allows that: servers put new ones in their place and write into none.
fn instantiate(template: &Path, data: &Path) -> Result<(), Error> {
    copy_each(template, data, &|from, to| {
        let definition = from.extension().is_some_and(|extension| extension == "frm" || extension == "sdi");
        if definition && std::fs::hard_link(from, to).is_ok() { Ok(()) } else { copy_file(from, to) }
    })
}

fn copy_each(
    from: &Path,
    to: &Path,
    file: &impl Fn(&Path, &Path) -> std::io::Result<()>,
) -> Result<(), Error> {
    std::fs::create_dir(to).map_err(Error::io("making", to))?;
    for entry in std::fs::read_dir(from).map_err(Error::io("reading", from))? {
        let entry = entry.map_err(Error::io("reading", from))?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_each(&source, &copy, file)?;
        } else {
            file(&source, &copy).map_err(Error::io("copying", &source))?;
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
    use converge_mysql::{ServerInfo, Version};

    use super::*;

    /// The input is more than a pipe holds.
    #[test]
    fn a_program_that_ends_before_it_has_read_its_input_is_heard() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo 'no room for the tables' >&2; exit 3"]);
        let error = run(command, Path::new("/bin/sh"), &"x".repeat(1 << 20), None).unwrap_err().to_string();
        assert!(error.contains("no room for the tables") && error.contains("exit status: 3"), "{error}");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo 'all is well'"]);
        let error = run(command, Path::new("/bin/sh"), &"x".repeat(1 << 20), None).unwrap_err().to_string();
        assert!(error.contains("did not read its input"), "{error}");
    }

    #[test]
    fn where_nothing_can_be_kept_servers_do_without() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let info = ServerInfo { flavor: Flavor::MySql, version: Version(9, 7, 0) };
        let binary = ServerBinary { path: "/bin/true".into(), info };
        assert!(!make(&binary, &file.join("datadirs").join("mysql-9.7.0")).unwrap());
    }

    #[test]
    fn only_one_at_a_time_has_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(LOCK);
        let first = locked(&path, Duration::ZERO).unwrap();
        assert!(locked(&path, Duration::from_millis(50)).is_none());
        drop(first);
        assert!(locked(&path, Duration::ZERO).is_some());
        assert!(locked(&path.join("below a file"), Duration::ZERO).is_none());
    }

    #[test]
    fn what_was_being_made_goes_once_it_is_old_and_nothing_else_does() {
        let directory = tempfile::tempdir().unwrap();
        for name in [".new-old", ".new-young", "mysql-9.7.4"] {
            std::fs::create_dir_all(directory.path().join(name).join("data")).unwrap();
        }
        let long_ago = std::time::SystemTime::now() - STALE;
        for name in [".new-old", "mysql-9.7.4"] {
            File::open(directory.path().join(name)).unwrap().set_modified(long_ago).unwrap();
        }
        remove_stale(directory.path(), STALE);
        let mut left: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".new-young", "mysql-9.7.4"]);
    }

    #[test]
    fn definitions_are_shared_and_all_else_is_copied() {
        let directory = tempfile::tempdir().unwrap();
        let (template, data) = (directory.path().join("template"), directory.path().join("data"));
        std::fs::create_dir_all(template.join("mysql")).unwrap();
        for name in ["ibdata1", "mysql/user.frm", "mysql/user.MAD"] {
            std::fs::write(template.join(name), name).unwrap();
        }
        instantiate(&template, &data).unwrap();
        for (name, links) in [("ibdata1", 1), ("mysql/user.frm", 2), ("mysql/user.MAD", 1)] {
            assert_eq!(std::fs::read_to_string(data.join(name)).unwrap(), name);
            assert_eq!(std::fs::metadata(data.join(name)).unwrap().nlink(), links, "{name}");
        }
    }

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
