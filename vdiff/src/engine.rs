//! Both engines: chunks are digested on both sides at once, by the servers (push-down) or by the client out of the rows
//! (stream); where they differ, keys and digests of the rows are fetched.

mod check;
mod choice;
mod chunk;
mod confirm;
mod cut;
mod detail;
mod held;
mod identity;
mod listing;
pub(crate) mod lookup;
pub(crate) mod rows;
pub(crate) mod same;
mod settle;
pub(crate) mod shards;
mod state;
mod stream;
pub(crate) mod suspects;
mod table;
pub(crate) mod tally;
mod throttle;
mod tiles;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use futures_util::future::try_join_all;

use crate::error::Error;
use crate::plan::Plan;
use crate::proof::Standing;
use crate::report::{DIGEST, Report, ServerReport, TableReport, Verdict, rfc3339};
use crate::request::{Options, Progress, Request, TablePair};
use crate::session::running::tidily;
use check::check;
use choice::Preference;
use identity::Identity;
use lookup::{Pair, look_up};
use rows::Counts;
use settle::Evidence;
use shards::{Sessions, Shards};
use state::State;
pub use state::remembered_seed;
use table::{Memory, TableRun};
use tally::{Room, Tally};
use throttle::Throttle;
use tiles::Tiles;

/// All connections of a comparison, and what goes for all of its tables.
struct Pool<'a> {
    /// For looking up, cutting and confirming.
    control: Sessions,
    /// Those of the workers that digest chunks.
    workers: Vec<Sessions>,
    throttle: Throttle,
    options: Arc<Options>,
    request: &'a Request,
    /// All that are compared: the request's, or those of the workflow that it names.
    pairs: Vec<TablePair>,
    /// The engine that was the faster one for the tables so far.
    preference: Option<Preference>,
    /// What outlives this process.
    state: Option<State>,
    /// After it nothing is begun.
    deadline: Option<tokio::time::Instant>,
    /// What the servers had written when they were asked the last time.
    last: Option<Evidence>,
    /// Whether each side stood still from each time to the next.
    still: [bool; 2],
    /// Tables that an earlier run found equal.
    finished_before: usize,
}

impl<'a> Pool<'a> {
    async fn open(request: &'a Request) -> Result<Self, Error> {
        let deadline = request.options.max_duration.map(|most| tokio::time::Instant::now() + most);
        // One set first, so that what is wrong with an address is said once.
        let control = Sessions::open(request).await?;
        let workers =
            try_join_all((0..request.options.parallel.max(1)).map(|_| Sessions::open(request))).await?;
        let throttle = Throttle::start(request).await?;
        Ok(Self {
            control,
            workers,
            throttle,
            options: Arc::new(request.options.clone()),
            request,
            pairs: Vec::new(),
            preference: None,
            state: None,
            deadline,
            last: None,
            still: [true; 2],
            finished_before: 0,
        })
    }

    /// Asks the servers what they have written by now, as is done before and after whatever makes them write by themselves:
    /// digests, which move the one counter, and SHOW, which moves the other.
    async fn evidence(&mut self) -> Result<Evidence, Error> {
        let now = Evidence::read(&mut self.control, &mut self.workers).await?;
        self.take_down(now.clone());
        Ok(now)
    }

    fn take_down(&mut self, now: Evidence) {
        if let Some(last) = &self.last {
            self.still = [0, 1].map(|side| self.still[side] && last.stood_still(&now, side));
        }
        self.last = Some(now);
    }

    /// What an earlier run said of a table that it found equal, if that is the same table still.
    async fn finished(&mut self, number: usize, plan: &Plan) -> Result<Option<TableReport>, Error> {
        let Some(state) = self.state.as_mut().filter(|state| state.finished(number).is_some()) else {
            return Ok(None);
        };
        state.watch(number, Identity::watch(&mut self.control, plan).await?.lasting())?;
        let report = state.finished(number);
        self.finished_before += usize::from(report.is_some());
        Ok(report)
    }

    async fn close(self) {
        self.control.close().await;
        for sessions in self.workers {
            sessions.close().await;
        }
    }
}

/// Compares tables between two servers.
///
/// Only reads. Tables are compared one after the other; `progress` is told what happens. The verdict is
/// [`Verdict::Equal`] only if every row of both sides was read and found equal; a difference is reported as proven
/// only if both servers stood still while it was there.
///
/// # Errors
/// Whatever keeps a table from being read to its end, so that nothing can be said: see [`Error`].
///
/// # Example
/// ```
/// # use converge_chaos::server::{LocalServer, ServerOptions, discover};
/// # use mysql_async::prelude::Queryable as _;
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # // Without a server nothing would be shown by this: that is an error, as in the project's other tests.
/// # let binary = discover()?.into_iter().next().expect("a mysqld or mariadbd, on PATH or in CONVERGE_SERVERS");
/// # let server = LocalServer::start(&binary, ServerOptions::named("example")).await?;
/// # let mut conn = converge_mysql::Connector::new(server.address("")).connect().await?;
/// # for (database, second) in [("shop", "b@example.org"), ("moved", "B@example.org")] {
/// #     conn.query_drop(format!("CREATE DATABASE {database}")).await?;
/// #     let table = "(id INT PRIMARY KEY, email VARCHAR(50))";
/// #     conn.query_drop(format!("CREATE TABLE {database}.customer {table}")).await?;
/// #     let rows = format!("(1, 'a@example.org'), (2, '{second}')");
/// #     conn.query_drop(format!("INSERT INTO {database}.customer VALUES {rows}")).await?;
/// # }
/// # let (old, new) = (server.address("shop").to_url(), server.address("moved").to_url());
/// use converge_vdiff::{Options, Request, TablePair, Verdict, compare};
///
/// let request = Request {
///     source: vec![old.parse()?], // as "mysql://reader@db1/shop?password-env=DB1_PASSWORD"
///     target: vec![new.parse()?],
///     tables: vec![TablePair::same("customer")],
///     options: Options { max_rows_reported: 10, ..Options::default() },
/// };
/// let report = compare(&request, &|_progress| {}).await?;
///
/// assert_eq!(report.verdict, Verdict::Different);
/// let row = &report.tables[0].rows[0];
/// assert_eq!((row.key["id"].as_u64(), row.columns.join(",").as_str()), (Some(2), "email"));
/// println!("{}", report.to_text());
/// # Ok(()) }
/// ```
pub async fn compare(request: &Request, progress: &(dyn Fn(Progress) + Sync)) -> Result<Report, Error> {
    compare_keeping(request, progress, &mut |_| {}).await
}

/// What a comparison of one table leaves behind for whoever repairs it.
pub(crate) struct Found {
    /// The tables' names.
    pub pair: TablePair,
    /// How they were compared.
    pub plan: Arc<Plan>,
    /// The differing rows that are held.
    pub suspects: Vec<tally::Suspect>,
    /// How many more there are.
    pub uncounted: u64,
    /// Whether the differences are proven.
    pub confirmed: bool,
}

/// Like [`compare`], and hands over what was found in each table.
pub(crate) async fn compare_keeping(
    request: &Request,
    progress: &(dyn Fn(Progress) + Sync),
    keep: &mut (dyn FnMut(Found) + Send),
) -> Result<Report, Error> {
    check(request)?;
    tidily(Box::pin(compare_all(request, progress, keep))).await
}

async fn compare_all(
    request: &Request,
    progress: &(dyn Fn(Progress) + Sync),
    keep: &mut (dyn FnMut(Found) + Send),
) -> Result<Report, Error> {
    let (started, clock) = (SystemTime::now(), Instant::now());
    let (listing, found_all);
    let (request, lonely) = match &request.options.all_tables {
        Some(exclude) => {
            listing = listing::read(request, exclude).await?;
            found_all = Request { tables: listing.pairs.clone(), ..request.clone() };
            (&found_all, Some(&listing))
        }
        None => (request, None),
    };
    let mut pool = Pool::open(request).await?;
    let standing = Standing::open(request).await?;
    let explained = |error| match &standing {
        Some(standing) => standing.explained(error),
        None => error,
    };
    let pairs = standing.as_ref().map_or(&request.tables, |standing| &standing.tables);
    pool.pairs.clone_from(pairs);
    let shared = same::is_shared(&mut pool.control).await?;
    let began = (pool.evidence().await?, tokio::time::Instant::now());
    // All tables are looked up before the first is compared: a typing error must not come out after hours.
    let mut known = look_up_all(&mut pool, request).await.map_err(explained)?;
    // What a table lacks may only be late.
    if let Some(standing) = standing.as_ref().filter(|_| known.iter().any(|pair| pair.plan.is_different))
        && standing.catch_up(request).await?.is_none()
    {
        known = look_up_all(&mut pool, request).await.map_err(explained)?;
    }
    lookup::check(&known, &request.options)?;
    if let Some(directory) = &request.options.state {
        let plans: Vec<_> = known.iter().map(|pair| pair.plan.clone()).collect();
        pool.state = Some(State::open(directory, request, &plans)?);
    }
    let mut positions = [0, 1].map(|side| began.0.position(side));
    if let Some(state) = &mut pool.state
        && let Some(first) = state.begin(&positions)?
    {
        pool.still =
            [0, 1].map(|side| pool.still[side] && first[side].is_some() && first[side] == positions[side]);
        positions = first;
    }
    let mut tables = Vec::with_capacity(pairs.len());
    let mut complete = true;
    for (number, (pair, known)) in pairs.iter().zip(known).enumerate() {
        let compared =
            one_table(&mut pool, (number, pair, known), &began, standing.as_ref(), progress, keep).await;
        let (table, whole) = compared.map_err(explained)?;
        complete &= whole;
        tables.push(table);
    }
    tables.extend(lonely.iter().flat_map(|listing| listing.reports()));
    let after = pool.evidence().await?;
    let still = pool.still;
    let server = |shards: &Shards, side: usize| ServerReport {
        address: shards.told(|session| session.address.clone()),
        version: shards.told(|session| session.info.to_string()),
        position_before: positions[side].clone(),
        position_after: after.position(side),
        stood_still: still[side],
    };
    let mut report = Report {
        verdict: tables.iter().map(|t| t.verdict).max().unwrap_or(Verdict::NotProven),
        tables,
        source: server(&pool.control.source, 0),
        target: server(&pool.control.target, 1),
        digest: DIGEST.into(),
        started: rfc3339(started),
        elapsed_seconds: clock.elapsed().as_secs_f64(),
        notes: Vec::new(),
        not_verified: Vec::new(),
        command: request.command(),
        repair: None,
        finished_state: None,
    };
    note(&mut report, request, shared);
    if let Some(listing) = lonely {
        report.notes.push("all tables are compared that the accounts may see".into());
        report.not_verified.clone_from(&listing.left_out);
    }
    if pool.finished_before > 0 {
        let resumed = pool.finished_before;
        report
            .notes
            .push(format!("{resumed} tables were compared by an earlier run, as {} says", state_of(request)));
    }
    let waited = pool.throttle.waited().as_secs_f64();
    if waited > 0.0 {
        report
            .notes
            .push(format!("chunks were held back for {waited:.1} s in all by --max-load or --max-lag"));
    }
    if let Some(standing) = &standing {
        report.notes.push(standing.note(request).await?);
    }
    report.finished_state = pool.state.take().filter(|_| complete).map(State::into_path);
    pool.close().await;
    Ok(report)
}

async fn look_up_all(pool: &mut Pool<'_>, request: &Request) -> Result<Vec<Pair>, Error> {
    let mut known = Vec::with_capacity(pool.pairs.len());
    for pair in &pool.pairs {
        known.push(look_up(&mut pool.control, pair, &pool.pairs, request).await?);
    }
    Ok(known)
}

async fn one_table(
    pool: &mut Pool<'_>,
    (number, pair, known): (usize, &TablePair, Pair),
    began: &(Evidence, tokio::time::Instant),
    standing: Option<&Standing>,
    progress: &(dyn Fn(Progress) + Sync),
    keep: &mut (dyn FnMut(Found) + Send),
) -> Result<(TableReport, bool), Error> {
    if let Some(report) = pool.finished(number, &known.plan).await? {
        progress(Progress::Done { table: report.table.clone(), verdict: report.verdict });
        return Ok((report, true));
    }
    let clock = Instant::now();
    let start = (pool.evidence().await?, tokio::time::Instant::now());
    // Where nothing was written since, a table is as it was when all were looked up.
    let known = match began.0.both_stood_still(&start.0) {
        true => known,
        false => look_up(&mut pool.control, pair, &pool.pairs, pool.request).await?,
    };
    let plan = known.plan.clone();
    let table = pair.source.clone();
    progress(Progress::Table { table: table.clone(), rows_estimated: known.rows_estimated() });
    let watched = Identity::watch(&mut pool.control, &plan).await?;
    let anew = match &mut pool.state {
        Some(state) => state.watch(number, watched.lasting())?,
        None => false,
    };
    let start = (pool.evidence().await?, tokio::time::Instant::now());
    let mut run = TableRun {
        plan: &plan,
        is_innodb: known.is_innodb(),
        sessions: &mut pool.control,
        workers: &mut pool.workers,
        throttle: &mut pool.throttle,
        memory: Memory { state: pool.state.as_mut(), table: number, deadline: pool.deadline },
        cut_short: None,
        resumed_rows: None,
        options: &pool.options,
        progress,
        name: &pair.source,
        engine: pool.options.engine,
        engine_reason: "asked for".into(),
        preference: &mut pool.preference,
        found: Tally::default(),
        room: Room::of(pool.options.max_suspects),
        began,
        tiles: Tiles::default(),
        damaged: Arc::default(),
        witness: standing.map(|standing| (&standing.witness, pool.request)),
    };
    let proof = run.run(&start).await?;
    let mut rows = run.describe(proof.differences).await?;
    let counts = run.counts();
    let mut reasons = plan.unproven.clone();
    reasons.extend(proof.reasons);
    let end = Evidence::read(run.sessions, run.workers).await?;
    // Whatever the servers say they wrote: not every DDL is logged.
    let replaced = watched.replaced(run.sessions, &plan).await?;
    let late = match standing.filter(|_| plan.is_different) {
        Some(standing) => standing.catch_up(pool.request).await?,
        None => None,
    };
    let later = look_up(run.sessions, pair, &pool.pairs, pool.request).await?;
    let altered = known.altered(&later).or(replaced);
    // They were compared in the form of what the table was, or are another table's.
    let are_its_rows = altered.is_none();
    rows.iter_mut().for_each(|row| row.confirmed &= are_its_rows);
    let doubt = late.or(altered);
    let lacks_columns = plan.is_different && doubt.is_none();
    reasons.extend(doubt);
    let found = match (are_its_rows, proof.differences) {
        (false, _) => Counts::default(),
        (true, true) => counts,
        (true, false) => run.proven(),
    };
    let unconfirmed = counts.differing() - found.differing();
    let complete = run.cut_short.is_none();
    let is_empty = complete && run.found.source_rows + run.found.target_rows == 0;
    if is_empty && !plan.filters.is_empty() {
        reasons.push("no row of either side fulfils the condition: nothing was compared".into());
    }
    let differs = lacks_columns || found.differing() > 0;
    let verdict = match (differs, reasons.is_empty()) {
        (true, _) => Verdict::Different,
        (false, false) => Verdict::NotProven,
        (false, true) => Verdict::Equal,
    };
    let mut schema_notes = plan.schema_notes.clone();
    if let Some(rows) = run.resumed_rows.filter(|rows| *rows > 0) {
        schema_notes.push(format!("{rows} rows of the source were compared by an earlier run"));
    }
    if anew {
        schema_notes.push("compared anew: it may be another table than the one of an earlier run".into());
    }
    if is_empty && plan.filters.is_empty() {
        schema_notes.push("the table is empty on both sides".into());
    }
    progress(Progress::Done { table: table.clone(), verdict });
    keep(Found {
        pair: pair.clone(),
        plan: plan.clone(),
        suspects: std::mem::take(&mut run.found.suspects),
        uncounted: run.found.uncounted.differing(),
        confirmed: unconfirmed == 0,
    });
    let report = TableReport {
        table,
        target_table: pair.target.clone(),
        verdict,
        processed_rows: run.found.matching + counts.differing() + run.found.undigested,
        matching_rows: run.found.matching,
        mismatched_rows: found.mismatched,
        extra_rows_source: found.extra_source,
        extra_rows_target: found.extra_target,
        unconfirmed_rows: unconfirmed,
        rows,
        not_verified: plan.not_verified.clone(),
        reasons,
        not_compared_from: run.not_compared_from(),
        schema: plan.schema.clone(),
        schema_notes,
        source_rows: run.found.source_rows,
        target_rows: run.found.target_rows,
        engine: run.engine.as_str().into(),
        engine_reason: run.engine_reason.clone(),
        key: plan.key().iter().map(|c| c.name.clone()).collect(),
        chunks: run.found.chunks,
        elapsed_seconds: clock.elapsed().as_secs_f64(),
    };
    pool.take_down(end);
    if let Some(state) = pool.state.as_mut().filter(|_| complete) {
        state.table(number, &report)?;
    }
    Ok((report, complete))
}

fn state_of(request: &Request) -> String {
    request.options.state.as_ref().map(|directory| directory.display().to_string()).unwrap_or_default()
}

fn note(report: &mut Report, request: &Request, shared: bool) {
    if shared && request.tables.iter().any(|t| t.source == t.target) {
        report.notes.push("source and target are the same: tables were compared with themselves".into());
    }
    for (side, server) in [("source", &report.source), ("target", &report.target)] {
        if !server.stood_still {
            let what = format!(
                "the {side} was written to during the comparison (or its position cannot be read): equal rows were equal \
                 when they were read, at different moments"
            );
            report.notes.push(what);
        }
    }
}
