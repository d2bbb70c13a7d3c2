//! What happens in a world: rows, transactions of clients, faults. Data, so that it can be printed and made smaller.

use std::fmt;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::copy::Strategy;

/// A statement of a client. Rows have a key, a unique value and a version that each update raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A new row; refused if key or unique value is taken.
    Insert(i64, i64),
    /// A new version of a row.
    Update(i64),
    /// Another unique value; refused if it is taken.
    SetUnique(i64, i64),
    /// A row goes.
    Delete(i64),
    /// Another key; refused if it is taken.
    Rekey(i64, i64),
    /// Two rows swap their unique values.
    Swap(i64, i64),
    /// A row in place of all that have its key or unique value.
    Replace(i64, i64),
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Insert(k, u) => write!(f, "INSERT key {k} unique {u}"),
            Self::Update(k) => write!(f, "UPDATE key {k}"),
            Self::SetUnique(k, u) => write!(f, "UPDATE key {k} SET unique = {u}"),
            Self::Delete(k) => write!(f, "DELETE key {k}"),
            Self::Rekey(k, to) => write!(f, "UPDATE key {k} SET key = {to}"),
            Self::Swap(a, b) => write!(f, "swap the unique values of keys {a} and {b}"),
            Self::Replace(k, u) => write!(f, "REPLACE key {k} unique {u}"),
        }
    }
}

/// A transaction of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The table's index.
    pub table: usize,
    /// Its statements.
    pub ops: Vec<Op>,
    /// Whether it is committed in the end.
    pub commit: bool,
}

/// Something that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// After so many steps of the world.
    pub at: u64,
    /// What breaks.
    pub kind: FaultKind,
}

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The source crashes: what it logged survives, what it did not is gone, every connection is lost.
    SourceCrash,
    /// The mover's connections to the source are lost.
    SourceLost,
    /// The copier's connection to the source is lost, and no other one.
    ReaderLost,
    /// The target crashes, or the mover's connections to it are lost: an open transaction is gone.
    TargetLost,
    /// The mover is killed and started again.
    MoverKilled,
    /// The source removes all of its log that is there.
    LogPurged,
}

/// A moment in the life of a row that is copied and changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// The copier reads it.
    Copy,
    /// Its change becomes visible.
    Update,
    /// The stream delivers its change.
    Binlog,
}

/// A whole world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How chunks are protected.
    pub strategy: Strategy,
    /// What the order of events is drawn from.
    pub schedule: u64,
    /// Rows of a chunk.
    pub chunk_rows: usize,
    /// Whether the unique values are unique: tables without such a key have fewer ways to notice what is wrong.
    pub unique: bool,
    /// What must happen in which order, as far as it can.
    pub order: Option<[Moment; 3]>,
    /// For each table its first rows: key and unique value.
    pub tables: Vec<Vec<(i64, i64)>>,
    /// For each client its transactions.
    pub clients: Vec<Vec<Transaction>>,
    /// What breaks.
    pub faults: Vec<Fault>,
    /// Steps after which the operator asks for the switch, whether the clients are done or not.
    pub switch_after: u64,
}

/// Keys and unique values are drawn from so many: few, so that they meet.
const VALUES: i64 = 7;

impl Plan {
    /// The world of a seed.
    pub fn drawn(strategy: Strategy, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let tables = if random.random_bool(0.2) { 2 } else { 1 };
        let rows = |random: &mut ChaCha8Rng| {
            let mut uniques: Vec<i64> = (0..VALUES).collect();
            (0..VALUES)
                .filter_map(|key| {
                    let unique = uniques.swap_remove(random.random_range(0..uniques.len()));
                    random.random_bool(0.6).then_some((key, unique))
                })
                .collect()
        };
        let tables: Vec<Vec<(i64, i64)>> = (0..tables).map(|_| rows(&mut random)).collect();
        let clients = (0..random.random_range(1..=3))
            .map(|_| {
                (0..random.random_range(1..=4)).map(|_| transaction(&mut random, tables.len())).collect()
            })
            .collect();
        let faults = match random.random_bool(0.5) {
            true => (0..random.random_range(1..=3)).map(|_| fault(&mut random)).collect(),
            false => Vec::new(),
        };
        Self {
            strategy,
            schedule: random.random(),
            chunk_rows: random.random_range(1..=3),
            unique: random.random_bool(0.6),
            order: None,
            tables,
            clients,
            faults,
            switch_after: if random.random_bool(0.5) { random.random_range(0..300) } else { u64::MAX },
        }
    }

    /// Whether a stop with an error is a right answer.
    pub fn may_stop(&self) -> bool {
        self.faults.iter().any(|f| f.kind == FaultKind::LogPurged)
    }

    /// How much there is in it.
    pub fn size(&self) -> usize {
        let ops = self.clients.iter().flatten().map(|t| t.ops.len() + 1).sum::<usize>();
        ops + self.faults.len() + self.tables.iter().map(Vec::len).sum::<usize>() + self.tables.len()
    }
}

fn transaction(random: &mut ChaCha8Rng, tables: usize) -> Transaction {
    let ops = (0..random.random_range(1..=3)).map(|_| op(random)).collect();
    Transaction { table: random.random_range(0..tables), ops, commit: random.random_bool(0.85) }
}

fn op(random: &mut ChaCha8Rng) -> Op {
    let mut value = || random.random_range(0..VALUES);
    let (a, b) = (value(), value());
    match random.random_range(0..10) {
        0 | 1 => Op::Insert(a, b),
        2 | 3 => Op::Update(a),
        4 => Op::SetUnique(a, b),
        5 | 6 => Op::Delete(a),
        7 => Op::Rekey(a, b),
        8 => Op::Swap(a, b),
        _ => Op::Replace(a, b),
    }
}

fn fault(random: &mut ChaCha8Rng) -> Fault {
    let kind = match random.random_range(0..20) {
        0..5 => FaultKind::SourceCrash,
        5..7 => FaultKind::SourceLost,
        7..9 => FaultKind::ReaderLost,
        9..14 => FaultKind::TargetLost,
        14..19 => FaultKind::MoverKilled,
        _ => FaultKind::LogPurged,
    };
    Fault { at: random.random_range(0..250), kind }
}
