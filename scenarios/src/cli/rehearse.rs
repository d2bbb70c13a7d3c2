//! `converge rehearse`.

mod progress;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use converge_chaos::history::rfc3339;
use converge_scenarios::cause::Cause;
use converge_scenarios::rehearsal::{self, External, Leftovers, Options, Servers};
use converge_scenarios::report;
use converge_scenarios::saved::SavedRun;
use converge_scenarios::scenario::Scenario;
use converge_scenarios::shell;
use converge_scenarios::verdict::RunReport;

use super::arguments::{check_schema, chosen_server, program, server_of};
use super::{Failure, Format, Outcome, drawn_seed, interrupted, print as tell, print_json};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  converge rehearse
  converge rehearse --seed 7 --server mariadb --report /tmp/report
  converge rehearse --swarm --seed 12
  converge rehearse my-scenario.toml --format json
  converge rehearse --schema my-schema.sql
  converge rehearse --replay runs/default-7-20261121140000
  converge rehearse --image mysql:8.4
  converge rehearse --source-url mysql://root:pw@db1:3306/ \\
    --target-url mysql://root:pw@db2:3306/

Starts two private servers on loopback, seeds a commerce schema, moves tables
while randomized DML runs, kills servers and the mover and drops the network
on the way, switches traffic, compares, and gives a verdict. Nothing outside
the report's directory is touched, and nothing is left running. `plan.toml` in
a report's directory is a complete scenario to start from; `--replay` runs it
again and says whether it ended for the same cause. The same statements are
sent again; what meets what in time may differ, so a failure that is rare may
need several replays.

With --source-url and --target-url the rehearsal is on two servers that are
there already. It makes the databases `commerce` and `_converge` and an
account on both, and drops them at its end, on Ctrl-C and when its terminal
goes away; settings that a fault changes (read_only, super_read_only,
max_connections) get their former values back (a SIGKILL leaves all of it). The
accounts in the URLs must be administrators. Faults that need the servers' hosts
are refused by name: kill_source, kill_target, restart, pause, unplug,
network_down_restart, disk_full, failover, restore_to_past.

With --docker or --image both servers run in containers, each in a network of
its own, on ports of the loopback interface; containers and networks are gone
afterwards. Faults besides: `unplug` pulls a container's cable; disk_full,
failover and restore_to_past are refused.")]
pub struct Arguments {
    /// A scenario in TOML [default: the built-in one, drawn from the seed]
    scenario: Option<PathBuf>,
    /// Whose tables: commerce, classic, types, or a file of SQL statements that makes them
    #[arg(long, value_name = "NAME|FILE.sql")]
    schema: Option<String>,
    /// Rehearse again what was rehearsed in this directory: its plan.toml, with its seed, on its kind of server
    #[arg(long, value_name = "RUN_DIR", conflicts_with_all = ["scenario", "schema", "swarm"])]
    replay: Option<PathBuf>,
    /// Draw faults and load from the seed instead: other kinds of faults, on either side, in each plan
    #[arg(long, conflicts_with = "scenario")]
    swarm: bool,
    /// What everything random is drawn from [default: load.seed in the scenario, or drawn and printed; with --replay that
    /// of the run]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The server: mysql, mariadb, or a path to a mysqld or mariadbd [default: the first one found; with --replay that of
    /// the run]
    #[arg(long, value_name = "KIND|PATH")]
    server: Option<String>,
    /// Run the servers in Docker containers (a build with --features docker); their own fault is `unplug`
    #[arg(long, conflicts_with_all = ["server", "keep", "source_url"])]
    docker: bool,
    /// The containers' image, which is pulled if it is not there; implies --docker [default: mysql:8.4]
    #[arg(long, value_name = "NAME:TAG", conflicts_with_all = ["server", "keep", "source_url"])]
    image: Option<String>,
    /// Rehearse from this server, instead of from a private one: mysql://user:password@host:port/
    // Parsed later: the parser's own complaint would print the password.
    #[arg(long, value_name = "URL", requires = "target_url", conflicts_with_all = ["server", "keep", "swarm"])]
    source_url: Option<String>,
    /// And to this one
    #[arg(long, value_name = "URL", requires = "source_url")]
    target_url: Option<String>,
    /// Write to databases there that are not the rehearsal's own, and purge logs, if it comes to that
    #[arg(long, requires = "source_url")]
    i_know: bool,
    /// Where the report goes [default: runs/NAME-SEED-TIME]
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// How to answer on standard output
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Keep the servers' data directories
    #[arg(long)]
    keep: bool,
    /// Use this Toxiproxy server's API (such as that of `converge proxy`) instead of the built-in proxy
    #[arg(long, value_name = "URL", value_parser = api)]
    toxiproxy: Option<String>,
}

/// The address of an HTTP API.
fn api(text: &str) -> Result<String, String> {
    let place = text.strip_prefix("http://").map(|place| place.trim_end_matches('/'));
    let port = place.and_then(|place| place.rsplit_once(':')).filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("give http://HOST:PORT, as in http://127.0.0.1:8474".into()),
    }
}

/// Runs a rehearsal.
pub async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let Plan { scenario, seed, servers, saved } = plan(&arguments)?;
    let directory = arguments.report.clone().unwrap_or_else(|| default_directory(&scenario.name, seed));
    let options = Options {
        seed,
        program: program()?,
        replay: replay(&arguments, seed, &servers),
        directory,
        toxiproxy: arguments.toxiproxy,
        keep: arguments.keep,
        mover_environment: Vec::new(),
        mutant: None,
        scenario,
        servers,
    };
    introduce(&options, arguments.format);
    let progress = if std::io::stderr().is_terminal() { progress::bars() } else { progress::lines() };
    let report = tokio::select! {
        report = rehearsal::run(&options, progress) => report?,
        signal = interrupted() => {
            let servers = match &options.servers {
                Servers::External(theirs) if theirs.left.any() => {
                    "proxy and mover are stopped, but NOT all that was made or set on the two servers is undone: see above"
                }
                Servers::External(_) => {
                    "proxy and mover are stopped, and what was made on the two servers is removed"
                }
                _ => "servers, proxy and mover are stopped",
            };
            note!("{signal}: {servers}; not proven");
            return Ok(Outcome::NotProven);
        }
    };
    print(&report, &options, arguments.format)?;
    if let Some(run) = saved {
        compare(&report, run.report.as_ref(), arguments.format);
    }
    Ok(report.verdict.into())
}

/// What is rehearsed: by which plan, from which seed, on which server, and what it repeats.
struct Plan {
    scenario: Scenario,
    seed: u64,
    servers: Servers,
    saved: Option<SavedRun>,
}

fn plan(arguments: &Arguments) -> Result<Plan, Failure> {
    if let Some(directory) = &arguments.replay {
        return repeated(arguments, directory);
    }
    let file = arguments.scenario.as_deref().map(Scenario::read).transpose()?;
    let in_file = file.as_ref().map(|scenario| scenario.load.seed).filter(|seed| *seed > 0);
    let seed = arguments.seed.or(in_file).unwrap_or_else(drawn_seed);
    let scenario = match file {
        Some(scenario) => scenario,
        None if arguments.swarm => Scenario::swarm(seed),
        None if arguments.source_url.is_some() => Scenario::external(seed),
        None => Scenario::standard(seed),
    };
    let scenario = match &arguments.schema {
        Some(schema) => scenario.with_schema(schema),
        None => scenario,
    };
    scenario.check().map_err(|why| {
        Failure::new(format!("the scenario does not fit its schema: {why}"))
            .with_help("name tables of that schema in the scenario, or none: then all that can be are moved")
    })?;
    check_schema(&scenario)?;
    let servers = match elsewhere(arguments)? {
        Some(servers) => servers,
        None => chosen_server(arguments.server.as_deref())?.into(),
    };
    Ok(Plan { scenario, seed, servers, saved: None })
}

/// The servers, unless they are processes of this machine.
fn elsewhere(arguments: &Arguments) -> Result<Option<Servers>, Failure> {
    if arguments.docker || arguments.image.is_some() {
        return contained(arguments.image.as_deref().unwrap_or("mysql:8.4")).map(Some);
    }
    Ok(external(arguments)?.map(|external| Servers::External(Box::new(external))))
}

#[cfg(feature = "docker")]
fn contained(image: &str) -> Result<Servers, Failure> {
    Ok(Servers::Docker(image.to_owned()))
}

#[cfg(not(feature = "docker"))]
fn contained(_: &str) -> Result<Servers, Failure> {
    Err(Failure::new("this converge was built without Docker")
        .with_help("build it with: cargo build --release -p converge-scenarios --features docker"))
}

/// The servers that the URLs name.
fn external(arguments: &Arguments) -> Result<Option<External>, Failure> {
    let (Some(source), Some(target)) = (&arguments.source_url, &arguments.target_url) else {
        return Ok(None);
    };
    let (source, target, i_know) = (source.parse()?, target.parse()?, arguments.i_know);
    Ok(Some(External { source, target, i_know, left: Leftovers::default() }))
}

/// The plan of a saved run, with its seed, on a server like its own.
fn repeated(arguments: &Arguments, directory: &Path) -> Result<Plan, Failure> {
    let run = SavedRun::read(directory)?;
    check_schema(&run.scenario)?;
    let same = |report: &Path| {
        report.canonicalize().ok().is_some_and(|r| directory.canonicalize().is_ok_and(|d| d == r))
    };
    if arguments.report.as_deref().is_some_and(same) {
        return Err(Failure::new(format!("{} is the run that is to be repeated", directory.display()))
            .with_help("name another directory with --report, or leave it out"));
    }
    let seed = arguments.seed.or(run.seed).ok_or_else(|| {
        Failure::new(format!("neither verdict nor history in {} tells the run's seed", directory.display()))
            .with_help("give it with --seed; any seed runs the plan")
    })?;
    let servers = match elsewhere(arguments)? {
        Some(servers) => servers,
        None => server_of(&run, arguments.server.as_deref())?.into(),
    };
    Ok(Plan { scenario: run.scenario.clone(), seed, servers, saved: Some(run) })
}

/// How the verdict stands to that of the run which was repeated.
fn compare(report: &RunReport, saved: Option<&RunReport>, format: Format) {
    let text = match saved {
        Some(saved) => Cause::of(report).against(&Cause::of(saved)),
        None => "the saved run came to no verdict".into(),
    };
    match format {
        Format::Text => answer!("replay: {text}"),
        Format::Json => note!("replay: {text}"),
    }
}

fn default_directory(name: &str, seed: u64) -> PathBuf {
    let time: String = rfc3339(SystemTime::now()).chars().filter(char::is_ascii_digit).take(14).collect();
    Path::new("runs").join(format!("{name}-{seed}-{time}"))
}

/// The command that does the same again, for a shell.
fn replay(arguments: &Arguments, seed: u64, servers: &Servers) -> String {
    let mut words = vec![super::arguments::program_word(), "rehearse".into()];
    words.extend(arguments.scenario.as_ref().map(|path| path.display().to_string()));
    words.extend(arguments.replay.iter().flat_map(|run| ["--replay".into(), run.display().to_string()]));
    words.extend(arguments.schema.iter().flat_map(|schema| ["--schema".into(), schema.clone()]));
    words.extend(arguments.swarm.then(|| "--swarm".to_owned()));
    words.extend(["--seed".into(), seed.to_string()]);
    words.extend(match servers {
        Servers::Private(binary) => vec!["--server".into(), binary.path.display().to_string()],
        #[cfg(feature = "docker")]
        Servers::Docker(image) => vec!["--image".into(), image.clone()],
        Servers::External(external) => {
            let (source, target) = (external.source.without_password(), external.target.without_password());
            vec!["--source-url".into(), source, "--target-url".into(), target]
        }
    });
    words.extend(arguments.i_know.then(|| "--i-know".to_owned()));
    words.extend(arguments.toxiproxy.iter().flat_map(|url| ["--toxiproxy".into(), url.clone()]));
    shell::command(words.iter().map(String::as_str))
}

/// Seed and plan come first, so that a run that never ends can be repeated too.
fn introduce(options: &Options, format: Format) {
    let scenario = &options.scenario;
    let mut text = format!(
        "seed {}   server {}   report {}\n",
        options.seed,
        options.servers,
        options.directory.display()
    );
    text.push_str(&format!(
        "plan {}: move {} ({}), {} rows seeded, {} sessions of load\n",
        scenario.name,
        if scenario.tables.is_empty() { "all tables that can be".into() } else { scenario.tables.join(", ") },
        scenario.copy.strategy,
        scenario.load.rows,
        scenario.load.sessions
    ));
    for fault in &scenario.faults {
        let when = match fault.at_copied {
            Some(share) => format!("at {:.0}% of the copy", share * 100.0),
            None => "during replication".into(),
        };
        text.push_str(&format!("  {} {when}, for {:.1} s\n", fault.name(), fault.hold_seconds));
    }
    match format {
        Format::Text => answer!("{text}"),
        Format::Json => note!("{text}"),
    }
}

fn print(report: &RunReport, options: &Options, format: Format) -> Result<(), Failure> {
    match format {
        Format::Text => {
            let page = options.directory.join("report.html");
            tell(&format!("\nreport: {}\n{}\n", page.display(), report::text(report)))
        }
        Format::Json => print_json(report),
    }
}
