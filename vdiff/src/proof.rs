//! Proving a difference while rows are being written: where the target stands is known, by a workflow's checkpoint or
//! by native replication, so that a row that differs can be told from one that is only late.
//!
//! Few keys at a time are held still, for a second at the most:
//!
//! 1. On the source, a transaction in REPEATABLE READ reads the keys with shared locks. From then on no row of them can
//!    be changed or removed, and, as the gaps of missing keys are locked too, none can be added.
//! 2. While they are held, the source's position `b` is read, such that it covers every transaction whose row locks were
//!    released before ([`frontier`] says why each form does).
//! 3. The target is waited for until it has applied `b`. If that takes too long, the locks are released and nothing is
//!    said.
//! 4. The target's rows are read, in a snapshot no older than that.
//! 5. The source's rows are read again under the same locks: they must be what they were, and the transaction must
//!    still be there. A server that had taken the locks away would show it here.
//!
//! Why what differs then is different: let `t` be the moment when the last lock was granted. Each change of these keys
//! before `t` was made by a transaction that had released its exclusive locks by `t`. Servers release them in the
//! engine's commit, which comes after the binary log was written; so all of them lie at or before `b`, and the target
//! has applied them. After `t` there is no change of these keys until the locks are released, so nothing that the target
//! applies beyond `b` touches them either, in whatever order it applies. The target's rows therefore are the source's,
//! unless something else changed them. The applier need not be stopped for this, and writers of other keys go on.
//!
//! A replica may have got changes that are still to reach the source, or follow another server by now. So while the keys
//! are held it is asked whether it still replicates what it did, and whether it is ahead of the source: [`lead`].
//!
//! What follows a locking read is never a wait for a second lock: the locks of several keys are asked for with NOWAIT, so
//! that no writer can meet this transaction in a deadlock, and only a single key is ever waited for.
//!
//! Nothing here writes. Nothing here concludes from time: a wait that ends without the position is no proof.

mod channel;
mod frontier;
mod lead;
mod replica;
mod workflow;

use std::time::Duration;

use converge_mysql::Position;
use tokio::time::Instant;

use crate::error::Error;
use crate::request::{ProofSource, Request, Side, TablePair};
use crate::session::Session;
use replica::Replica;
use workflow::Workflow;

/// The longest that one wait for a position takes; longer ones are made of several.
const SLICE: Duration = Duration::from_millis(500);
/// The most characters of GTIDs that are told.
const TOLD: usize = 300;

/// Who knows how far the target is.
#[derive(Debug)]
pub enum Witness {
    /// A workflow of `converge move`, by its checkpoint in the target.
    Workflow(Workflow),
    /// The target's own replication.
    Replica(Replica),
}

impl Witness {
    /// Finds the witness that the request names, and refuses one that cannot speak of these two servers.
    pub async fn open(
        wanted: &ProofSource,
        source: &mut Session,
        target: &mut Session,
    ) -> Result<Option<Self>, Error> {
        Ok(match wanted {
            ProofSource::Stillness => None,
            ProofSource::Workflow(name) => Some(Self::Workflow(Workflow::open(name, source, target).await?)),
            ProofSource::Replica => Some(Self::Replica(Replica::open(source, target).await?)),
        })
    }

    /// The tables to compare, under the names that they have now: a workflow knows its tables' names on the target, and
    /// renames them on the source when it switches traffic.
    pub async fn tables(&self, wanted: &[TablePair], source: &mut Session) -> Result<Vec<TablePair>, Error> {
        match self {
            Self::Workflow(workflow) => workflow.tables(wanted, source).await,
            Self::Replica(_) => Ok(wanted.to_vec()),
        }
    }

    /// Whether the target still follows the source. If not, only stillness proves anything.
    pub fn follows(&self) -> bool {
        match self {
            Self::Workflow(workflow) => workflow.follows(),
            Self::Replica(_) => true,
        }
    }

    /// A position of the source that covers every transaction whose row locks were released before this was called.
    pub async fn frontier(&self, source: &mut Session) -> Result<Position, Error> {
        frontier::read(source, self.form()).await
    }

    fn form(&self) -> frontier::Form {
        match self {
            Self::Workflow(workflow) => workflow.form,
            Self::Replica(replica) => replica.form,
        }
    }

    /// Waits until the target has applied `position`, for `bound` at the most. If it has, a transaction with a snapshot
    /// that has it too is open on `target`, else none.
    pub async fn snapshot_at(
        &self,
        target: &mut Session,
        position: &Position,
        bound: Duration,
    ) -> Result<bool, Error> {
        match self {
            Self::Workflow(workflow) => workflow.snapshot_at(target, position, bound).await,
            Self::Replica(replica) => replica.snapshot_at(target, position, bound).await,
        }
    }

    /// Why a position that the target has applied proves nothing all the same: it may be ahead of the source, or follow
    /// another one by now. To be asked after the target's rows were read; waits for a source that is late, for `bound` at
    /// the most.
    pub async fn doubt(
        &self,
        source: &mut Session,
        target: &mut Session,
        bound: Duration,
    ) -> Result<Option<String>, Error> {
        match self {
            // It records whose log it reads, and nothing goes back from it.
            Self::Workflow(_) => Ok(None),
            Self::Replica(replica) => replica.doubt(source, target, bound).await,
        }
    }

    /// Waits, holding nothing, until the target has what the source has now, and the source what the target has. Says why
    /// if they do not come to that.
    pub async fn catch_up(
        &self,
        source: &mut Session,
        target: &mut Session,
        bound: Duration,
    ) -> Result<Option<String>, Error> {
        let give_up = Instant::now() + bound;
        let position = self.frontier(source).await?;
        while !self.snapshot_at(target, &position, SLICE).await? {
            if Instant::now() >= give_up || self.is_stopped(target).await? {
                let why = self.trouble(source, target).await?;
                return Ok(Some(format!("the target did not come to where the source is: {why}")));
            }
        }
        target.query("ending a snapshot", "ROLLBACK").await?;
        self.doubt(source, target, give_up.saturating_duration_since(Instant::now())).await
    }

    /// Whether nothing is applied until somebody makes it go on, so that there is nothing to wait for.
    pub async fn is_stopped(&self, target: &mut Session) -> Result<bool, Error> {
        match self {
            // Its runner may be started again at any time.
            Self::Workflow(_) => Ok(false),
            Self::Replica(replica) => replica.is_stopped(target).await,
        }
    }

    /// What the target has applied now, for reports.
    pub async fn applied(&self, target: &mut Session) -> Result<String, Error> {
        match self {
            Self::Workflow(workflow) => Ok(workflow.position(target).await?.to_string()),
            Self::Replica(replica) => replica.applied(target).await,
        }
    }

    /// Why the target does not come to where the source is, as far as it says.
    pub async fn trouble(&self, source: &mut Session, target: &mut Session) -> Result<String, Error> {
        match self {
            Self::Workflow(workflow) => workflow.trouble(target).await,
            Self::Replica(replica) => replica.trouble(source, target).await,
        }
    }

    /// What a reader of the report should know of it; `applied`: positions before and after.
    pub fn note(&self, applied: [&str; 2]) -> String {
        let name = match self {
            Self::Workflow(workflow) => format!("the workflow {}", workflow.name),
            Self::Replica(_) => "the target's replication".into(),
        };
        if !self.follows() {
            return format!(
                "{name} has switched traffic: the target is where applications write now, so that differences were proven \
                 only by both servers standing still"
            );
        }
        let [before, after] = applied;
        format!(
            "positions by {name}: the target had applied {before} when the comparison began, and {after} when it ended; \
             equal means that each row was the same on both sides when it was read in between, or when it was read again; \
             different, that it was not at the position named"
        )
    }
}

/// The witness of one comparison, and what it said when that began.
#[derive(Debug)]
pub struct Standing {
    /// Who knows where the target stands.
    pub witness: Witness,
    /// The tables to compare, under the names that they have now.
    pub tables: Vec<TablePair>,
    applied: String,
}

impl Standing {
    /// Finds the witness that the request names, if it names one.
    pub async fn open(request: &Request) -> Result<Option<Self>, Error> {
        if request.options.proof == ProofSource::Stillness {
            return Ok(None);
        }
        let mut ends = Ends::open(request).await?;
        let found = Self::find(&mut ends, request).await;
        ends.close().await;
        found
    }

    async fn find(ends: &mut Ends, request: &Request) -> Result<Option<Self>, Error> {
        let Ends { source, target } = ends;
        let Some(witness) = Witness::open(&request.options.proof, source, target).await? else {
            return Ok(None);
        };
        let tables = witness.tables(&request.tables, source).await?;
        let applied = witness.applied(target).await?;
        Ok(Some(Self { witness, tables, applied }))
    }

    /// Waits until the target has applied what the source had when this was called. Says why if it does not; at once if
    /// the target does not follow the source, for then nothing is late.
    pub async fn catch_up(&self, request: &Request) -> Result<Option<String>, Error> {
        if !self.witness.follows() {
            return Ok(None);
        }
        let mut ends = Ends::open(request).await?;
        let Ends { source, target } = &mut ends;
        let caught = self.witness.catch_up(source, target, request.options.confirm_within).await;
        ends.close().await;
        caught
    }

    /// What it means that a table of the source is gone in the middle.
    pub fn explained(&self, error: Error) -> Error {
        let is_gone = match &error {
            Error::MissingTable { side, .. } => *side == Side::Source,
            Error::Server { side: Side::Source, inner, .. } => {
                matches!(inner.server_code(), Some(1146 | 1412))
            }
            _ => false,
        };
        match &self.witness {
            Witness::Workflow(workflow) if is_gone && workflow.follows() => Error::Proof {
                what: format!(
                    "{error}: the workflow {} has switched traffic meanwhile, or tried to, which renames its tables there",
                    workflow.name
                ),
                help: "run the same command again: --workflow finds its tables under the names that they have then"
                    .into(),
            },
            _ => error,
        }
    }

    /// What a reader of the report should know of it, now that the comparison is done.
    pub async fn note(&self, request: &Request) -> Result<String, Error> {
        let mut ends = Ends::open(request).await?;
        let applied = self.witness.applied(&mut ends.target).await;
        let left = match &self.witness {
            Witness::Replica(replica) => replica.left(&mut ends.target).await,
            Witness::Workflow(_) => Ok(None),
        };
        ends.close().await;
        let note = self.witness.note([&self.applied, &applied?]);
        Ok([Some(note), left?].into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

/// Connections of their own to the only server of each side.
pub struct Ends {
    /// To the source.
    pub source: Session,
    /// To the target.
    pub target: Session,
}

impl Ends {
    /// Connects. Where a side has several servers, no position speaks of all of them.
    pub async fn open(request: &Request) -> Result<Self, Error> {
        let ([source], [target]) = (request.source.as_slice(), request.target.as_slice()) else {
            return Err(Error::Proof {
                what: "a workflow or a replica has one source and one target, and the request names more"
                    .into(),
                help: "compare each pair of servers by itself, or leave --workflow and --replica out".into(),
            });
        };
        let timeout = request.options.statement_timeout;
        let (source, target) = tokio::join!(
            Session::open(Side::Source, source, timeout),
            Session::open(Side::Target, target, timeout)
        );
        Ok(Self { source: source?, target: target? })
    }

    /// Ends the connections politely.
    pub async fn close(self) {
        tokio::join!(self.source.close(), self.target.close());
    }
}

/// GTIDs for a message, cut if they are many.
fn told(gtids: &str) -> String {
    let more = if gtids.chars().count() > TOLD { "…" } else { "" };
    let told: String = gtids.chars().filter(|c| *c != '\n').take(TOLD).collect();
    format!("{told}{more}")
}

/// A refused privilege, with the statement that gives it.
fn needs(error: Error, grant: &str, why: &str) -> Error {
    match error {
        Error::Server { side, address, inner: converge_mysql::Error::Denied { why: words, .. }, .. } => {
            Error::Proof {
                what: format!("on the {side}, {address}, the account may not {why}: {words}"),
                help: format!("{grant} to the account in the URL, or compare without this proof"),
            }
        }
        other => other,
    }
}
