//! What the source's binary log says, in the words of the move.

use converge_mysql::{MariaDbGtidPosition, MySqlGtidSet, Position};

use crate::value::{Row, row_weight};

/// One row change of a moved table. `table` is the table's index in the workflow.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A row that was not there.
    Insert {
        /// Which table.
        table: usize,
        /// The new row.
        after: Row,
    },
    /// A row that has other values now.
    Update {
        /// Which table.
        table: usize,
        /// The old row. Of a table with a key, only the key's values count; others may be NULL whatever they were.
        before: Row,
        /// The new row.
        after: Row,
    },
    /// A row that is gone.
    Delete {
        /// Which table.
        table: usize,
        /// The old row, as that of an update.
        before: Row,
    },
}

impl Change {
    /// The table's index in the workflow.
    pub fn table(&self) -> usize {
        match self {
            Self::Insert { table, .. } | Self::Update { table, .. } | Self::Delete { table, .. } => *table,
        }
    }

    /// The row before, if there was one.
    pub fn before(&self) -> Option<&Row> {
        match self {
            Self::Insert { .. } => None,
            Self::Update { before, .. } | Self::Delete { before, .. } => Some(before),
        }
    }

    /// The row after, if there is one.
    pub fn after(&self) -> Option<&Row> {
        match self {
            Self::Delete { .. } => None,
            Self::Insert { after, .. } | Self::Update { after, .. } => Some(after),
        }
    }

    /// Bytes of memory, roughly.
    pub fn weight(&self) -> usize {
        self.before().into_iter().chain(self.after()).map(|r| row_weight(r)).sum()
    }
}

/// How one committed source transaction moves the position on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advance {
    /// A MySQL GTID joins the set.
    Gtid {
        /// Server UUID.
        uuid: String,
        /// Tag, empty for none.
        tag: String,
        /// Transaction number.
        number: u64,
    },
    /// A MariaDB domain moves to a transaction.
    MariaDb {
        /// Replication domain.
        domain: u32,
        /// Server id.
        server: u32,
        /// Sequence number.
        number: u64,
    },
    /// The log was read up to here.
    File {
        /// Binary log file.
        file: String,
        /// Offset after the transaction.
        offset: u64,
    },
}

impl Advance {
    /// Moves `position` on. A position of another form is replaced.
    pub fn apply_to(&self, position: &mut Position) {
        match (self, position) {
            (Self::Gtid { uuid, tag, number }, Position::Gtid(set)) => set.add(uuid, tag, *number),
            (Self::MariaDb { domain, server, number }, Position::MariaDbGtid(at)) => {
                at.advance(*domain, *server, *number);
            }
            (Self::File { file, offset }, Position::File(at)) => {
                at.file.clone_from(file);
                at.offset = *offset;
            }
            (advance, position) => *position = advance.alone(),
        }
    }

    /// The position of this transaction and, but for a place in a file, no other.
    pub fn alone(&self) -> Position {
        match self {
            Self::Gtid { uuid, tag, number } => {
                let mut set = MySqlGtidSet::default();
                set.add(uuid, tag, *number);
                Position::Gtid(set)
            }
            Self::MariaDb { domain, server, number } => {
                let mut at = MariaDbGtidPosition::default();
                at.advance(*domain, *server, *number);
                Position::MariaDbGtid(at)
            }
            Self::File { file, offset } => {
                Position::File(converge_mysql::FilePosition { file: file.clone(), offset: *offset })
            }
        }
    }
}

/// A mark that the mover itself wrote to the source, to find a moment again in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// Before a chunk is read.
    Low(ChunkId),
    /// After a chunk was read.
    High(ChunkId),
    /// After the last chunk of this run was handed over.
    Copied(u64),
    /// After writes to the moved tables were fenced, with the switch's token.
    Fence(String),
}

/// One attempt to read one chunk, unique over all runs of a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId {
    /// The run that read it.
    pub run: u64,
    /// The table's index in the workflow.
    pub table: usize,
    /// Number of the chunk in that run.
    pub number: u64,
}

impl Mark {
    /// The text stored in the source's watermark table.
    pub fn to_text(&self) -> String {
        match self {
            Self::Low(id) => format!("low:{}:{}:{}", id.run, id.table, id.number),
            Self::High(id) => format!("high:{}:{}:{}", id.run, id.table, id.number),
            Self::Copied(run) => format!("copied:{run}"),
            Self::Fence(token) => format!("fence:{token}"),
        }
    }

    /// Reads the text back; `None` for anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        if kind == "fence" {
            return Some(Self::Fence(rest.to_owned()));
        }
        if kind == "copied" {
            return rest.parse().ok().map(Self::Copied);
        }
        let mut numbers = rest.split(':').map(str::parse::<u64>);
        let (Ok(run), Ok(table), Ok(number), None) =
            (numbers.next()?, numbers.next()?, numbers.next()?, numbers.next())
        else {
            return None;
        };
        let id = ChunkId { run, table: usize::try_from(table).ok()?, number };
        match kind {
            "low" => Some(Self::Low(id)),
            "high" => Some(Self::High(id)),
            _ => None,
        }
    }
}

/// What a change stream yields, in commit order.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// A row change of the transaction that is being read.
    Change(Change),
    /// A mark in the transaction that is being read.
    Mark(Mark),
    /// The transaction ended: all since the last one is committed.
    Commit {
        /// Where this leads.
        advance: Advance,
        /// The source's clock at the commit, seconds since 1970.
        timestamp: u32,
    },
    /// A statement that changes the definition of a moved table; a `Commit` follows it.
    Statement {
        /// Its text.
        text: String,
        /// Where in the log.
        position: String,
    },
    /// Nothing to read for the moment; the connection lives.
    Heartbeat,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_read_back() {
        let id = ChunkId { run: u64::MAX, table: 3, number: 9 };
        for mark in [Mark::Low(id), Mark::High(id), Mark::Copied(7), Mark::Fence("a:b".into())] {
            assert_eq!(Mark::from_text(&mark.to_text()), Some(mark));
        }
        assert_eq!(Mark::from_text("low:1:2"), None);
        assert_eq!(Mark::from_text("low:1:2:3:4"), None);
    }

    #[test]
    fn a_gtid_joins_the_set() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let mut position: Position = format!("gtid:{uuid}:1-4").parse().unwrap();
        Advance::Gtid { uuid: uuid.into(), tag: String::new(), number: 5 }.apply_to(&mut position);
        assert_eq!(position.to_string(), format!("gtid:{uuid}:1-5"));
    }
}
