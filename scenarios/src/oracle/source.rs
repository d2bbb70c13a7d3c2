//! The oracle of the source: nobody but the load changed there what is moved. A source that a mover damages hands the
//! damage on to the target, which is equal to it afterwards: no comparison of both finds that.
//!
//! Servers log the text of each statement beside the rows that it changed, where they are asked to. The sessions of the
//! load ask, and the history has all that they sent: a transaction that has no statement of the history is somebody
//! else's. Texts hold across restarts and on a replica that logs what it got, where numbers of sessions do not.

mod judged;
mod log;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use converge_chaos::history::{self, Event};
use converge_chaos::load::{LOG_TEXTS, Program};
use converge_mysql::{Address, Connector, Error as ServerError};
use mysql_async::prelude::Queryable;
use tokio::sync::Mutex;

use self::judged::Judged;
use self::log::Scan;
use super::MOST_EVIDENCE;
use super::logs::{self, Mark, Since};
use crate::verdict::{Finding, Oracle};

/// The oracle's name.
pub const NAME: &str = "source";

/// The logs of all servers that are the source, or become it.
#[derive(Debug)]
pub struct Sources {
    logs: Mutex<Vec<Log>>,
    judged: Judged,
    history: PathBuf,
    /// Why the load's statements cannot be told from others, if they cannot.
    no_texts: Option<String>,
    /// Why a server is not watched, if one is not.
    unwatched: Option<String>,
}

/// The log of one server from a moment on, read bit by bit: what is purged afterwards has been seen.
#[derive(Debug)]
struct Log {
    server: Address,
    mark: Mark,
    scan: Scan,
    /// Why not all of it was read.
    trouble: Option<String>,
}

impl Sources {
    /// Begins to watch the servers, which hold the same and are not written to meanwhile. Nobody
    /// but the load may change those tables that are `moved`.
    pub async fn begin(servers: &[Address], moved: &[String], history: &Path) -> Self {
        let (mut logs, mut no_texts, mut unwatched) = (Vec::new(), None, None);
        for server in servers {
            match Log::begin(server).await {
                Ok(log) => logs.push(log),
                Err(e) => unwatched = Some(e.to_string()),
            }
            if let Err(e) = Connector::new(server.clone()).with_setup(LOG_TEXTS).connect().await {
                no_texts = Some(e.to_string());
            }
        }
        let database = servers.first().map_or_else(String::new, |server| server.database.clone());
        let judged = Judged::new(database, moved);
        Self { logs: Mutex::new(logs), judged, history: history.into(), no_texts, unwatched }
    }

    /// Whether the load may ask for the texts of its statements.
    pub fn texts(&self) -> bool {
        self.no_texts.is_none()
    }

    /// Reads what a server has logged since it was read last; it is about to lose some of that.
    pub async fn read(&self, server: &Address) {
        // What is not written down yet is looked for again at the end.
        let known = Texts::read(&self.history).0;
        let mut logs = self.logs.lock().await;
        if let Some(log) = logs.iter_mut().find(|log| log.server == *server) {
            log.read(&self.judged, &known).await;
        }
    }

    /// Judges the server that is the source now, once the history is complete.
    pub async fn judge(self, server: &Address) -> Oracle {
        let unknown = |why: String| Oracle::new(NAME, Finding::Unknown, why);
        if let Some(why) = &self.no_texts {
            return unknown(format!(
                "what the load wrote cannot be told from what others wrote ({why}); what to do: let the account of the \
                 source's URL set binlog_rows_query_log_events for its sessions (SESSION_VARIABLES_ADMIN; MariaDB: \
                 binlog_annotate_row_events, BINLOG ADMIN)"
            ));
        }
        let (known, trouble) = Texts::read(&self.history);
        if let Some(why) = trouble {
            return unknown(format!("the history cannot be read: {why}"));
        }
        let mut logs = self.logs.into_inner();
        let Some(log) = logs.iter_mut().find(|log| log.server == *server) else {
            let why = self.unwatched.map(|why| format!(": {why}")).unwrap_or_default();
            return unknown(format!("the log of {server} was not watched from the beginning{why}"));
        };
        log.read(&self.judged, &known).await;
        log.scan.forget(&known);
        let since = log.mark.look(server).await;
        let lack = match (&log.trouble, since) {
            (Some(why), _) => Some(format!("cannot be read: {why}")),
            (None, Err(e)) => Some(format!("cannot be read: {e}")),
            // What was purged had been read before, or reading on would have failed.
            (None, Ok(Since::Whole | Since::Cut)) => None,
            (None, Ok(since)) => since.lack().map(str::to_owned),
        };
        let programs = programs(server).await;
        verdict(&log.scan, lack.as_deref(), programs)
    }
}

impl Log {
    async fn begin(server: &Address) -> Result<Self, ServerError> {
        let at = logs::end(server).await?;
        let mark = Mark::set(server).await?;
        Ok(Self { server: server.clone(), mark, scan: Scan::from(at), trouble: None })
    }

    async fn read(&mut self, judged: &Judged, known: &Texts) {
        if let Err(e) = self.scan.read_on(&self.server, judged, known).await {
            self.trouble.get_or_insert(e.to_string());
        }
    }
}

/// `programs`: the database's triggers, routines and events, whose statements are logged instead of those that set them
/// off.
fn verdict(scan: &Scan, lack: Option<&str>, programs: Result<Vec<Program>, ServerError>) -> Oracle {
    let (programs, trouble) = match programs {
        Ok(programs) => (programs, None),
        Err(e) => (Vec::new(), Some(e.to_string())),
    };
    let explained = |text: &str| programs.iter().any(|program| program.has(text));
    let wrong: Vec<String> =
        scan.suspects().filter(|s| !s.text().is_some_and(explained)).map(|s| s.to_string()).collect();
    let torn = scan.torn.remark();
    let (finding, detail) = if scan.of_load == 0 {
        (Finding::Unknown, "the source's binary log shows no statement of the load".to_owned())
    } else if !wrong.is_empty() && programs.is_empty() && trouble.is_none() {
        (Finding::Fail, "the source's rows were changed, and not by the load".to_owned())
    } else if !wrong.is_empty() {
        let why = trouble.as_deref().unwrap_or("triggers are logged by their own statements");
        (Finding::Unknown, format!("the source's rows were changed, and it cannot be told by whom: {why}"))
    } else if let Some(why) = lack {
        (Finding::Unknown, format!("the source's binary log {why}"))
    } else if scan.untold > 0 {
        let why = "the source's binary log has changes without their statements, or statements without what they \
                   changed, and it cannot be told whose they are";
        (Finding::Unknown, why.to_owned())
    } else {
        (Finding::Pass, format!("all that changed rows on the source is the load's{torn}"))
    };
    Oracle::new(NAME, finding, detail).with_evidence(wrong.into_iter().take(MOST_EVIDENCE).collect())
}

async fn programs(server: &Address) -> Result<Vec<Program>, ServerError> {
    const WHAT: &str = "reading the source's triggers, routines and events";
    let mut conn = Connector::new(server.clone()).connect().await?;
    let query = "SELECT action_statement FROM information_schema.triggers WHERE trigger_schema = DATABASE() UNION ALL \
                 SELECT routine_definition FROM information_schema.routines WHERE routine_schema = DATABASE() UNION ALL \
                 SELECT event_definition FROM information_schema.events WHERE event_schema = DATABASE()";
    let bodies: Vec<Option<String>> = converge_mysql::within(logs::PATIENCE, WHAT, conn.query(query)).await?;
    converge_mysql::connect::close(conn).await;
    Ok(bodies.into_iter().flatten().map(Program::new).collect())
}

/// The statements that the load sent.
#[derive(Debug, Default)]
struct Texts(HashSet<u64>);

impl Texts {
    /// Those of a history, and why it could not be read to its end.
    fn read(history: &Path) -> (Self, Option<String>) {
        let (mut texts, mut trouble) = (Self::default(), None);
        match history::read(history) {
            Err(e) => trouble = Some(e.to_string()),
            Ok(entries) => entries.for_each(|entry| match entry.map(|entry| entry.event) {
                Ok(Event::Invoke(invoke)) => drop(texts.0.insert(digest(invoke.sql.as_bytes()))),
                Ok(_) => {}
                Err(e) => trouble = Some(e.to_string()),
            }),
        }
        (texts, trouble)
    }

    fn has(&self, digest: u64) -> bool {
        self.0.contains(&digest)
    }
}

/// What a statement is known by. Servers cut off what stands around it.
fn digest(text: &[u8]) -> u64 {
    let around = |byte: &u8| byte.is_ascii_whitespace() || *byte == b';' || *byte == 0;
    let from = text.iter().position(|byte| !around(byte)).unwrap_or(text.len());
    let to = text.iter().rposition(|byte| !around(byte)).map_or(from, |last| last + 1);
    let mut hasher = DefaultHasher::new();
    text[from..to].hash(&mut hasher);
    hasher.finish()
}
