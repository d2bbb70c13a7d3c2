//! `converge simulate`.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use converge_mover::copy::Strategy;
use converge_mover::simulation::{self, Outcome as End, Plan, Tally, Transaction};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{Failure, Format, Outcome, interrupted, print, print_json};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  converge simulate --worlds 1000000 --seed 1
  converge simulate --copy-strategy delete_history
  converge simulate --copy-strategy naive

Each world is a source, a target, a few clients and the mover's own code in
memory, with crashes, lost connections and changes that are logged before they
are visible; what happens when is drawn from the seed. The first world that
does not converge ends the search: it is made as small as it goes and told
step by step. `naive` is wrong on purpose: it shows what the others protect
from. No server is needed, and nothing is shown about real ones.")]
pub struct Arguments {
    /// How chunks are protected
    #[arg(long, value_name = "STRATEGY", default_value_t, value_parser = strategy)]
    copy_strategy: Strategy,
    /// How many worlds
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    worlds: u64,
    /// The first world's seed; each further world has the next number [default: drawn and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How to answer on standard output
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// A strategy. Elsewhere nobody should choose the one that is wrong on purpose; here it is worth seeing.
fn strategy(text: &str) -> Result<Strategy, String> {
    text.parse().map_err(|_| {
        let all = Strategy::SAFE.into_iter().chain([Strategy::Naive]).map(Strategy::name);
        format!("there is no copy strategy {text:?}, only {}", all.collect::<Vec<_>>().join(", "))
    })
}

/// Runs many worlds.
pub async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let (strategy, worlds) = (arguments.copy_strategy, arguments.worlds);
    note!("seed {seed}   strategy {strategy}   {worlds} worlds");
    let bar = bar(worlds);
    // The worlds have a clock of their own, which this thread's runtime must not share.
    let searching = tokio::task::spawn_blocking(move || {
        // What the mover logs in its worlds is in their stories.
        let _quiet = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
        let began = Instant::now();
        let tally = simulation::search(strategy, seed, worlds, |done| bar.set_position(done));
        let took = began.elapsed();
        bar.finish_and_clear();
        let failure = tally.failed.clone().map(|(plan, end)| told(plan, end));
        (tally, failure, took)
    });
    let (tally, failure, took) = tokio::select! {
        result = searching => result.map_err(|e| Failure::new(format!("the simulation broke: {e}")))?,
        signal = interrupted() => {
            note!("{signal}: not all worlds were run");
            return Ok(Outcome::NotProven);
        }
    };
    answer(&arguments, seed, &tally, failure.as_ref(), took)?;
    Ok(if failure.is_some() { Outcome::Different } else { Outcome::Good })
}

/// A failed world, as small as it goes: its end, its plan, and what happened.
struct Told {
    end: End,
    plan: Plan,
    story: Vec<String>,
}

fn told(plan: Plan, end: End) -> Told {
    let (plan, end) = simulation::shrink(&plan).unwrap_or((plan, end));
    let (_, story) = simulation::traced(&plan);
    Told { end, plan, story }
}

fn bar(worlds: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("[{elapsed_precise}] {bar:32} {pos} of {len} worlds, {per_sec}, {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(worlds).with_style(style)
}

fn words(end: &End) -> String {
    match end {
        End::Converged => "source and target are equal".into(),
        End::Diverged(what) => format!("diverged: {what}"),
        End::Stopped(what) => format!("the mover stopped without need: {what}"),
        End::Stuck(what) => format!("stuck: {what}"),
    }
}

/// The smallest world as data.
fn plan_json(plan: &Plan) -> Value {
    let transaction = |t: &Transaction| {
        let statements: Vec<String> = t.ops.iter().map(ToString::to_string).collect();
        json!({"table": t.table, "statements": statements, "commits": t.commit})
    };
    let client = |client: &Vec<Transaction>| client.iter().map(transaction).collect::<Vec<_>>();
    let faults =
        plan.faults.iter().map(|f| json!({"after_steps": f.at, "kind": snake(&format!("{:?}", f.kind))}));
    json!({
        "strategy": plan.strategy.name(),
        "schedule": plan.schedule,
        "chunk_rows": plan.chunk_rows,
        "unique_key": plan.unique,
        "order": plan.order.map(|order| order.map(|moment| snake(&format!("{moment:?}")))),
        "tables": plan.tables,
        "clients": plan.clients.iter().map(client).collect::<Vec<_>>(),
        "faults": faults.collect::<Vec<_>>(),
        "switch_after_steps": (plan.switch_after < u64::MAX).then_some(plan.switch_after),
    })
}

/// `SourceCrash` as `source_crash`.
fn snake(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(c.to_lowercase());
    }
    text
}

fn answer(
    arguments: &Arguments,
    seed: u64,
    tally: &Tally,
    failure: Option<&Told>,
    took: Duration,
) -> Result<(), Failure> {
    let run = tally.converged + tally.stopped + u64::from(failure.is_some());
    let rate = run as f64 / took.as_secs_f64().max(1e-9);
    let last = seed.wrapping_add(run.saturating_sub(1));
    if arguments.format == Format::Json {
        let failure = failure.map(|told| {
            json!({"outcome": words(&told.end), "world": run, "seed": last, "plan": plan_json(&told.plan), "story": told.story})
        });
        return print_json(&json!({
            "strategy": arguments.copy_strategy.name(), "seed": seed, "worlds": run,
            "converged": tally.converged, "stopped_as_they_must": tally.stopped,
            "worlds_per_second": rate.round(), "failure": failure,
        }));
    }
    let mut text = format!(
        "{run} worlds, {} converged, {} stopped as they must (purged log); {rate:.0} worlds/s\n",
        tally.converged, tally.stopped
    );
    if let Some(told) = failure {
        text.push_str(&format!(
            "\nworld {run} (seed {last}) failed; the smallest world that fails like it:\n\n{}",
            smallest(told)
        ));
    }
    print(&text)
}

/// The smallest world that fails, step by step.
fn smallest(told: &Told) -> String {
    let mut text = String::new();
    for (table, rows) in told.plan.tables.iter().enumerate() {
        let rows: Vec<String> =
            rows.iter().map(|(key, unique)| format!("(key {key}, unique {unique}, v0)")).collect();
        let rows = if rows.is_empty() { "nothing".into() } else { rows.join(" ") };
        text.push_str(&format!("  table {table} holds {rows}\n"));
    }
    for (number, line) in told.story.iter().enumerate() {
        text.push_str(&format!("{:>3}  {line}\n", number + 1));
    }
    text + &format!("\n{}\n", words(&told.end))
}
