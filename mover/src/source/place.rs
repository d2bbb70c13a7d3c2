//! Where a reader of the log stands: file, offset, and the transaction that is being read. Nothing here reads rows,
//! and a position is handed out at a transaction's end and nowhere else: not at a savepoint, not at `XA START`.
//!
//! **Offsets.** An event's header carries the lower 32 bits of the offset at which the event ends. A file grows past
//! 4 GiB when one large transaction is written to it (it is changed only between transactions), so that the upper bits
//! must be counted here: no event is as long as 4 GiB, and so an offset that seems to go back has passed the limit once.
//! Zero says nothing: MariaDB writes it into all events of a transaction but the first and the last (from 11.4 on), both
//! products into what they make up for the reader, MySQL into the events inside of a compressed transaction. An event
//! that ends exactly at the limit has zero as well; then the offset stays behind by that one event and is right again
//! with the next one. A heartbeat's offset is the sender's, and counts for nothing.
//!
//! **Resuming past 4 GiB.** A request by file and offset has 32 bits for the offset too. From a place that it cannot
//! name, the file is read from its beginning, and what ends at or before the place is passed over. With GTIDs offsets
//! are for messages only.

use std::collections::BTreeMap;

use converge_mysql::{FilePosition, Position};

use super::event::{Unreadable, kind};
use crate::change::{Advance, StreamEvent};
use crate::error::Error;
use crate::planted;

/// Where the first event of a log file stands.
const FIRST: u64 = 4;
/// Set on events that a server made up for the reader; they are in no file.
const ARTIFICIAL: u16 = 0x20;

/// The offset to ask for in order to go on at `offset`.
pub fn requested(offset: u64) -> u64 {
    if u32::try_from(offset).is_ok() { offset } else { FIRST }
}

/// File, offset and transaction.
pub struct Place {
    by_gtid: bool,
    /// Where it began: all that is known before the server names a file.
    began: Position,
    at: FilePosition,
    /// The offset up to which this file was applied before, while it is read again.
    applied: Option<u64>,
    /// The last number of each server in each of MariaDB's domains.
    numbers: BTreeMap<(u32, u32), u64>,
    transaction: Transaction,
}

/// The transaction that is being read.
#[derive(Default)]
struct Transaction {
    /// Its GTID, in the form that the position has.
    advance: Option<Advance>,
    /// Whether statements belong to it until a commit, or the first one is all of it.
    open: bool,
    /// Row changes of moved tables that were passed on.
    changes: u64,
}

impl Place {
    /// A reader that begins at `position`.
    pub fn new(position: &Position) -> Self {
        let (by_gtid, mut at) = match position {
            Position::File(at) => (false, at.clone()),
            _ => (true, FilePosition { file: String::new(), offset: FIRST }),
        };
        let asked = requested(at.offset);
        let applied = (asked != at.offset).then_some(at.offset);
        at.offset = asked;
        let numbers = match position {
            Position::MariaDbGtid(at) => at.numbers().collect(),
            _ => BTreeMap::new(),
        };
        Self { by_gtid, began: position.clone(), at, applied, numbers, transaction: Transaction::default() }
    }

    /// Takes an event's header into account; whether the event is still to be applied.
    pub fn event(&mut self, kind: u8, flags: u16, log_pos: u32) -> bool {
        let tells = !matches!(kind, kind::FORMAT_DESCRIPTION | kind::HEARTBEAT | kind::HEARTBEAT_V2);
        if tells && flags & ARTIFICIAL == 0 {
            self.at.offset = unwrapped(self.at.offset, log_pos);
            if kind == kind::ROTATE {
                planted::rotated();
            }
        }
        if self.applied.is_some_and(|end| self.at.offset <= end) {
            return kind == kind::ROTATE;
        }
        self.applied = None;
        true
    }

    /// Another file follows. The server names the one that it begins with in the same way, by an event of its making.
    pub fn rotate(&mut self, file: String, offset: u64) {
        if file != self.at.file {
            self.applied = None;
        }
        self.at = FilePosition { file, offset };
    }

    /// A transaction begins.
    pub fn begin(&mut self, advance: Option<Advance>) -> Result<(), Unreadable> {
        if self.transaction.open {
            return Err(Unreadable::event("a transaction begins before the last one ended"));
        }
        match advance {
            Some(Advance::MariaDb { domain, server, number }) if self.by_gtid => {
                self.number((domain, server), number)?;
            }
            _ => {}
        }
        self.transaction = Transaction { advance, ..Transaction::default() };
        Ok(())
    }

    /// A server's numbers that go back, as sessions make them with `gtid_seq_no` where nothing forbids it, name two places of
    /// the log alike: a workflow that resumed there would begin at the first of them. Those of two servers may meet, where
    /// one that replicates from the other is written to.
    fn number(&mut self, (domain, server): (u32, u32), number: u64) -> Result<(), Unreadable> {
        match self.numbers.insert((domain, server), number) {
            Some(before) if before >= number => Err(Unreadable::Never(Error::spoiled(
                format!(
                    "in the GTID domain {domain} server {server}'s transaction number {number} follows number {before}: where the workflow \
                     stands could not be told from an earlier place"
                ),
                "SET GLOBAL gtid_strict_mode = ON on the source; cancel the workflow, empty its tables on the target, and begin \
                 again under another name",
            ))),
            _ => Ok(()),
        }
    }

    /// What follows belongs to the transaction until a commit.
    pub fn open(&mut self) {
        self.transaction.open = true;
    }

    /// Whether statements are part of a transaction.
    pub fn is_open(&self) -> bool {
        self.transaction.open
    }

    /// A change of a moved table was passed on.
    pub fn changed(&mut self) {
        self.transaction.changes += 1;
    }

    /// Whether the transaction changed moved tables so far.
    pub fn has_changes(&self) -> bool {
        self.transaction.changes > 0
    }

    /// The transaction ends: how it moves the position on. `None` for what has no GTID among those that have.
    pub fn commit(&mut self, timestamp: u32) -> Option<StreamEvent> {
        let transaction = std::mem::take(&mut self.transaction);
        let advance = match transaction.advance {
            Some(advance) if self.by_gtid => advance,
            None if self.by_gtid => return None,
            _ => Advance::File { file: self.at.file.clone(), offset: self.at.offset },
        };
        Some(StreamEvent::Commit { advance, timestamp })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.at.file.is_empty() { self.began.fmt(f) } else { self.at.fmt(f) }
    }
}

/// The whole offset behind its lower 32 bits, given the one before.
fn unwrapped(before: u64, low: u32) -> u64 {
    if low == 0 {
        return before;
    }
    let candidate = before & !0xffff_ffff | u64::from(low);
    if candidate < before { candidate + (1 << 32) } else { candidate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_without_a_file_is_told_by_what_was_asked_for() {
        let mut place = Place::new(&"mariadb-gtid:0-1-7".parse().unwrap());
        assert_eq!(place.to_string(), "mariadb-gtid:0-1-7");
        place.rotate("log.2".into(), 4);
        assert_eq!(place.to_string(), "log.2:4");
    }

    #[test]
    fn numbers_of_a_server_only_grow() {
        let mut place = Place::new(&"mariadb-gtid:0-1-7,3-1-90".parse().unwrap());
        for (domain, server, number, taken) in [
            (0, 1, 8, true),
            (3, 1, 91, true),
            (0, 2, 8, true),
            (4, 1, 1, true),
            (0, 1, 9, true),
            (4, 1, 1, false),
            (3, 1, 5, false),
            (0, 2, 7, false),
            (0, 1, 12, true),
        ] {
            let begun = place.begin(Some(Advance::MariaDb { domain, server, number }));
            assert_eq!(begun.is_ok(), taken, "{domain}-{server}-{number}");
        }
    }

    const GIB: u64 = 1 << 30;

    fn file(offset: u64) -> Position {
        Position::File(FilePosition { file: "binlog.000001".into(), offset })
    }

    fn offset(event: Option<StreamEvent>) -> u64 {
        match event {
            Some(StreamEvent::Commit { advance: Advance::File { offset, .. }, .. }) => offset,
            other => panic!("no commit by file: {other:?}"),
        }
    }

    #[test]
    fn offsets_go_on_past_four_gibibytes() {
        let mut place = Place::new(&file(4));
        for end in [GIB, 2 * GIB, 3 * GIB, 4 * GIB - 1, 4 * GIB + 99, 5 * GIB, 7 * GIB, 8 * GIB + 5] {
            assert!(place.event(30, 0, end as u32));
            assert_eq!(offset(place.commit(0)), end);
        }
    }

    #[test]
    fn an_event_that_ends_at_the_limit_delays_the_offset_by_itself_only() {
        let mut place = Place::new(&file(4 * GIB - 100));
        place.event(kind::TABLE_MAP, 0, (4 * GIB - 50) as u32);
        place.event(kind::XID, 0, (4 * GIB) as u32);
        // Resumed there, the reader meets the end of the transaction alone, which changes nothing.
        assert_eq!(offset(place.commit(0)), 4 * GIB - 50);
        place.event(kind::XID, 0, (4 * GIB + 80) as u32);
        assert_eq!(offset(place.commit(0)), 4 * GIB + 80);
    }

    #[test]
    fn what_has_no_offset_moves_none() {
        let mut place = Place::new(&file(900));
        for (kind, flags, log_pos) in [
            (kind::TABLE_MAP, 0, 0),
            (kind::FORMAT_DESCRIPTION, 0, 120),
            (kind::ROTATE, ARTIFICIAL, 4000),
            (kind::HEARTBEAT, 0, 800),
            (kind::HEARTBEAT_V2, 0, 0),
        ] {
            assert!(place.event(kind, flags, log_pos));
            assert_eq!(place.to_string(), "binlog.000001:900", "{kind}");
        }
    }

    /// MariaDB from 11.4 on: the GTID and the commit have an offset, what stands between them has zero.
    #[test]
    fn a_position_by_gtid_needs_no_offsets() {
        let mut place = Place::new(&"mariadb-gtid:0-1-7".parse().unwrap());
        let gtid = Advance::MariaDb { domain: 0, server: 1, number: 8 };
        for (kind, log_pos) in [(kind::MARIADB_GTID, 500), (kind::TABLE_MAP, 0), (23, 0), (kind::XID, 0)] {
            place.event(kind, 0, log_pos);
            if kind == kind::MARIADB_GTID {
                place.begin(Some(gtid.clone())).ok().unwrap();
                place.open();
            }
        }
        place.changed();
        assert_eq!(place.commit(3), Some(StreamEvent::Commit { advance: gtid, timestamp: 3 }));
        assert!(!place.is_open() && !place.has_changes());
        assert_eq!(place.commit(3), None, "nothing is promoted without a GTID");
    }

    #[test]
    fn a_place_that_no_request_can_name_is_come_to_from_the_files_beginning() {
        assert_eq!(requested(u64::from(u32::MAX)), 4 * GIB - 1);
        assert_eq!(requested(4 * GIB), 4);
        let mut place = Place::new(&file(4 * GIB + 300));
        assert!(place.event(kind::ROTATE, ARTIFICIAL, 0));
        place.rotate("binlog.000001".into(), 4);
        assert!(!place.event(kind::FORMAT_DESCRIPTION, 0, 126));
        for end in [200, 3 * GIB, 4 * GIB + 7, 4 * GIB + 300] {
            assert!(!place.event(kind::XID, 0, end as u32), "{end} was applied before");
        }
        assert!(place.event(kind::GTID, 0, (4 * GIB + 377) as u32));
        assert_eq!(offset(place.commit(0)), 4 * GIB + 377);
        assert!(place.event(kind::ROTATE, 0, (4 * GIB + 400) as u32));
        place.rotate("binlog.000002".into(), 4);
        assert!(place.event(kind::XID, 0, 300));
        assert_eq!(place.to_string(), "binlog.000002:300");
    }

    #[test]
    fn the_next_file_ends_the_passing_over() {
        let mut place = Place::new(&file(4 * GIB + 300));
        place.event(kind::XID, 0, 1000);
        assert!(place.event(kind::ROTATE, 0, (4 * GIB + 300) as u32));
        place.rotate("binlog.000002".into(), 4);
        assert!(place.event(kind::FORMAT_DESCRIPTION, 0, 126) && place.event(kind::XID, 0, 300));
    }

    #[test]
    fn a_transaction_inside_of_another_is_refused() {
        let mut place = Place::new(&file(4));
        place.begin(None).ok().unwrap();
        place.open();
        assert!(place.begin(None).is_err());
        place.commit(0);
        assert!(place.begin(None).is_ok());
    }
}
