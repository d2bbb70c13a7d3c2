//! Why a server refused to send its binary log, or broke it off: from the server's words to what the operator can do.
//!
//! Both products answer with error 1236 for nearly everything; only the text tells. What is not known stops the
//! workflow: nothing here is taken for harmless because its words are new.

use converge_mysql::{Error as ServerError, Position};

use crate::error::{Error, OnSide, Result, Side};

/// The error number for all that can be wrong with a request for the binary log.
const REFUSED: u16 = 1236;

/// An interruption after which the log can be asked for again.
pub fn lost(why: &str) -> Error {
    let what = "reading the source's binary log".to_owned();
    Error::Server { side: Side::Source, error: ServerError::Lost { what, why: why.into() } }
}

/// The error of a source that gave out the numbers of a position by itself; `known`: the GTIDs that it knows.
pub fn never_had(position: &Position, known: &str) -> Error {
    Error::refused(
        format!(
            "the source never had the transactions up to {position}: it knows {known}, and was put up from a backup or put back \
             to a former state"
        ),
        "point --source at a server that has them (a replica that took over shows them in gtid_binlog_state); if they are \
         lost, cancel the workflow, empty its tables on the target, and begin again under another name",
    )
}

/// The end of a workflow by GTID on a source that wrote transactions without: `place` says where.
pub fn without_gtids(place: &str) -> Error {
    Error::spoiled(
        format!(
            "the source wrote transactions without GTIDs ({place}), and this workflow follows it by GTID"
        ),
        "gtid_mode was changed on the source, and setting it back does not help: who follows by GTID passes such \
         transactions over. Cancel the workflow, empty the target tables, and start another one; leave gtid_mode as it is \
         until that is complete",
    )
}

/// What an error of the connection means for a reader at `position`.
pub fn reason(error: mysql_async::Error, position: &str) -> Error {
    match error {
        mysql_async::Error::Server(e) if e.code == REFUSED => refusal(&e.message, position),
        e @ mysql_async::Error::Server(_) => answered(e),
        other => lost(&other.to_string()),
    }
}

fn answered(error: mysql_async::Error) -> Error {
    let error = ServerError::driver("reading the source's binary log", error);
    let result: Result<()> = Err(error.clone()).on_source();
    result.err().unwrap_or(Error::Server { side: Side::Source, error })
}

fn refusal(message: &str, position: &str) -> Error {
    let words = message.to_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|text| words.contains(text));
    let (position, message) = (position.to_owned(), message.to_owned());
    if says(&["same server_uuid", "same server_id", "same server uuid", "same server id"]) {
        return lost(&message);
    }
    if says(&["more gtids than", "greater than file size", "> file size", "impossible position", "diverged"])
        || says(&["not in the master's binlog"])
    {
        let source_position = format!("another place (its words: {message})");
        return Error::SourceWentBack { source_position, applied: position };
    }
    if says(&["could not find first log file", "purged", "too old", "could not find gtid state"]) {
        return Error::BinlogPurged { position, message };
    }
    // The files behind the one that is being read are gone: nothing but a reset takes those away.
    if says(&["could not find next log"]) {
        return Error::HistoryReplaced { what: format!("at {position}: {message}") };
    }
    if says(&["cannot replicate anonymous transaction"]) {
        return without_gtids(&message);
    }
    if says(&["truncated in the middle"]) {
        return Error::TornLog { position, message };
    }
    Error::Unreadable { position, why: message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(message: &str) -> &'static str {
        match refusal(message, "p") {
            Error::BinlogPurged { .. } => "purged",
            Error::SourceWentBack { .. } => "back",
            Error::TornLog { .. } => "torn",
            Error::HistoryReplaced { .. } => "replaced",
            Error::Spoiled { .. } => "spoiled",
            Error::Unreadable { .. } => "unreadable",
            other if other.is_transient() => "lost",
            other => panic!("{other}"),
        }
    }

    #[test]
    fn words_of_both_products_are_told_apart() {
        for (message, expected) in [
            ("Could not find first log file name in binary log index file", "purged"),
            (
                "Cannot replicate because the source purged required binary logs. Replicate the missing",
                "purged",
            ),
            (
                "Could not find GTID state requested by slave in any binlog files. Probably the slave state is too old and",
                "purged",
            ),
            ("Client requested source to start replication from position > file size", "back"),
            (
                "Replica has more GTIDs than the source has, using the source's SERVER_UUID. This may indicate",
                "back",
            ),
            (
                "Error: connecting slave requested to start from GTID 0-1-9, which is not in the master's binlog",
                "back",
            ),
            (
                "A replica with the same server_uuid/server_id as this replica has connected to the source",
                "lost",
            ),
            (
                "log event entry exceeded max_allowed_packet; Increase max_allowed_packet on source",
                "unreadable",
            ),
            (
                "binlog truncated in the middle of event; consider out of disk space on master; the first",
                "torn",
            ),
            (
                "could not find next log; the first event 'binlog.000003' at 4, the last event read from",
                "replaced",
            ),
            (
                "Cannot replicate anonymous transaction when AUTO_POSITION = 1, at file ./binlog.000003, position 237.",
                "spoiled",
            ),
            ("bogus data in log event; the first event 'binlog.000001' at 9", "unreadable"),
        ] {
            assert_eq!(kind(message), expected, "{message}");
        }
    }
}
