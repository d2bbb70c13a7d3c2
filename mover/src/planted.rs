//! Bugs planted on purpose, so that a harness can be held against movers that are known to be wrong.
//!
//! Without the feature `planted`, [`planted`] is a constant `false` and every bug is compiled away: no binary that moves
//! anybody's data can have one. With it, the environment variable [`VARIABLE`] names the one bug that is active, and
//! each time that it does harm one byte is appended to the file in [`HITS`]. What must never be here: anything that
//! changes a mover in which no bug is active.

#[cfg(not(feature = "planted"))]
mod absent;
#[cfg(feature = "planted")]
mod active;
#[cfg(feature = "planted")]
mod returned;
mod values;

#[cfg(not(feature = "planted"))]
pub(crate) use absent::*;
#[cfg(feature = "planted")]
pub(crate) use active::*;
#[cfg(feature = "planted")]
pub(crate) use returned::Returned;
pub(crate) use values::{Shape, bent, bent_null};

/// Whether this build has any bugs: what is costly to find out for them is not asked otherwise.
pub const ENABLED: bool = cfg!(feature = "planted");
/// Names the active bug, by its id.
pub const VARIABLE: &str = "CONVERGE_PLANTED_BUG";
/// Names the file whose length is the number of times that the bug did harm.
pub const HITS: &str = "CONVERGE_PLANTED_HITS";

macro_rules! bugs {
    ($($bug:ident, $id:literal, $cause:literal, $seen:literal;)*) => {
        /// A bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each has its cause beside it in the catalogue")]
        pub enum Bug { $($bug,)* }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug,)*];

            /// Its name.
            pub fn id(self) -> &'static str {
                match self { $(Self::$bug => $id,)* }
            }

            /// What is wrong, in a line.
            pub fn cause(self) -> &'static str {
                match self { $(Self::$bug => $cause,)* }
            }

            /// Where such a bug was seen in a real product; empty if it was not taken from one.
            pub fn seen(self) -> &'static str {
                match self { $(Self::$bug => $seen,)* }
            }
        }
    };
}

bugs! {
    // Values
    TimestampZone, "timestamp_zone", "a TIMESTAMP in the log is read in another time zone", "spirit#922, spirit#1025";
    FractionCut, "fraction_cut", "digits after the third of a fraction of a second are cut", "";
    TimeSignLost, "time_sign_lost", "a negative TIME loses its sign", "";
    YearZero, "year_zero", "YEAR 0000 becomes another year", "mysql_async 0.37";
    FloatViaText, "float_via_text", "a FLOAT crosses as text of six digits", "mysqldump 9.7";
    DoubleViaText, "double_via_text", "a DOUBLE crosses as text of fifteen digits", "vitess#19880";
    DecimalViaDouble, "decimal_via_double", "a DECIMAL crosses as a double", "";
    UnsignedAsSigned, "unsigned_as_signed", "an unsigned number is read as signed", "";
    BigintViaDouble, "bigint_via_double", "an unsigned BIGINT crosses as a double", "";
    BitHighByteLost, "bit_high_byte_lost", "only the lowest byte of a BIT is read", "";
    NullAsEmpty, "null_as_empty", "NULL becomes an empty string", "";
    EmptyAsNull, "empty_as_null", "an empty string becomes NULL", "";
    FourByteLetters, "four_byte_letters", "letters of four bytes become question marks", "";
    TrailingZeros, "trailing_zeros", "zero bytes at the end of a binary value are cut", "gh-ost#909, ghostferry#308, spirit#947";
    TrailingSpaces, "trailing_spaces", "spaces at the end of a text are cut", "";
    LongValueCut, "long_value_cut", "values are cut after 255 bytes", "";
    SetMembersLost, "set_members_lost", "only the first member of a SET is read", "";
    JsonNumbers, "json_numbers", "a double inside a JSON document becomes an integer", "spirit#842";
    // Copying
    DeleteInWindow, "delete_in_window", "a delete while a chunk is on its way is forgotten, and the row comes back", "spirit#961";
    UpdateInWindow, "update_in_window", "a chunk writes an older row over a newer one", "ghostferry#149";
    OldKeyInWindow, "old_key_in_window", "a change of key protects the new key only", "gh-ost#519";
    FirstKeyColumn, "first_key_column", "rows of a composite key are told apart by its first column", "spirit#918";
    LastChunkSkipped, "last_chunk_skipped", "the last chunk of a table is not written", "";
    CopyEndsEarly, "copy_ends_early", "a short answer is taken for the end of the table", "dtle#359, gh-ost#483";
    ChunkBoundary, "chunk_boundary", "the last row of each chunk is lost", "";
    ResumeSkipsChunk, "resume_skips_chunk", "a resumed copy goes on one chunk too late", "gh-ost#1684";
    ResumeByFirstColumn, "resume_by_first_column", "the next chunk begins behind the first column of the last key", "spirit#918";
    ChunkOverPresent, "chunk_over_present", "a chunk does not expect rows that the stream has written", "";
    LockingWithoutLock, "locking_without_lock", "the locking copy reads without locks", "";
    RemovedForgotten, "removed_forgotten", "the copy with a history of deletes keeps no history", "spirit#708";
    AboveCopySkipped, "above_copy_skipped", "changes above the copied range are skipped, to be copied later", "spirit#808";
    // Applying
    AfterReconnect, "after_reconnect", "what was read and not applied when the connection broke is dropped", "ghostferry#351";
    ChangeLost, "change_lost", "one change in 300 is lost", "";
    TransactionSplit, "transaction_split", "a target transaction ends in the middle of a source transaction", "flink-cdc PR 421";
    PositionBeforeRows, "position_before_rows", "a position is recorded before its rows are written", "gh-ost#1684, spirit#1042";
    OldKeyStays, "old_key_stays", "a change of key leaves the row of the old key", "gh-ost#519";
    AddedBeforeRemoved, "added_before_removed", "rows are added before others make room for their unique values", "spirit#847";
    BatchLimit, "batch_limit", "the row at the limit of a statement that deletes is left", "";
    FirstImageWins, "first_image_wins", "of several changes of a row the first one wins", "";
    TransactionCut, "transaction_cut", "changes after the eighth of a transaction are lost", "vitess#16317";
    RowsOfEvent, "rows_of_event", "only the first row of an event is read", "";
    AfterRotation, "after_rotation", "the first transaction of a new log file is skipped", "";
    TableIdReused, "table_id_reused", "table ids are kept over a restart of the source, which gives them anew", "vitess#9976";
    ResumeAtPresent, "resume_at_present", "a resumed stream begins at the source's present position", "gh-ost#629";
    StallsAfterReconnect, "stalls_after_reconnect", "after a reconnect nothing is applied, and all looks well", "";
    CheckpointBack, "checkpoint_back", "a checkpoint is written over by an older one", "spirit#883";
    InsertLate, "insert_late", "an insert is applied a second later than what was committed after it", "";
    UpdateUndone, "update_undone", "an update is undone for a moment, as if an older one were tried again after it", "";
    SlowAfterReconnect, "slow_after_reconnect", "after a reconnect nothing is applied for a while", "";
    // Switching
    FenceTooEarly, "fence_too_early", "the last writes before the fence are not waited for", "vitess#9400, spirit#156";
    SourceRowLost, "source_row_lost", "the mover removes a row from the source, and in due course from the target", "";
    StrayTable, "stray_table", "the mover leaves a table on the target that is none of the source's", "";
    WriteAfterSwitch, "write_after_switch", "the mover writes to the target after the switch", "";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_there_are_enough_of_them() {
        let ids: std::collections::HashSet<_> = Bug::ALL.iter().map(|bug| bug.id()).collect();
        assert_eq!(ids.len(), Bug::ALL.len());
        assert!(ids.len() >= 40);
    }
}
