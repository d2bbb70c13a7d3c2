//! XA transactions whose preparation a reader saw. What one of them changed that was prepared before the move began is not in
//! the stream, and the copy did not see it. Servers are asked for such before a move begins, and may not say so: MariaDB logs a
//! preparation, and counts it in its position, before it lists it; an account may not be allowed to see the list.

use std::collections::HashSet;

use converge_mysql::{Position, quote};

use super::bytes::{Bytes, Truncated};
use crate::change::Advance;
use crate::error::Error;

/// Those prepared since the move began, and not ended.
#[derive(Debug)]
pub struct Prepared {
    names: HashSet<String>,
    /// What was committed up to here, the copy sees.
    seen: Position,
}

impl Prepared {
    /// None yet. Whatever is committed up to `seen`, the copy sees.
    pub fn since(seen: Position) -> Self {
        Self { names: HashSet::new(), seen }
    }

    /// Takes note of an event that prepares one: a byte, the format, the lengths of both parts of its name, and these.
    pub fn prepare(&mut self, event: &[u8]) -> Result<(), Truncated> {
        let mut bytes = Bytes::new(event);
        bytes.u8()?;
        let (format, global, branch) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
        let [global, branch] = [bytes.take(global as usize)?, bytes.take(branch as usize)?].map(quote::hex);
        self.names.insert(format!("{global},{branch},{format}"));
        Ok(())
    }

    /// Takes note of a statement that ends one. Whether it commits one that was not prepared here.
    pub fn end(&mut self, statement: &str) -> bool {
        let words: String = statement.to_lowercase().split_whitespace().collect();
        if let Some(name) = words.strip_prefix("xacommit") {
            return !self.names.remove(name);
        }
        if let Some(name) = words.strip_prefix("xarollback") {
            self.names.remove(name);
        }
        false
    }

    /// Whether the copy may not see what this transaction commits.
    pub fn is_unseen(&self, committed: &Advance) -> bool {
        self.seen.covers(&committed.alone()) != Some(true)
    }
}

/// The end of a workflow whose tables one may have changed unseen.
pub fn unseen(statement: &str, position: &str) -> Error {
    Error::spoiled(
        format!(
            "{statement} at {position} commits an XA transaction that was prepared before the move began: what it changed in \
             moved tables is not in the log from there on, and may be missing on the target"
        ),
        "cancel the workflow, empty its tables on the target, and begin again under another name while no XA transaction is \
         prepared; let the mover's account see them (MySQL: GRANT XA_RECOVER_ADMIN ON *.*)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Prepared {
        Prepared::since("mariadb-gtid:0-1-7".parse().unwrap())
    }

    #[test]
    fn what_is_committed_before_the_copy_begins_is_seen() {
        let at = |number| Advance::MariaDb { domain: 0, server: 2, number };
        assert!(!none().is_unseen(&at(7)) && none().is_unseen(&at(8)));
        assert!(none().is_unseen(&Advance::MariaDb { domain: 1, server: 1, number: 1 }));
    }

    fn event(format: u32, global: &[u8], branch: &[u8]) -> Vec<u8> {
        let lengths = [format, global.len() as u32, branch.len() as u32].map(u32::to_le_bytes).concat();
        [&[0][..], &lengths, global, branch].concat()
    }

    #[test]
    fn what_was_prepared_here_is_known_when_it_is_committed() {
        let mut prepared = none();
        prepared.prepare(&event(1, b"k", b"")).unwrap();
        prepared.prepare(&event(7, b"K", &[0xab])).unwrap();
        assert!(prepared.end("XA COMMIT X'6b',X'ab',1"));
        assert!(!prepared.end("XA COMMIT X'6b',X'',1"));
        assert!(prepared.end("XA COMMIT X'6b',X'',1"), "that name is free again");
        assert!(!prepared.end("XA ROLLBACK X'00',X'',1"), "it leaves nothing behind");
        assert!(!prepared.end("XA ROLLBACK X'4B',X'AB',7"));
        assert!(prepared.names.is_empty());
        assert!(!prepared.end("COMMIT"));
    }

    #[test]
    fn an_event_that_is_cut_is_an_error() {
        let whole = event(1, b"k", b"b");
        for length in 0..whole.len() {
            assert!(none().prepare(&whole[..length]).is_err(), "{length}");
        }
    }
}
