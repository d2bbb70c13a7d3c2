//! `converge load`: the load alone, against a schema that it makes.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use converge_chaos::history::{Event, History, Kind, rfc3339};
use converge_chaos::load::{
    Counters, Load, LoadHandle, LoadPlan, Subject, Totals, check, create_database, draw_seed, prepare,
};
use converge_mysql::Address;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::arguments::{script, some_time};
use super::{Failure, Format, Outcome, interrupted, print, print_json};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  converge load --url mysql://root@127.0.0.1:3306/shop --seed 7 \\
    --sessions 16 --duration 30s --history shop.jsonl
  converge load --url mysql://root@127.0.0.1:3306/scratch \\
    --schema my-schema.sql --sessions 1000

Makes the tables in the URL's database (and the database, if it may), fills
them if they are empty, and sends inserts, updates, deletes and transactions
that a mover finds hard. `--schema existing` does that to the tables that are
there, respecting their types, keys, foreign keys and checks. A file must hold
statements that make and fill tables and nothing else: one that names another
database, or drops or changes what is there, is refused. The same seed,
sessions and rows send the same statements. Ctrl-C ends the load early, with
its summary. Never point it at data that matters.")]
pub struct Arguments {
    /// Where to: mysql://user:password@host:port/database, percent-encoded
    // Parsed later: the parser's own complaint would print the password.
    #[arg(long)]
    url: String,
    /// Whose tables: commerce, classic (the two tables of the classic migration test), types (columns and keys of every
    /// type), existing (those that are there), or a file of SQL statements that makes them
    #[arg(long, value_name = "NAME|FILE.sql", default_value = "commerce")]
    schema: String,
    /// What everything random is drawn from [default: drawn and printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Concurrent sessions
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    sessions: u32,
    /// How long, such as 30s, 2m or 1h
    #[arg(long, default_value = "30s", value_parser = some_time)]
    duration: Duration,
    /// Rows that empty tables are filled with first, and over which keys are drawn
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    rows: u64,
    /// Write every statement and its outcome to FILE, as JSON lines
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// How to print the summary
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    // From the beginning on: filling the tables takes minutes.
    let mut end = std::pin::pin!(interrupted());
    let Arguments { url, schema, seed, sessions, duration, rows, history, format } = arguments;
    let url: Address = url.parse()?;
    url.require_database()?;
    let (subject, file) = subject(schema);
    let seed = seed.unwrap_or_else(draw_seed);
    let plan = LoadPlan { seed, sessions, rows, subject, ..LoadPlan::default() };
    let say = |line: String| match format {
        Format::Text => answer!("{line}"),
        Format::Json => note!("{line}"),
    };
    // Who reads the answer through a pipe does not wait for its progress.
    let here = format == Format::Text && std::io::stdout().is_terminal();
    let tell = |line: String| if here { answer!("{line}") } else { note!("{line}") };
    let plan_json = serde_json::to_value(&plan).map_err(|e| Failure::new(e.to_string()))?;
    say(format!("load on {url}: seed {}, {sessions} sessions, {rows} rows, {duration:?}", plan.seed));
    say(format!("plan {plan_json}"));

    let history = history.map_or_else(|| Ok(History::discard()), |path| History::create(&path))?;
    history.record(Event::Run {
        wall: rfc3339(SystemTime::now()),
        seed: plan.seed,
        plan: plan_json,
        external: false,
    });
    tokio::select! {
        filled = fill(&url, file, &plan, &tell) => filled?,
        signal = &mut end => {
            note!("{signal}: tables may be filled in part; no load was sent");
            return Ok(Outcome::NotProven);
        }
    }
    let load = Load::start(url, plan.clone(), history.clone()).await?;
    let began = Instant::now();
    let totals = watch(load, duration, end, &tell).await;
    let seconds = began.elapsed().as_secs_f64();
    history.finish()?;

    match format {
        Format::Text => print(&summary(&totals, seconds))?,
        Format::Json => print_json(&object(&plan, &totals, seconds))?,
    }
    // Load that wrote nothing must not look like load.
    Ok(if totals.acknowledged_writes() > 0 { Outcome::Good } else { Outcome::NotProven })
}

/// The subject that a name stands for; what is no name is a file.
fn subject(schema: String) -> (Subject, Option<PathBuf>) {
    match schema.as_str() {
        "commerce" => (Subject::Commerce, None),
        "classic" => (Subject::Classic, None),
        "types" => (Subject::Types, None),
        "existing" => (Subject::Existing, None),
        _ => (Subject::Existing, Some(schema.into())),
    }
}

async fn fill(
    url: &Address,
    file: Option<PathBuf>,
    plan: &LoadPlan,
    tell: &impl Fn(String),
) -> Result<(), Failure> {
    let began = Instant::now();
    let script = file.map(|file| script(&file, url.require_database()?, ", existing")).transpose()?;
    check(url, plan).await?;
    if let Some(script) = script {
        create_database(url).await?;
        script.run(url).await?;
    }
    for note in prepare(url, plan).await? {
        tell(note);
    }
    tell(format!(
        "the tables are ready after {:.1} s; those that were empty are filled",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Prints progress each second until the time is over or somebody stops the load, then ends it.
async fn watch(
    load: LoadHandle,
    duration: Duration,
    mut end: Pin<&mut impl Future<Output = &'static str>>,
    tell: &impl Fn(String),
) -> Totals {
    let began = Instant::now();
    let counters: Arc<Counters> = load.counters();
    let mut each_second = interval_at(began + Duration::from_secs(1), Duration::from_secs(1));
    each_second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut before = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(began + duration) => break,
            _ = &mut end => break,
            _ = each_second.tick() => {
                let totals = counters.totals();
                let sum = totals.sum();
                tell(format!(
                    "{:>4} s  {:>6} statements/s  ok {}  fail {}  unknown {}  acknowledged writes {}",
                    began.elapsed().as_secs(), sum.ok.saturating_sub(before), sum.ok, sum.fail, sum.info,
                    totals.acknowledged_writes()
                ));
                before = sum.ok;
            }
        }
    }
    load.stop().await
}

fn summary(totals: &Totals, seconds: f64) -> String {
    let mut text =
        format!("{:<14} {:>9} {:>9} {:>9} {:>12}\n", "statement", "ok", "fail", "unknown", "acknowledged");
    for (kind, c) in &totals.kinds {
        text +=
            &format!("{:<14} {:>9} {:>9} {:>9} {:>12}\n", kind.name(), c.ok, c.fail, c.info, c.acknowledged);
    }
    let writes = totals.acknowledged_writes();
    text + &format!("{writes} writes acknowledged in {seconds:.1} s\n")
}

fn object(plan: &LoadPlan, totals: &Totals, seconds: f64) -> serde_json::Value {
    let kinds: serde_json::Map<String, serde_json::Value> =
        totals.kinds.iter().map(|(kind, counts): &(Kind, _)| (kind.name().into(), json!(counts))).collect();
    json!({
        "seed": plan.seed,
        "plan": plan,
        "seconds": seconds,
        "acknowledged_writes": totals.acknowledged_writes(),
        "statements": kinds,
    })
}
