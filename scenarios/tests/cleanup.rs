//! However and whenever a rehearsal ends, no process, no port and no directory of it is left: by itself, by an error,
//! and by a signal in each of its parts.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/servers.rs"]
mod support;
#[path = "support/traces.rs"]
mod traces;

use std::net::TcpListener;
use std::time::Duration;

use nix::sys::signal::Signal;
use traces::Watched;

/// What a rehearsal consists of: itself, two servers with a watchdog each, and the mover.
const ALL: usize = 6;
/// When it could clean up, next to nothing is left to wait for.
const SOON: Duration = Duration::from_secs(2);
/// When it could not, whoever notices must.
const LATER: Duration = Duration::from_secs(15);

const SHORT: &str = "
settle_seconds = 0.0
least = { each_kind = 1, during_copy = 1 }
copy = { rows_per_second = 2000, chunk_rows = 500 }
load = { rows = 3000, statements_per_second = 800.0 }
";

/// Goes through its parts and then stays in the last for longer than anybody waits.
const LONG: &str = "
copy = { rows_per_second = 2000, chunk_rows = 200 }
load = { rows = 3000, statements_per_second = 300.0 }
[[fault]]
kind = 'kill_source'
at_copied = 0.2
hold_seconds = 0.5
[[fault]]
kind = 'network_down'
hold_seconds = 300.0
";

#[test]
fn a_rehearsal_that_ends_by_itself_leaves_nothing() {
    for server in support::servers() {
        let mut good = Watched::start(&server, SHORT, &[]);
        assert_eq!(good.ended(), Some(0), "{}", good.output());
        good.assert_gone(ALL, SOON);

        let mut late = Watched::start(&server, &format!("limit_seconds = 15.0\n{LONG}"), &[]);
        assert_eq!(late.ended(), Some(3), "{}", late.output());
        // In one line each, however wide.
        let output = late.output().split_whitespace().collect::<Vec<_>>().join(" ");
        let limit = "the time limit of 15 s (`limit_seconds` in the scenario) ended the run";
        assert_eq!(output.matches(limit).count(), 2, "beside its oracle and as the reason: {output}");
        assert_eq!(output.matches("therefore not decided: ").count(), 1, "{output}");
        assert!(!output.contains("could not tell"), "{output}");
        // A slow machine does not come so far.
        if output.contains("network_down: injecting") {
            let cut_short = "network_down was injected and still going on when the time limit ended the run";
            assert!(output.contains(cut_short) && !output.contains("never injected"), "{output}");
        }
        late.assert_gone(ALL - 1, SOON);
    }
}

#[test]
fn a_rehearsal_that_fails_leaves_nothing() {
    for server in support::servers() {
        // A proxy that takes connections and says nothing, until it is gone.
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", proxy.local_addr().unwrap());
        let mut without_proxy = Watched::start(&server, SHORT, &["--toxiproxy", &url]);
        without_proxy.until_running(ALL - 1);
        drop(proxy);
        assert_eq!(without_proxy.ended(), Some(2), "{}", without_proxy.output());
        assert!(without_proxy.output().contains("what to do:"), "{}", without_proxy.output());
        without_proxy.assert_gone(ALL - 1, SOON);

        let mut without_mover = Watched::start(&server, LONG, &[]);
        without_mover.until("copying:");
        without_mover.until_running(ALL);
        without_mover.kill_mover();
        assert_eq!(without_mover.ended(), Some(3), "{}", without_mover.output());
        without_mover.assert_gone(ALL, SOON);
    }
}

/// Sends a signal once a line was printed.
fn interrupt(words: &str, processes: usize, signal: Signal) {
    for server in support::servers() {
        eprintln!("{signal} at {words:?} on {}", server.info);
        let mut run = Watched::start(&server, LONG, &[]);
        run.until(words);
        run.until_running(processes);
        run.signal(signal);
        let ended = run.ended();
        if signal == Signal::SIGKILL {
            assert_eq!(ended, None);
            run.assert_gone(processes, LATER);
        } else {
            assert_eq!(ended, Some(3), "{}", run.output());
            assert!(run.output().contains("not proven"), "{}", run.output());
            run.assert_gone(processes, SOON);
        }
    }
}

/// The command that switches traffic would go on trying for as long as it may.
#[test]
fn sigkill_while_traffic_is_switched_leaves_nothing() {
    for server in support::servers() {
        let mut run = Watched::start(&server, SHORT, &[]);
        run.until("-- fencing writes");
        run.until_running(ALL);
        run.signal(Signal::SIGKILL);
        assert_eq!(run.ended(), None);
        run.assert_gone(ALL, LATER);
    }
}

#[test]
fn ctrl_c_while_servers_start_leaves_nothing() {
    interrupt("-- starting two private servers", ALL - 1, Signal::SIGINT);
}

#[test]
fn termination_while_rows_are_seeded_leaves_nothing() {
    interrupt("-- seeding", ALL - 1, Signal::SIGTERM);
}

#[test]
fn a_kill_while_the_source_is_down_leaves_nothing() {
    interrupt("kill_source: injecting", ALL, Signal::SIGKILL);
}

#[test]
fn ctrl_c_while_the_network_is_down_leaves_nothing() {
    interrupt("network_down: injecting", ALL, Signal::SIGINT);
}
