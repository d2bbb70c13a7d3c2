//! The servers' command lines: durable, row-based full-image binlog with GTIDs, quick to start, loopback only.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use converge_mysql::{Flavor, Version};

use super::{ServerBinary, ServerOptions};

/// Arguments for a server that is to run on `data`.
pub fn running(
    binary: &ServerBinary,
    options: &ServerOptions,
    data: &Path,
    log: &Path,
    port: u16,
) -> Vec<OsString> {
    let mut list = common(binary, data);
    list.push(joined("--log-error=", log));
    let texts = [
        format!("--port={port}"),
        "--bind-address=127.0.0.1".into(),
        // Relative to the data directory: absolute paths soon exceed a socket's 107 bytes.
        "--socket=server.sock".into(),
        "--pid-file=server.pid".into(),
    ];
    list.extend(texts.map(OsString::from));
    list.extend(anywhere(options, port).into_iter().map(OsString::from));
    if binary.info.flavor == Flavor::MySql {
        // Its default is a directory that need not be there.
        list.push("--secure-file-priv=NULL".into());
        list.extend(MYSQL.map(OsString::from));
    }
    list.extend(options.extra.iter().map(OsString::from));
    list
}

/// Arguments for a server in a container that is published as `port`. It may be of any kind, and its image decides on
/// all paths.
#[cfg(feature = "docker")]
pub fn in_container(options: &ServerOptions, port: u16) -> Vec<String> {
    let mut list = anywhere(options, port);
    list.extend(["--innodb-buffer-pool-size=128M", "--performance-schema=OFF"].map(String::from));
    // What the other family does not know it only warns of.
    list.extend(MYSQL.map(|option| option.replacen("--", "--loose-", 1)));
    list.extend(options.extra.iter().cloned());
    list
}

/// What goes for a server wherever it runs.
fn anywhere(options: &ServerOptions, port: u16) -> Vec<String> {
    let [sync, flush] = if options.durable { [1, 1] } else { [0, 2] };
    vec![
        // Ports are unique among this machine's servers, so they serve as server ids.
        format!("--server-id={port}"),
        "--log-bin=binlog".into(),
        "--binlog-format=ROW".into(),
        "--binlog-row-image=FULL".into(),
        format!("--sync-binlog={sync}"),
        format!("--innodb-flush-log-at-trx-commit={flush}"),
        "--innodb-lock-wait-timeout=5".into(),
        "--max-connections=2000".into(),
        "--skip-name-resolve".into(),
        "--character-set-server=utf8mb4".into(),
    ]
}

/// The server's own directory for temporary tables, beside its data.
pub fn temporary(data: &Path) -> PathBuf {
    data.with_file_name("tmp")
}

/// What initialising and running have in common.
pub fn common(binary: &ServerBinary, data: &Path) -> Vec<OsString> {
    let mut list: Vec<OsString> = vec!["--no-defaults".into(), joined("--datadir=", data)];
    // A MariaDB that starts removes what it takes for its own old temporary tables, also another server's live ones.
    list.push(joined("--tmpdir=", &temporary(data)));
    if runs_as_root(data) {
        list.push("--user=root".into());
    }
    list.extend(["--innodb-buffer-pool-size=128M", "--performance-schema=OFF"].map(OsString::from));
    let redo = match &binary.info {
        info if info.is_mysql_since(Version(8, 0, 30)) => "--innodb-redo-log-capacity=64M",
        info if info.flavor == Flavor::MySql => "--innodb-log-file-size=32M",
        _ => "--innodb-log-file-size=64M",
    };
    list.push(redo.into());
    if binary.info.flavor == Flavor::MySql {
        // It does not start where other programs use up what the system has of it; MariaDB goes on without.
        list.push("--innodb-use-native-aio=OFF".into());
    }
    list
}

/// What MySQL alone knows.
const MYSQL: [&str; 3] = ["--mysqlx=OFF", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"];

/// Servers refuse to run as root unless told so. The directory was made by this process, so its owner tells.
pub fn runs_as_root(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(directory).is_ok_and(|m| m.uid() == 0)
}

/// An option with a path, which need not be UTF-8.
pub fn joined(option: &str, path: &Path) -> OsString {
    let mut text = OsString::from(option);
    text.push(path);
    text
}
