//! Faults of a process: killed, shut down, stopped in its tracks.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use super::Record;
use super::probe::{OBSERVE_TIMEOUT, greeted, refused, silent};
use crate::error::Error;
use crate::server::LocalServer;

/// Where a server listens.
pub fn endpoint(server: &LocalServer) -> String {
    format!("127.0.0.1:{}", server.port())
}

/// Kills a server with SIGKILL. Returns the evidence: its process is gone and its port refuses connections.
pub async fn kill_server(record: Record<'_>, server: &LocalServer) -> Result<String, Error> {
    record.inject(format!("SIGKILL to {}", server.binary().info));
    let pid = server.kill().await?;
    gone(record, server, pid).await
}

/// Shuts a server down cleanly. Returns the same evidence as [`kill_server`].
pub async fn stop_server(record: Record<'_>, server: &LocalServer) -> Result<String, Error> {
    record.inject(format!("clean shutdown of {}", server.binary().info));
    let pid = server.pid().ok_or_else(|| record.did_not_bite("the server was not running"))?;
    server.stop().await?;
    gone(record, server, pid).await
}

/// The evidence that a process has ended, and that nobody else answers in its place.
pub async fn gone(record: Record<'_>, server: &LocalServer, pid: u32) -> Result<String, Error> {
    let refusal = refused(record, &endpoint(server)).await?;
    Ok(record.observed(format!("process {pid} is gone; port {}: {refusal}", server.port())))
}

/// Starts a killed or stopped server again and waits until it answers queries.
pub async fn restart_server(record: Record<'_>, server: &LocalServer) -> Result<(), Error> {
    let began = Instant::now();
    server.restart().await?;
    record.healed(format!("answers queries again, {:.2} s after its start", began.elapsed().as_secs_f64()));
    Ok(())
}

/// Stops a server in its tracks (SIGSTOP). Returns the evidence: its port takes connections and nobody greets.
pub async fn pause_server(record: Record<'_>, server: &LocalServer) -> Result<String, Error> {
    record.inject(format!("SIGSTOP to {}", server.binary().info));
    let pid = server.pause()?;
    let silence = silent(record, &endpoint(server)).await?;
    Ok(record.observed(format!("process {pid} is stopped; {silence}")))
}

/// Lets a stopped server go on (SIGCONT) and waits until it greets.
pub async fn resume_server(record: Record<'_>, server: &LocalServer) -> Result<(), Error> {
    let pid = server.resume()?;
    greeted(record, &endpoint(server)).await?;
    record.healed(format!("process {pid} goes on and greets"));
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
