//! Faults of a server as a whole, and of processes: killed, shut down, stopped in its tracks, cut off.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use super::Record;
#[cfg(feature = "docker")]
use super::probe::broken;
use super::probe::{OBSERVE_TIMEOUT, greeted, refused, silent};
use crate::error::Error;
use crate::server::Machine;

/// Kills a server with SIGKILL. Returns the evidence: it is gone and its port refuses connections.
pub async fn kill_server(record: Record<'_>, server: &impl Machine) -> Result<String, Error> {
    record.inject(format!("SIGKILL to {}", server.info()));
    let gone = server.kill().await?;
    nobody_answers(record, server, gone).await
}

/// Shuts a server down cleanly. Returns the same evidence as [`kill_server`].
pub async fn stop_server(record: Record<'_>, server: &impl Machine) -> Result<String, Error> {
    record.inject(format!("clean shutdown of {}", server.info()));
    let gone = server.stop().await.map_err(|error| match error {
        Error::ServerState { .. } => record.did_not_bite("the server was not running"),
        other => other,
    })?;
    nobody_answers(record, server, gone).await
}

/// The evidence that a server has ended, and that nobody else answers in its place.
pub async fn nobody_answers(
    record: Record<'_>,
    server: &impl Machine,
    gone: String,
) -> Result<String, Error> {
    let endpoint = server.endpoint();
    let refusal = refused(record, &endpoint).await?;
    Ok(record.observed(format!("{gone}; {endpoint}: {refusal}")))
}

/// Starts a killed or stopped server again and waits until it answers queries.
pub async fn restart_server(record: Record<'_>, server: &impl Machine) -> Result<(), Error> {
    let began = Instant::now();
    server.restart().await?;
    record.healed(format!("answers queries again, {:.2} s after its start", began.elapsed().as_secs_f64()));
    Ok(())
}

/// Stops a server in its tracks. Returns the evidence: its port takes connections and nobody greets.
pub async fn pause_server(record: Record<'_>, server: &impl Machine) -> Result<String, Error> {
    record.inject(format!("{} is stopped in its tracks", server.info()));
    let stopped = server.pause().await?;
    let silence = silent(record, &server.endpoint()).await?;
    Ok(record.observed(format!("{stopped}; {silence}")))
}

/// Lets a stopped server go on and waits until it greets.
pub async fn resume_server(record: Record<'_>, server: &impl Machine) -> Result<(), Error> {
    let goes_on = server.resume().await?;
    greeted(record, &server.endpoint()).await?;
    record.healed(format!("{goes_on} and greets"));
    Ok(())
}

/// Pulls a server's network cable. Returns the evidence: a live connection to it got no further, and a new one got
/// nowhere.
#[cfg(feature = "docker")]
pub async fn unplug(record: Record<'_>, server: &crate::server::Container) -> Result<String, Error> {
    let endpoint = server.endpoint();
    let mut live = greeted(record, &endpoint).await?;
    record.inject(format!("{} is disconnected from its network", server.name()));
    server.unplug().await?;
    let before = match broken(&mut live).await {
        Some(how) => how,
        None => format!("silent for {} s", OBSERVE_TIMEOUT.as_secs()),
    };
    // Who forwards to the container may still take connections, for nobody.
    let new = match refused(record, &endpoint).await {
        Ok(refusal) => refusal,
        Err(_) => silent(record, &endpoint).await?,
    };
    Ok(record.observed(format!("a live connection to {endpoint}: {before}; a new one: {new}")))
}

/// Puts the cable back and waits until the server answers queries.
#[cfg(feature = "docker")]
pub async fn plug_in(record: Record<'_>, server: &crate::server::Container) -> Result<(), Error> {
    let began = Instant::now();
    server.plug_in().await?;
    record.healed(format!("answers queries again, after {:.2} s", began.elapsed().as_secs_f64()));
    Ok(())
}

/// Stops any process in its tracks. Returns the evidence: the system says that it is stopped.
pub async fn pause_process(record: Record<'_>, pid: u32) -> Result<String, Error> {
    record.inject(format!("SIGSTOP to process {pid}"));
    signal(pid, Signal::SIGSTOP)?;
    let give_up = Instant::now() + OBSERVE_TIMEOUT;
    while !is_stopped(pid)? {
        if Instant::now() >= give_up {
            return Err(record.did_not_bite(format!("process {pid} is not stopped")));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(record.observed(format!("the system says that process {pid} is stopped")))
}

/// Lets a stopped process go on.
pub fn resume_process(record: Record<'_>, pid: u32) -> Result<(), Error> {
    signal(pid, Signal::SIGCONT)?;
    record.healed(format!("process {pid} goes on"));
    Ok(())
}

fn signal(pid: u32, signal: Signal) -> Result<(), Error> {
    kill(Pid::from_raw(pid as i32), signal)
        .map_err(|e| Error::Io { what: format!("sending {signal} to process {pid}"), source: e.into() })
}

/// Whether a process is stopped, by `ps` where there is no `/proc`.
fn is_stopped(pid: u32) -> Result<bool, Error> {
    let state = match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The name before the state may hold anything, blanks and brackets included.
        Ok(stat) => stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default(),
        Err(_) => {
            let output =
                std::process::Command::new("ps").args(["-o", "state=", "-p", &pid.to_string()]).output();
            let output = output.map_err(|source| Error::Io { what: "running ps".into(), source })?;
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
    };
    Ok(state.starts_with(['T', 't']))
}
