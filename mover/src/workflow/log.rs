//! Whether the source's log goes on: it never gets shorter, and has what was applied from it. Where it was reset under the
//! stream, MariaDB leaves the stream without another word.

use std::time::Duration;

use converge_mysql::{Error as ServerError, FilePosition, Position};
use tokio::time::Instant;

use crate::error::{Error, Result, Side};

/// How long what was applied may be missing: a server sends a transaction before it shows it as executed, and may wait for
/// replicas in between.
const LATE: Duration = Duration::from_secs(15);

/// What was seen of the log so far.
#[derive(Debug, Default)]
pub struct LogWatch {
    end: Option<FilePosition>,
    /// Since when it has not had what was applied.
    lacks: Option<Instant>,
}

impl LogWatch {
    /// Looks at the log's `end` and the source's `position`, which were read after `applied` was.
    ///
    /// Errors: the log goes back. It ends the session; the next one asks the log what became of it.
    pub fn look(
        &mut self,
        end: &FilePosition,
        position: &Position,
        applied: Option<&Position>,
    ) -> Result<()> {
        let place = |at: &FilePosition| (at.sequence(), at.offset);
        let before = self.end.replace(end.clone());
        if let Some(before) = before.filter(|before| place(before) > place(end)) {
            return Err(gone_back(format!("it ended at {before}, and now at {end}")));
        }
        let Some(applied) = applied.filter(|applied| position.covers(applied) == Some(false)) else {
            self.lacks = None;
            return Ok(());
        };
        match self.lacks.get_or_insert_with(Instant::now).elapsed() > LATE {
            true => Err(gone_back(format!("{applied} was applied from it, and it is at {position}"))),
            false => Ok(()),
        }
    }
}

fn gone_back(why: String) -> Error {
    let what = "following the source's log".into();
    Error::Server {
        side: Side::Source,
        error: ServerError::Lost { what, why: format!("the log goes back: {why}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: &str, offset: u64) -> FilePosition {
        FilePosition { file: file.into(), offset }
    }

    fn gtid(text: &str) -> Position {
        text.parse().unwrap()
    }

    #[test]
    fn a_log_that_gets_shorter_ends_the_session() {
        let mut log = LogWatch::default();
        let position = gtid("mariadb-gtid:0-1-10");
        for end in [at("b.000001", 900), at("b.000001", 900), at("b.000002", 4), at("b.000010", 4)] {
            log.look(&end, &position, None).unwrap();
        }
        let error = log.look(&at("b.000001", 9000), &position, None).unwrap_err();
        assert!(error.is_transient());
        assert!(error.to_string().contains("it ended at b.000010:4, and now at b.000001:9000"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_applied_may_be_missing_for_a_moment_only() {
        let mut log = LogWatch::default();
        let (applied, position) = (gtid("mariadb-gtid:0-1-11"), gtid("mariadb-gtid:0-1-10"));
        let end = at("b.000001", 4);
        log.look(&end, &position, Some(&applied)).unwrap();
        tokio::time::advance(LATE).await;
        log.look(&end, &position, Some(&applied)).unwrap();
        log.look(&end, &applied, Some(&applied)).unwrap();
        log.look(&end, &position, Some(&applied)).unwrap();
        tokio::time::advance(LATE + Duration::from_secs(1)).await;
        let error = log.look(&end, &position, Some(&applied)).unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("0-1-11 was applied from it"), "{error}");
    }
}
