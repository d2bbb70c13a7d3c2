//! What stops a workflow, and what its operator can do about it.

use converge_mysql::Error as ServerError;
use miette::Diagnostic;
use thiserror::Error;

/// An error of the mover.
#[derive(Debug, Error, Diagnostic)]
pub enum Error {
    /// Something between the mover and a server.
    #[error("{side}: {error}")]
    Server {
        /// `source` or `target`.
        side: Side,
        /// What happened.
        #[diagnostic_source]
        error: ServerError,
    },

    /// A setting, a table or an option with which a move could not be right.
    #[error("refused: {what}")]
    #[diagnostic(help("{help}"))]
    Refused {
        /// What was found.
        what: String,
        /// What to do about it.
        help: String,
    },

    /// The workflow's command does not fit its state.
    #[error("workflow {workflow}: {what}")]
    #[diagnostic(help("{help}"))]
    Workflow {
        /// The workflow's name.
        workflow: String,
        /// What does not fit.
        what: String,
        /// What to do about it.
        help: String,
    },

    /// The source no longer has the binary log that the checkpoint needs.
    #[error("the source has purged binary logs after position {position}: {message}")]
    #[diagnostic(help(
        "changes are lost for this copy: cancel the workflow, empty the target tables, and start it again; \
         raise the source's binlog_expire_logs_seconds first"
    ))]
    BinlogPurged {
        /// The position that was asked for.
        position: String,
        /// The server's words.
        message: String,
    },

    /// The source's log ends before the checkpoint: another server, or one restored from a backup.
    #[error(
        "the source went back in time: it stands at {source_position}, but {applied} was already applied"
    )]
    #[diagnostic(help(
        "the source was restored from a backup or is a replica that lags: point --source at a server that has \
         these transactions, or cancel the workflow and start again from empty target tables"
    ))]
    SourceWentBack {
        /// What the source says.
        source_position: String,
        /// What the checkpoint says.
        applied: String,
    },

    /// A log file of the source ends inside of an event: MariaDB died while it wrote a transaction.
    #[error("a binary log of the source ends in the middle of an event, at or behind {position}: {message}")]
    #[diagnostic(help(
        "the source died while it logged a transaction, which is rolled back; MariaDB leaves the torn end in the file and \
         sends nothing behind it, to its replicas neither. All before it was applied: cancel the workflow, empty the \
         target tables, and start again"
    ))]
    TornLog {
        /// Up to where it was read.
        position: String,
        /// The server's words.
        message: String,
    },

    /// The source's log is not the one that the checkpoint speaks of.
    #[error("the source's binary logs are not those of this workflow any more: {what}")]
    #[diagnostic(help(
        "the source was restored from a backup, or its logs were reset (RESET BINARY LOGS AND GTIDS, RESET MASTER): \
         the checkpoint means nothing in the new logs. Cancel the workflow, empty the target tables, and start again; \
         or point --source at a server that kept the former history"
    ))]
    HistoryReplaced {
        /// What was found.
        what: String,
    },

    /// What the target lacks, or has too much, does not come right by going on. It is remembered, so that no later run goes
    /// on either.
    #[error("the workflow cannot go on: {what}")]
    #[diagnostic(help("{help}"))]
    Spoiled {
        /// What was found.
        what: String,
        /// What to do about it.
        help: String,
    },

    /// A row or statement that a server does not take.
    #[error("{side}: {what} needs a packet of {needed} bytes, max_allowed_packet there is {allowed}")]
    #[diagnostic(help(
        "SET GLOBAL max_allowed_packet = {needed} (rounded up to a multiple of 1024) on the {side}, and run the \
         workflow again: it resumes at its checkpoint"
    ))]
    PacketTooLarge {
        /// Which server.
        side: Side,
        /// What is too large.
        what: String,
        /// Bytes that it takes.
        needed: usize,
        /// Bytes that the server takes.
        allowed: usize,
    },

    /// A table or column that was there is not there any more.
    #[error("{side}: the definition of a table was changed: {error}")]
    #[diagnostic(help(
        "somebody dropped, renamed or altered a table of the workflow: make it again as it was and run the workflow \
         again; if rows were lost with it, cancel and start again"
    ))]
    Redefined {
        /// Which server.
        side: Side,
        /// The server's words.
        error: ServerError,
    },

    /// A row of the source that a CHECK of the target does not let in.
    #[error("{side}: a row of the source violates a CHECK: {error}")]
    #[diagnostic(help(
        "the source has rows that were written before that constraint, or without it: set them right there, or have the \
         target not enforce it until the switch (ALTER TABLE … ALTER CHECK … NOT ENFORCED; MariaDB: DROP CONSTRAINT), and \
         run the workflow again"
    ))]
    Unchecked {
        /// Which server.
        side: Side,
        /// The server's words.
        error: ServerError,
    },

    /// The definition of a moved table changed during the move.
    #[error("a statement changed a moved table at {position}: {statement}")]
    #[diagnostic(help(
        "apply the same change to the target's table, then run the workflow again with --skip-ddl to pass this \
         statement; or cancel and start again"
    ))]
    Ddl {
        /// Where in the source's log.
        position: String,
        /// The statement.
        statement: String,
    },

    /// A binary log event that the mover cannot read, or that breaks the log's own rules.
    #[error("the source's binary log at {position} cannot be followed: {why}")]
    #[diagnostic(help(
        "nothing after this position was applied; see the reason above, and report it if it is not a setting of the server"
    ))]
    Unreadable {
        /// Where in the source's log.
        position: String,
        /// What is wrong.
        why: String,
    },

    /// A change of a moved table that was logged in a form that does not tell all of it.
    #[error("a change at {position} was not logged in a form that can be followed: {why}")]
    #[diagnostic(help(
        "{fix}; what is in the log already stays as it is: cancel the workflow, empty the target tables, and start it \
         again"
    ))]
    LoggedTooLittle {
        /// Where in the source's log.
        position: String,
        /// What is missing.
        why: String,
        /// How it comes to be logged in full.
        fix: &'static str,
    },

    /// The target does not hold what it must hold at the applied position: somebody else wrote to it, or a
    /// change never reached the binary log.
    #[error("the target differs from the source at {position}: {evidence}")]
    #[diagnostic(help(
        "somebody else wrote to the target's table, or the source changed rows without logging them (foreign key \
         cascades, sql_log_bin=0): compare the tables with `converge vdiff`, remove the cause, cancel and start again"
    ))]
    Diverged {
        /// The position being applied.
        position: String,
        /// The statement and what it met.
        evidence: String,
    },

    /// Another process runs this workflow.
    #[error("workflow {workflow} is already run by another process ({holder})")]
    #[diagnostic(help("stop that process first; a killed one is let go by the server within a minute"))]
    AlreadyRunning {
        /// The workflow's name.
        workflow: String,
        /// What is known of the other process.
        holder: String,
    },

    /// The target still counts on a connection that this process has lost.
    #[error(
        "the target still holds workflow {workflow}'s lock for this runner's own lost connection {holder}"
    )]
    #[diagnostic(help(
        "nothing, if the target comes to itself (a full disk, a network that was cut); otherwise end that connection there: \
         KILL {holder}"
    ))]
    LockLingers {
        /// The workflow's name.
        workflow: String,
        /// The connection's number on the target.
        holder: u32,
    },

    /// A run ended in the middle of a switch, and the fence before the source's tables could not be taken away.
    #[error("{why}; writes may still be locked out of {tables} on the source")]
    #[diagnostic(help("{help}"))]
    StillFenced {
        /// Why the run ended, and why the fence stays.
        why: String,
        /// The fenced tables.
        tables: String,
        /// What to do about it.
        help: String,
    },

    /// No progress for as long as the operator allows.
    #[error("gave up after {seconds} s without progress: {last}")]
    #[diagnostic(help("bring the server back and run the workflow again: it resumes at its checkpoint"))]
    GaveUp {
        /// How long it was tried.
        seconds: u64,
        /// The last error.
        last: String,
    },
}

/// Which of the two servers an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Where rows come from.
    Source,
    /// Where rows go to.
    Target,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A refusal, with what to do about it.
    pub fn refused(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), help: help.into() }
    }

    /// The end of a workflow that cannot go on, with what to do about it.
    pub fn spoiled(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Spoiled { what: what.into(), help: help.into() }
    }

    /// What its operator can do, in words.
    pub fn advice(&self) -> String {
        let own = self.help().map(|help| help.to_string());
        let inner = || self.diagnostic_source().and_then(|inner| Some(inner.help()?.to_string()));
        own.or_else(inner)
            .unwrap_or_else(|| "see the server's words above, remove the cause, run again".into())
    }

    /// Whether rows were locked by others for too long, or both waited for each other.
    pub fn is_lock_conflict(&self) -> bool {
        matches!(self, Self::Server { error, .. } if matches!(error.server_code(), Some(1205 | 1213)))
    }

    /// Whether a new session may get further.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Server { error, .. } => error.is_transient(),
            Self::LockLingers { .. } => true,
            _ => false,
        }
    }
}

/// Says on which side a server error happened.
pub trait OnSide<T> {
    /// The error of the source.
    fn on_source(self) -> Result<T>;
    /// The error of the target.
    fn on_target(self) -> Result<T>;
    /// The error of either.
    fn on(self, side: Side) -> Result<T>;
}

impl<T> OnSide<T> for std::result::Result<T, ServerError> {
    fn on_source(self) -> Result<T> {
        self.on(Side::Source)
    }

    fn on_target(self) -> Result<T> {
        self.on(Side::Target)
    }

    fn on(self, side: Side) -> Result<T> {
        self.map_err(|error| match error.server_code() {
            Some(code) if REDEFINED.contains(&code) => Error::Redefined { side, error },
            Some(code) if VIOLATED_CHECK.contains(&code) => Error::Unchecked { side, error },
            _ => Error::Server { side, error },
        })
    }
}

/// Server errors that say that a table is not what it was: no such database, table or column, another number of
/// columns, a table that an engine has lost.
const REDEFINED: &[u16] = &[1049, 1051, 1054, 1072, 1136, 1146, 1364, 1932];

/// Server errors that say that a row violates a CHECK: of MySQL, and of MariaDB.
pub const VIOLATED_CHECK: &[u16] = &[3819, 4025];
