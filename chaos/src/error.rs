//! What can go wrong while servers are run, load is sent and faults are injected.

use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;

/// An error of the chaos crate.
#[derive(Debug, Error, Diagnostic)]
pub enum Error {
    /// A server answered a statement or a connection attempt with an error, or not at all.
    #[error("{error}")]
    Database {
        /// What the connection said.
        error: converge_mysql::Error,
        /// What the operator can do about it.
        #[help]
        help: Option<String>,
    },

    /// No server binary fits what was asked for.
    #[error("no {wanted} server binary found{}", listed(.found))]
    #[diagnostic(help(
        "install one (Debian, Ubuntu: apt-get install mariadb-server; MySQL from its vendor where the distribution has none), or \
         name binaries: CONVERGE_SERVERS=/path/mysqld,/path/mariadbd"
    ))]
    NoServerBinary {
        /// What was asked for: `mysql`, `mariadb`, or empty for any.
        wanted: String,
        /// The binaries that were found instead.
        found: Vec<String>,
    },

    /// A path that was given as a server binary is not one.
    #[error("{} is not a usable server binary: {why}", .path.display())]
    #[diagnostic(help(
        "give the path of a mysqld (8.0 or later) or mariadbd (10.6 or later) that runs on this machine"
    ))]
    BadServerBinary {
        /// The path as given.
        path: PathBuf,
        /// What it did instead of telling its version.
        why: String,
    },

    /// A server cannot be given a disk of its own.
    #[error("this machine cannot mount a small file system for a server of its own: {why}")]
    #[diagnostic(help(
        "the fault disk_full needs one: run as root where a tmpfs may be mounted (in a container: CAP_SYS_ADMIN), or leave it out"
    ))]
    NoDisk {
        /// What `mount` said.
        why: String,
    },

    /// A data directory could not be initialised.
    #[error("cannot initialise a data directory with {}: {why}", .path.display())]
    #[diagnostic(help("check that the temporary directory is writable and has 300 MB free"))]
    Initialise {
        /// The program that failed.
        path: PathBuf,
        /// The end of what it said.
        why: String,
    },

    /// A server did not come up.
    #[error("{server} did not start: {why}")]
    #[diagnostic(help("the end of its error log is shown above; run with --keep to look at its directory"))]
    Start {
        /// Product, version and port.
        server: String,
        /// Why, with the end of the error log.
        why: String,
    },

    /// The Docker engine did not do what it was told.
    #[cfg(feature = "docker")]
    #[error("Docker: {what}: {why}")]
    #[diagnostic(help(
        "`docker info` tells whether an engine runs and this account may use it, `docker images` whether the image is there; \
         without Docker, leave --docker and --image out"
    ))]
    Docker {
        /// What was attempted.
        what: String,
        /// The engine's words.
        why: String,
    },

    /// Something was asked of a server that is not in the state for it.
    #[error("{server} is {state}")]
    ServerState {
        /// Product, version and port.
        server: String,
        /// `running` or `not running`.
        state: &'static str,
    },

    /// A process outlived its bound.
    #[error("{what} did not end within {} s", .after.as_secs_f64())]
    StillRunning {
        /// Which process.
        what: String,
        /// The bound that passed.
        after: Duration,
    },

    /// The history is not complete: a part of what happened could not be written.
    #[error("the history {path} is incomplete: {why}")]
    #[diagnostic(help("check free space and permissions; a run without its whole history proves nothing"))]
    HistoryIncomplete {
        /// The file.
        path: String,
        /// Why a write failed.
        why: String,
    },

    /// A history file has a line that is not an entry.
    #[error("{path}:{line}: not a history entry: {why}")]
    HistoryLine {
        /// The file.
        path: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },

    /// The proxy did not do what it was told.
    #[error("proxy at {api}: {what}: {why}")]
    #[diagnostic(help("check that a Toxiproxy-compatible server answers at that address"))]
    Proxy {
        /// The address of its HTTP API.
        api: String,
        /// What was attempted.
        what: String,
        /// What it answered, or what it is like instead.
        why: String,
    },

    /// A proxy or its API cannot listen where it was told to.
    #[error("cannot listen on {listen}: {source}")]
    #[diagnostic(help(
        "give an address of this machine and a port that is free, such as 127.0.0.1:3307; port 0 stands for any"
    ))]
    Listen {
        /// The address as given.
        listen: String,
        /// The system's words.
        source: std::io::Error,
    },

    /// The load would write into a table that it did not make.
    #[error("there is a table {table} in this database that is not the load's own")]
    #[diagnostic(help(
        "the load makes a table of that name, and changes and deletes rows at random: give it a database of its own, and a \
         schema without such a table"
    ))]
    ForeignTable {
        /// Its name.
        table: String,
    },

    /// A file of statements cannot be used to make tables.
    #[error("{file}:{line}: {why}: {statement}")]
    Script {
        /// The file.
        file: String,
        /// The line in which the statement begins, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
        /// The statement, shortened.
        statement: String,
        /// What to do.
        #[help]
        help: String,
    },

    /// A file of statements that makes no table, where tables are needed.
    #[error("{file} makes no table")]
    NoTables {
        /// The file.
        file: String,
        /// What to do.
        #[help]
        help: &'static str,
    },

    /// A database that belongs to the server itself, or to a mover.
    #[error("{database} is not a database for load: it holds the tables that {owner} works with")]
    #[diagnostic(help("the load changes and deletes rows at random: name a database of its own in the URL"))]
    NotForLoad {
        /// Its name.
        database: String,
        /// Whose it is.
        owner: &'static str,
    },

    /// The server does not take so many connections.
    #[error(
        "{sessions} sessions do not fit on the server: {setting} is {most}, and {taken} of them are in use"
    )]
    #[diagnostic(help("raise it (SET GLOBAL {setting} = {}), or ask for fewer sessions", .taken + u64::from(*.sessions) + 10))]
    TooManySessions {
        /// How many were asked for.
        sessions: u32,
        /// The server's setting.
        setting: &'static str,
        /// Its value.
        most: u64,
        /// Connections that are there already.
        taken: u64,
    },

    /// This process may not open so many files.
    #[error("{sessions} sessions need {needed} open files, and this process may have {most}")]
    #[diagnostic(help("run `ulimit -n {needed}` first, or ask for fewer sessions"))]
    TooFewFiles {
        /// How many sessions were asked for.
        sessions: u32,
        /// Files that are needed.
        needed: u64,
        /// The limit.
        most: u64,
    },

    /// There is no table that load could be sent to.
    #[error("no table in {address} can be loaded{}", listed_notes(.notes))]
    #[diagnostic(help(
        "name a database with tables in the URL, or a file that makes some: --schema FILE.sql"
    ))]
    NothingToLoad {
        /// Where was looked.
        address: String,
        /// Why tables were left out.
        notes: Vec<String>,
    },

    /// A fault had no effect that could be seen.
    #[error("fault {fault} did not bite: {why}")]
    FaultDidNotBite {
        /// Its name.
        fault: String,
        /// What was seen instead.
        why: String,
    },

    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

impl From<converge_mysql::Error> for Error {
    fn from(error: converge_mysql::Error) -> Self {
        let help = error.help().map(|help| help.to_string());
        Self::Database { error, help }
    }
}

impl Error {
    /// For `map_err`: says what was attempted on which path.
    pub(crate) fn io<'a>(what: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Io { what: format!("{what} {}", path.display()), source }
    }
}

fn listed_notes(notes: &[String]) -> String {
    if notes.is_empty() { ": there is none".into() } else { format!(": {}", notes.join("; ")) }
}

fn listed(found: &[String]) -> String {
    if found.is_empty() { String::new() } else { format!(" (found only: {})", found.join(", ")) }
}
