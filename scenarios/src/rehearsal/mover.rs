//! The mover under test, as a process of its own: so that a kill is a kill.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use converge_mover::control::{Control, Status};
use converge_mysql::address::PasswordFrom;
use converge_mysql::{Address, names};
use tokio::process::{Child, ChildStdin, Command};

use super::RehearsalError;
use crate::scenario::Copy;

/// The workflow's name in every rehearsal.
pub const WORKFLOW: &str = "rehearsal";
/// The option of a command that is to end with its parent: when its standard input is closed, and be it by a SIGKILL.
pub const UNTIL: &str = "--until-stdin-closes";
/// How long one look at the status may take; a killed target does not answer.
const STATUS_BOUND: Duration = Duration::from_secs(2);

/// Where the mover finds its passwords: its arguments are for everybody on the machine to see.
const SOURCE_PASSWORD: &str = "CONVERGE_REHEARSAL_SOURCE_PASSWORD";
const TARGET_PASSWORD: &str = "CONVERGE_REHEARSAL_TARGET_PASSWORD";
const STATUS_PASSWORD: &str = "CONVERGE_REHEARSAL_STATUS_PASSWORD";

/// The address as it is given to a process that has this variable, and the variable if there is a password.
fn in_environment(address: Address, variable: &str) -> (Address, Option<(String, OsString)>) {
    if address.password.is_empty() || address.password_from.is_some() {
        return (address, None);
    }
    let set = (variable.to_owned(), address.password.clone().into());
    (Address { password_from: Some(PasswordFrom::Environment(variable.into())), ..address }, Some(set))
}

/// The addresses that belong to a mover.
#[derive(Debug, Clone)]
pub struct Route {
    /// Where it reads.
    pub source: Address,
    /// Where it writes.
    pub target: Address,
    /// Where its state is asked for, past any proxy.
    pub status: Address,
}

/// How a mover ended by itself.
#[derive(Debug, Clone)]
pub struct End {
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// In a sentence, with the end of its log.
    pub words: String,
}

/// A mover process and how to start it again.
pub struct Mover {
    program: PathBuf,
    source: Address,
    arguments: Vec<String>,
    environment: Vec<(String, OsString)>,
    status: Address,
    /// The password of an administrator, which the mover itself is not given.
    of_status: Option<(String, OsString)>,
    log: PathBuf,
    child: Option<Child>,
    /// How the process ended by itself, once that was seen.
    end: Option<End>,
    /// Our end of the process's standard input: it ends when this is closed. Waiting for the process would close it.
    leash: Option<ChildStdin>,
}

impl Mover {
    /// Describes the process.
    pub fn new(program: &Path, route: Route, tables: &[String], copy: &Copy, log: PathBuf) -> Self {
        let (source, of_source) = in_environment(route.source, SOURCE_PASSWORD);
        let (target, of_target) = in_environment(route.target, TARGET_PASSWORD);
        let (status, of_status) = in_environment(route.status, STATUS_PASSWORD);
        let target_url = target.to_url();
        let tables = tables.iter().map(|name| names::spelled(name)).collect::<Vec<_>>().join(",");
        let mut arguments: Vec<String> =
            ["move", "run", WORKFLOW, "--target", &target_url, "--tables", &tables].map(str::to_owned).into();
        arguments.extend(["--copy-strategy".into(), copy.strategy.clone()]);
        arguments.extend(["--chunk-rows".into(), copy.chunk_rows.to_string()]);
        if copy.rows_per_second > 0 {
            arguments.extend(["--copy-rows-per-second".into(), copy.rows_per_second.to_string()]);
        }
        arguments.extend(["--retry-for".into(), "60s".into()]);
        // Should the rehearsal be killed, its end of the pipe closes, and the mover ends as well.
        arguments.push(UNTIL.into());
        let environment = [of_source, of_target].into_iter().flatten().collect();
        let program = program.into();
        Self {
            program,
            source,
            arguments,
            environment,
            status,
            of_status,
            log,
            child: None,
            end: None,
            leash: None,
        }
    }

    /// Adds variables to the process's environment.
    pub fn with_environment(mut self, variables: &[(String, OsString)]) -> Self {
        self.environment.extend_from_slice(variables);
        self
    }

    fn open_log(&self) -> Result<File, RehearsalError> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(RehearsalError::io("opening", &self.log))
    }

    /// Where it reads, from its next start on.
    pub fn set_source(&mut self, source: &Address) {
        let (source, password) = in_environment(source.clone(), SOURCE_PASSWORD);
        self.source = source;
        self.environment.retain(|(name, _)| name != SOURCE_PASSWORD);
        self.environment.extend(password);
    }

    /// Starts the process, or starts it again.
    pub fn start(&mut self) -> Result<u32, RehearsalError> {
        let log = self.open_log()?;
        let errors = log.try_clone().map_err(RehearsalError::io("opening", &self.log))?;
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .args(["--source", &self.source.to_url()])
            .env("NO_COLOR", "1")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            // A Ctrl-C in the terminal is the rehearsal's to handle.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(RehearsalError::io("starting", &self.program))?;
        let pid = child.id().unwrap_or_default();
        self.leash = child.stdin.take();
        (self.child, self.end) = (Some(child), None);
        Ok(pid)
    }

    /// SIGKILL; returns once the process is reaped, with the evidence.
    pub async fn kill(&mut self) -> Result<String, RehearsalError> {
        let Some(mut child) = self.child.take() else {
            return Err(RehearsalError::Mover("there is no mover process to kill".into()));
        };
        let pid = child.id().unwrap_or_default();
        child.kill().await.map_err(RehearsalError::io("killing", &self.program))?;
        let status = child.wait().await.map_err(RehearsalError::io("waiting for", &self.program))?;
        Ok(format!("process {pid} ended by {status}"))
    }

    /// The process id, if it was started and not killed.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Whether the process is there.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// How the process ended, if it did, with the end of its log.
    pub fn ended(&mut self) -> Option<String> {
        self.end().map(|end| end.words)
    }

    /// The same, with its exit code.
    pub fn end(&mut self) -> Option<End> {
        if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
            self.child = None;
            let words = format!("the mover ended with {status}: {}", self.last_words());
            self.end = Some(End { code: status.code(), words });
        }
        self.end.clone()
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|l| !l.trim().is_empty()).collect();
        let from =
            lines.iter().rposition(|l| l.starts_with("error:")).unwrap_or(lines.len().saturating_sub(1));
        lines[from..].join(" ")
    }

    /// Waits for the process to end by itself, within `bound`.
    pub async fn wait(&mut self, bound: Duration) -> Option<i32> {
        let child = self.child.as_mut()?;
        let status = tokio::time::timeout(bound, child.wait()).await.ok()?.ok()?;
        self.child = None;
        status.code()
    }

    /// The workflow's status; `None` while the target does not answer or there is no workflow yet.
    pub async fn status(&self) -> Option<Status> {
        let asked = async { Control::open(&self.status, WORKFLOW).await?.status().await };
        tokio::time::timeout(STATUS_BOUND, asked).await.ok()?.ok()
    }

    /// Runs another `converge move` command to its end: exit code and output.
    pub async fn command(
        &self,
        verb: &str,
        options: &[&str],
        bound: Duration,
    ) -> Result<(i32, String), RehearsalError> {
        let url = self.status.to_url();
        let mut child = Command::new(&self.program)
            .args(["move", verb, WORKFLOW, "--target", &url])
            .args(options)
            .envs(self.of_status.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(RehearsalError::io("starting", &self.program))?;
        // Waiting for the process would close it.
        let _leash = child.stdin.take();
        let output = tokio::time::timeout(bound, child.wait_with_output())
            .await
            .map_err(|_| {
                RehearsalError::Mover(format!(
                    "`converge move {verb}` did not end within {} s",
                    bound.as_secs()
                ))
            })?
            .map_err(RehearsalError::io("running", &self.program))?;
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok((output.status.code().unwrap_or(-1), text.trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_argument_holds_a_password() {
        let address = |password: &str| -> Address {
            format!("mysql://mover:{password}@127.0.0.1:1/shop").parse().unwrap()
        };
        let route = Route { source: address("one"), target: address("two"), status: address("dba") };
        let mut mover = Mover::new(Path::new("x"), route, &[], &Copy::default(), "log".into());
        let (given, set) = (mover.arguments.join(" "), |mover: &Mover| mover.environment.clone());
        assert!(!given.contains("two") && given.contains(TARGET_PASSWORD), "{given}");
        assert!(!mover.status.to_url().contains("dba") && !mover.source.to_url().contains("one"));
        let both = [(SOURCE_PASSWORD.into(), "one".into()), (TARGET_PASSWORD.into(), "two".into())];
        assert_eq!(set(&mover), both);
        assert_eq!(mover.of_status, Some((STATUS_PASSWORD.into(), "dba".into())));
        mover.set_source(&address("three"));
        assert!(mover.source.to_url().ends_with(&format!("password-env={SOURCE_PASSWORD}")));
        assert!(set(&mover).contains(&(SOURCE_PASSWORD.into(), "three".into())) && set(&mover).len() == 2);
    }
}
