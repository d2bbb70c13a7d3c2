//! A harness that is broken on purpose never says that a move converged, and names the part that is missing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/servers.rs"]
mod support;

use std::path::PathBuf;
use std::sync::Arc;

use converge_chaos::server::ServerBinary;
use converge_scenarios::mutant::Mutant;
use converge_scenarios::rehearsal::{self, Options};
use converge_scenarios::scenario::Scenario;
use converge_scenarios::verdict::{Finding, RunReport, Verdict};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Short, with a fault that costs answers and one of the network.
const SHORT: &str = "
name = 'mutant'
settle_seconds = 0.5
limit_seconds = 120
[copy]
rows_per_second = 2500
chunk_rows = 400
[least]
each_kind = 3
during_copy = 30
[load]
rows = 6000
statements_per_second = 800.0
[[fault]]
kind = 'kill_source'
at_copied = 0.2
hold_seconds = 0.2
[[fault]]
kind = 'network_down'
hold_seconds = 0.3
";

async fn rehearse(server: &ServerBinary, mutant: Option<Mutant>) -> RunReport {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("scenario.toml");
    std::fs::write(&file, SHORT).unwrap();
    let options = Options {
        scenario: Scenario::read(&file).unwrap(),
        seed: 5,
        servers: server.clone().into(),
        program: PathBuf::from(env!("CARGO_BIN_EXE_converge")),
        directory: directory.path().join("run"),
        replay: String::new(),
        toxiproxy: None,
        keep: false,
        mover_environment: Vec::new(),
        mutant,
    };
    rehearsal::run(&options, Arc::new(|_| {})).await.unwrap()
}

/// One control on each kind of server, and each mutant on one of them: what is broken has nothing to do with servers.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_harness_proves_nothing() {
    let servers = support::servers();
    let controls = servers.iter().map(|server| (server, None));
    let mutants = Mutant::ALL.into_iter().map(Some);
    let (places, mut runs) = (Arc::new(Semaphore::new(3)), JoinSet::new());
    for (server, mutant) in controls.chain(servers.iter().cycle().zip(mutants)) {
        let (server, places) = (server.clone(), places.clone());
        runs.spawn(async move {
            let _place = places.acquire().await;
            (server.info.to_string(), mutant, rehearse(&server, mutant).await)
        });
    }
    while let Some(ended) = runs.join_next().await {
        let (info, mutant, report) = ended.unwrap();
        let told = format!("{info}, {mutant:?}: {:?} {:?}", report.verdict, report.oracles);
        eprintln!("{info}, {}: {}", mutant.map_or("control", Mutant::id), report.verdict.words());
        let Some(mutant) = mutant else {
            assert_eq!(report.verdict, Verdict::Converged, "{told}");
            continue;
        };
        assert_eq!(report.verdict, Verdict::NotProven, "{told}");
        let unknown = report.oracles.iter().filter(|oracle| oracle.finding == Finding::Unknown);
        assert!(unknown.into_iter().any(|oracle| oracle.name == mutant.noticed_by()), "{told}");
    }
}
