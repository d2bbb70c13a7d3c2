//! What keeps a rehearsal from being run: always something of the tools, never something of the move.

use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

/// What kept a rehearsal from being run.
#[derive(Debug, Error, Diagnostic)]
pub enum RehearsalError {
    /// A file or process of our own.
    #[error("{what} {}: {why}", .path.display())]
    #[diagnostic(help(
        "check space and permissions there, or choose another directory (rehearse: --report, campaign: --directory)"
    ))]
    Io {
        /// What was attempted.
        what: String,
        /// With which file.
        path: PathBuf,
        /// The system's words.
        why: std::io::Error,
    },
    /// Servers, load, proxy or history.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Chaos(#[from] converge_chaos::Error),
    /// A connection of the rehearsal's own.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Server(#[from] converge_mysql::Error),
    /// The mover cannot be started or asked.
    #[error("{0}")]
    #[diagnostic(help("look at mover.log in the report's directory"))]
    Mover(String),
    /// A fault that cannot be made over a connection.
    #[error("the fault {0} needs the server's host, and of an external server there is only a connection")]
    #[diagnostic(help(
        "leave it out of the scenario, or rehearse on private servers (without --source-url and --target-url)"
    ))]
    NeedsHost(&'static str),
    /// A fault that cannot be made on a container.
    #[error("the fault {0} needs servers that are processes of this machine, and these are in containers")]
    #[diagnostic(help("leave it out of the scenario, or rehearse without --docker and --image"))]
    NeedsLocal(&'static str),
    /// A fault that can be made on a container alone.
    #[error("the fault {0} needs servers in containers")]
    #[diagnostic(help(
        "give --docker or --image, or take network_down instead, which breaks the network between mover and server"
    ))]
    NeedsContainer(&'static str),
    /// A fault that takes something away from others.
    #[error("the fault {0} purges the binary logs of a server that is not the rehearsal's own")]
    #[diagnostic(help("leave it out, or give --i-know if nobody needs these logs"))]
    DestroysLogs(&'static str),
    /// A file that is not a run's would be overwritten.
    #[error("{} is there, and no run has left it: a report would overwrite it", .0.display())]
    #[diagnostic(help(
        "name another directory for the report (rehearse: --report, campaign: --directory), or move that file away"
    ))]
    NotARun(PathBuf),
    /// Databases that would be written to are there.
    #[error("there is already {there}")]
    InTheWay {
        /// Which, and on which servers.
        there: String,
        /// What to do, with the statements that clean up.
        #[help]
        help: String,
    },
    /// Source and target are the same.
    #[error("source and target are one server: {0}")]
    #[diagnostic(help("give two servers: tables keep their names and database"))]
    OneServer(String),
    /// Another rehearsal uses a server.
    #[error("another rehearsal is at work on {0}")]
    #[diagnostic(help(
        "wait for its end: rehearsals on your servers share the databases commerce and _converge there, and take turns"
    ))]
    Taken(String),
    /// Another process works in the directory.
    #[error("another run is at work in {}", .0.display())]
    #[diagnostic(help(
        "wait for its end, or name another directory (rehearse: --report, campaign: --directory)"
    ))]
    InUse(PathBuf),
    /// The tables that the scenario names cannot be moved, or none can.
    #[error("{0}")]
    #[diagnostic(help(
        "change `tables` in the scenario, or the schema; `converge move check` says how a table becomes one that can be moved"
    ))]
    NotMovable(String),
    /// The mover cannot say which tables it moves.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Preflight(#[from] converge_mover::error::Error),
    /// No network that could be broken.
    #[error("a server that is reached by the Unix socket {0} has no network to be broken")]
    #[diagnostic(help("give host and port"))]
    Socket(String),
    /// A server without a process of ours.
    #[error("{0} is not the rehearsal's own process")]
    NotOurs(String),
    /// The report cannot be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Report(#[from] crate::report::ReportError),
}

impl RehearsalError {
    /// `clearing`: for each server the statements that remove what is there.
    pub(super) fn in_the_way(there: &[String], clearing: &[String]) -> Self {
        let help = format!(
            "a rehearsal writes to them at random: use servers without, or give --i-know (databases that were there are not \
             dropped); if a killed rehearsal left them, and no other one and no `converge move` uses these servers: {}",
            clearing.join(" ")
        );
        Self::InTheWay { there: there.join(" and "), help }
    }

    pub(crate) fn io(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let (what, path) = (what.to_owned(), path.to_owned());
        move |why| Self::Io { what, path, why }
    }
}
