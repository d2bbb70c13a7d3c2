//! What a comparison has done so far, on disk, so that one that was killed goes on where it was: one JSON line per
//! compared chunk and per finished table, only ever appended.
//!
//! What was said of a table that has been replaced by another one since does not count: see [`super::identity`].
//!
//! A chunk's line holds all that was found in it. Never a chunk that was not compared to its end; never a state that was
//! made for other tables, another schema or other options.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use converge_mysql::quote;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::cut::Cut;
use super::identity::Lasting;
use super::rows::{Counts, Differing};
use super::tally::{Room, Suspect, Tally};
use crate::digest::row_digest;
use crate::error::Error;
use crate::plan::Plan;
use crate::plan::sql::Scope;
use crate::report::{TableReport, Verdict};
use crate::request::{Engine, Options, Request};
use crate::schema::SchemaFinding;
use crate::schema::compare::AUTO_INCREMENT;

/// The file in the directory.
const FILE: &str = "vdiff-state.jsonl";

/// Between two chunks' numbers, so that there is room for those of a gap.
pub const STRIDE: u64 = 1 << 20;

/// What a line says must reach the disk within this time.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The first: what the state is for.
    Comparison {
        fingerprint: String,
        /// Which rows its sample has.
        seed: Option<u64>,
    },
    /// A run begins where the servers' logs stand, where that can be seen.
    Run {
        positions: [Option<String>; 2],
    },
    /// A table is begun, or gone on with. What was said of it before holds if it is still the same one.
    Watched {
        table: usize,
        identity: Box<Lasting>,
    },
    Chunk(Box<Chunk>),
    Table {
        table: usize,
        report: Box<TableReport>,
    },
}

/// A chunk that was compared.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Chunk {
    table: usize,
    /// Chunks' order in the table.
    number: u64,
    from: Option<Cut>,
    to: Option<Cut>,
    engine: Engine,
    matching: u64,
    undigested: u64,
    source_rows: u64,
    target_rows: u64,
    chunks: u64,
    suspects: Vec<(Differing, Scope)>,
    uncounted: Counts,
}

/// The state of a comparison.
pub struct State {
    path: PathBuf,
    /// No other process writes to it meanwhile.
    file: Flock<File>,
    synced: Instant,
    known: Known,
}

/// What earlier runs did.
#[derive(Debug, Default)]
struct Known {
    /// Where the servers' logs stood when the first of them began.
    began: Option<[Option<String>; 2]>,
    watched: HashMap<usize, Lasting>,
    /// Tables that may be other ones than earlier runs compared.
    replaced: HashSet<usize>,
    chunks: Vec<Chunk>,
    tables: Vec<(usize, TableReport)>,
}

impl Known {
    /// Takes note of which table it is that is gone on with. Returns whether it may be another one than before.
    fn watch(&mut self, table: usize, identity: Lasting) -> bool {
        let same = self.watched.get(&table).is_some_and(|before| before.is_same(&identity));
        let known = self.chunks.iter().any(|chunk| chunk.table == table)
            || self.tables.iter().any(|(number, _)| *number == table);
        if known && !same {
            self.replaced.insert(table);
            self.chunks.retain(|chunk| chunk.table != table);
            self.tables.retain(|(number, _)| *number != table);
        }
        self.watched.insert(table, identity);
        self.replaced.contains(&table)
    }
}

/// What is left of a table that was begun before.
pub struct Resumed {
    /// What was found.
    pub found: Tally,
    /// By which engine.
    pub engine: Engine,
    /// Ranges that are to be compared before the rest, with their numbers: those between the ones that were compared, and
    /// those of which not all differing rows were held.
    pub gaps: Vec<(u64, Scope)>,
    /// What follows, with the next number; `None` when the end was compared.
    pub rest: Option<(u64, Option<Cut>)>,
}

impl State {
    /// Opens the state of this comparison, or begins one.
    pub fn open(directory: &Path, request: &Request, plans: &[Arc<Plan>]) -> Result<Self, Error> {
        let path = directory.join(FILE);
        let failed =
            |e: std::io::Error| Error::State { path: path.display().to_string(), why: e.to_string() };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        // The system gives it free when this process ends, however that happens.
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
            Errno::EWOULDBLOCK => Error::StateInUse(path.display().to_string()),
            other => failed(other.into()),
        })?;
        let fingerprint = fingerprint(request, plans);
        let (lines, end) = read(&file).map_err(failed)?;
        // A line that was being written when the process died was not reported to anybody.
        file.set_len(end).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut state = Self { path: path.clone(), file, synced: Instant::now(), known: Known::default() };
        let known = &mut state.known;
        let begun = !lines.is_empty();
        for (at, line) in lines.into_iter().enumerate() {
            match line {
                Line::Comparison { fingerprint: theirs, .. } if at == 0 && theirs == fingerprint => {}
                Line::Run { positions } if at > 0 => drop(known.began.get_or_insert(positions)),
                Line::Watched { table, identity } if at > 0 => drop(known.watch(table, *identity)),
                Line::Chunk(chunk) if at > 0 => known.chunks.push(*chunk),
                Line::Table { table, report } if at > 0 => known.tables.push((table, *report)),
                _ => return Err(Error::OtherState(path.display().to_string())),
            }
        }
        if !begun {
            let seed = request.options.sample.map(|sample| sample.seed);
            state.append(&Line::Comparison { fingerprint, seed })?;
        }
        Ok(state)
    }

    /// Takes note of where the servers' logs stand as this run begins. Returns where they stood when the first one did, if
    /// that was another one.
    pub fn begin(&mut self, positions: &[Option<String>; 2]) -> Result<Option<[Option<String>; 2]>, Error> {
        self.append(&Line::Run { positions: positions.clone() })?;
        Ok(self.known.began.take())
    }

    /// Takes note of which table is begun or gone on with. Where it is not known to be the one that an earlier run compared,
    /// what that found is forgotten; returns whether so.
    pub fn watch(&mut self, table: usize, identity: Lasting) -> Result<bool, Error> {
        self.append(&Line::Watched { table, identity: Box::new(identity.clone()) })?;
        Ok(self.known.watch(table, identity))
    }

    /// The report of a table that was found equal. What was found in the chunks of any other is looked at again.
    pub fn finished(&self, table: usize) -> Option<TableReport> {
        let equal =
            |(number, report): &&(usize, TableReport)| *number == table && report.verdict == Verdict::Equal;
        self.known.tables.iter().find(equal).map(|(_, report)| report.clone())
    }

    /// What is left of a table, if it was begun.
    pub fn resume(&mut self, table: usize, room: &Room) -> Option<Resumed> {
        let mut chunks: Vec<Chunk> = self.known.chunks.extract_if(.., |chunk| chunk.table == table).collect();
        chunks.sort_by_key(|chunk| chunk.number);
        // Of a chunk that was compared again the later line counts.
        chunks.dedup_by(|later, earlier| {
            let again = later.number == earlier.number;
            if again {
                std::mem::swap(later, earlier);
            }
            again
        });
        let engine = chunks.last()?.engine;
        let (mut found, mut gaps) = (Tally::default(), Vec::new());
        let (mut before, mut reached) = (0, Some(None));
        for chunk in chunks {
            if let Some(lower) = reached.filter(|lower| *lower != chunk.from) {
                gaps.push((
                    before + (chunk.number - before) / 2,
                    Scope { lower, upper: chunk.from.clone(), buckets: None },
                ));
            }
            (before, reached) = (chunk.number, chunk.to.clone().map(Some));
            let (number, scope) = (chunk.number, chunk.scope());
            let tally = chunk.tally(room);
            // Rows that were only counted cannot be read again, and may agree by now.
            match tally.uncounted == Counts::default() {
                true => found.merge(tally),
                false => gaps.push((number, scope)),
            }
        }
        let rest = reached.map(|lower| (before + STRIDE, lower));
        Some(Resumed { found, engine, gaps, rest })
    }

    /// Adds a chunk.
    pub fn chunk(
        &mut self,
        table: usize,
        number: u64,
        scope: &Scope,
        engine: Engine,
        tally: &Tally,
    ) -> Result<(), Error> {
        let suspects = tally.suspects.iter().map(|s| (s.row.clone(), Scope::clone(&s.scope))).collect();
        self.append(&Line::Chunk(Box::new(Chunk {
            table,
            number,
            from: scope.lower.clone(),
            to: scope.upper.clone(),
            engine,
            matching: tally.matching,
            undigested: tally.undigested,
            source_rows: tally.source_rows,
            target_rows: tally.target_rows,
            chunks: tally.chunks,
            suspects,
            uncounted: tally.uncounted,
        })))
    }

    /// Adds a table that is finished.
    pub fn table(&mut self, table: usize, report: &TableReport) -> Result<(), Error> {
        self.append(&Line::Table { table, report: Box::new(report.clone()) })
    }

    /// Where it is, for whoever removes it once the verdict has reached its reader.
    pub fn into_path(self) -> PathBuf {
        self.path
    }

    fn append(&mut self, line: &Line) -> Result<(), Error> {
        let write = |file: &mut File| {
            let mut text = serde_json::to_vec(line).map_err(std::io::Error::other)?;
            text.push(b'\n');
            file.write_all(&text)
        };
        write(&mut self.file).map_err(|e| self.failed(e))?;
        if self.synced.elapsed() >= SYNC_EVERY || !matches!(line, Line::Chunk(_)) {
            self.file.sync_data().map_err(|e| self.failed(e))?;
            self.synced = Instant::now();
        }
        Ok(())
    }

    fn failed(&self, e: std::io::Error) -> Error {
        Error::State { path: self.path.display().to_string(), why: e.to_string() }
    }
}

impl Chunk {
    fn scope(&self) -> Scope {
        Scope { lower: self.from.clone(), upper: self.to.clone(), buckets: None }
    }

    fn tally(self, room: &Room) -> Tally {
        let mut tally = Tally {
            matching: self.matching,
            undigested: self.undigested,
            source_rows: self.source_rows,
            target_rows: self.target_rows,
            chunks: self.chunks,
            suspects: Vec::new(),
            uncounted: self.uncounted,
        };
        for (row, scope) in self.suspects {
            tally.hold(Suspect { row, scope: Arc::new(scope), chunk: self.number, proof: None }, room);
        }
        tally
    }
}

/// The seed of the sample that a comparison in this directory has drawn, so that it can go on with the same rows.
pub fn remembered_seed(directory: &Path) -> Option<u64> {
    let file = File::open(directory.join(FILE)).ok()?;
    match read(&file).ok()?.0.into_iter().next()? {
        Line::Comparison { seed, .. } => seed,
        _ => None,
    }
}

/// The lines, and where the last whole one ends.
fn read(file: &File) -> std::io::Result<(Vec<Line>, u64)> {
    let mut reader = BufReader::new(file);
    let (mut lines, mut end, mut text) = (Vec::new(), 0, Vec::new());
    loop {
        text.clear();
        let length = reader.read_until(b'\n', &mut text)?;
        if length == 0 || !text.ends_with(b"\n") {
            return Ok((lines, end));
        }
        let line = serde_json::from_slice(&text);
        lines.push(line.map_err(|e| std::io::Error::other(format!("line {}: {e}", lines.len() + 1)))?);
        end += length as u64;
    }
}

/// What a state is for: which rows and columns of which tables are compared in which form. How fast that goes, how long
/// it may take and how much of it is told may change, and so may counters that go on by themselves.
fn fingerprint(request: &Request, plans: &[Arc<Plan>]) -> String {
    // All fields are named, so that whoever adds one decides.
    let Options {
        proof,
        all_tables,
        filters,
        sample,
        columns,
        ignore_columns,
        rename_columns,
        engine: _,
        max_rows_reported: _,
        first_chunk_rows: _,
        max_chunk_rows: _,
        chunk_time: _,
        fetch_rows: _,
        max_suspects: _,
        quiet_window: _,
        confirm_within: _,
        statement_timeout: _,
        max_load: _,
        max_lag: _,
        hold_at_most: _,
        state: _,
        max_duration: _,
        parallel: _,
    } = &request.options;
    let place = |a: &converge_mysql::Address| format!("{}:{}/{}", a.host, a.port, a.database);
    let sides = [&request.source, &request.target].map(|side| side.iter().map(place).collect::<Vec<_>>());
    let part = (all_tables, filters, sample, columns, ignore_columns, rename_columns);
    let tables: Vec<String> = plans.iter().map(|plan| outline(plan)).collect();
    let all = format!("{sides:?} {:?} {proof:?} {part:?} {tables:?}", request.tables);
    quote::hex_digits(&row_digest(all.as_bytes()))
}

/// How a table is compared, and its schemas' differences.
fn outline(plan: &Plan) -> String {
    let stays = |finding: &&SchemaFinding| finding.property != AUTO_INCREMENT;
    let schema: Vec<&SchemaFinding> = plan.schema.iter().filter(stays).collect();
    format!("{:?} {:?} {:?} {schema:?}", plan.tables, plan.columns, plan.identity)
}

#[cfg(test)]
mod tests;
