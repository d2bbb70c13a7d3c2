//! When may a chunk that waits on the board be written? What the follower asks at every transaction's end; one answer
//! per strategy.

use super::delete_history::History;
use super::watermark::Windows;
use super::{Board, Chunk, Strategy};
use crate::change::{Change, Mark};
use crate::schema::Table;

/// The follower's part of a strategy.
pub enum Gate {
    /// At the chunk's high mark, less the rows touched since its low mark.
    Marks(Windows),
    /// At once, less the rows removed since its low mark.
    History(History),
    /// At once: nothing can have happened to its rows.
    Open,
}

impl Gate {
    /// The gate of a strategy.
    pub fn new(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Watermark => Self::Marks(Windows::default()),
            Strategy::DeleteHistory => Self::History(History::default()),
            Strategy::Locking | Strategy::Snapshot | Strategy::Replica | Strategy::Naive => Self::Open,
        }
    }

    /// Takes note of a mark of this run.
    pub fn mark(&mut self, mark: &Mark) {
        match self {
            Self::Marks(windows) => windows.mark(mark),
            Self::History(history) => history.mark(mark),
            Self::Open => {}
        }
    }

    /// Takes note of a change of a moved table.
    pub fn change(&mut self, change: &Change, table: &Table, board: &Board) {
        match self {
            Self::Marks(windows) => windows.change(change, table, board),
            Self::History(history) => history.change(change, table, board),
            Self::Open => {}
        }
    }

    /// Takes the chunks that may be written where the stream stands now, between two transactions.
    pub fn due(&mut self, board: &Board, tables: &[Table]) -> Vec<Chunk> {
        match self {
            Self::Marks(windows) => windows.due(board, tables),
            Self::History(history) => history.due(board, tables),
            Self::Open => board.take_all().into_iter().map(|(_, chunk)| chunk).collect(),
        }
    }
}
