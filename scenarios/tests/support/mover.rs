//! A mover process of the built binary, and what tests ask of it.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use converge_chaos::server::LocalServer;

/// A mover between two servers: the workflow `w` moves `tables` from and to the database `shop`.
pub struct Mover {
    child: Option<Child>,
    log: tempfile::NamedTempFile,
    source: String,
    target: String,
    tables: String,
    extra: Vec<String>,
    exact_memory: bool,
}

#[allow(dead_code)]
impl Mover {
    /// Describes a mover without starting it.
    pub fn new(source: &LocalServer, target: &LocalServer, tables: &str) -> Self {
        Self::between(&source.address("shop").to_url(), &target.address("shop").to_url(), tables)
    }

    /// The same between any two URLs.
    pub fn between(source: &str, target: &str, tables: &str) -> Self {
        Self {
            child: None,
            log: tempfile::NamedTempFile::new().unwrap(),
            source: source.into(),
            target: target.into(),
            tables: tables.into(),
            extra: Vec::new(),
            exact_memory: false,
        }
    }

    /// Adds options of `move run`.
    pub fn with(mut self, options: &[&str]) -> Self {
        self.extra.extend(options.iter().map(ToString::to_string));
        self
    }

    /// Has glibc give large blocks back at once, so that the peak is what the mover itself holds.
    pub fn with_exact_memory(mut self) -> Self {
        self.exact_memory = true;
        self
    }

    fn run_command(&self) -> Command {
        let mut command = converge();
        if self.exact_memory {
            command.env("MALLOC_MMAP_THRESHOLD_", "131072");
        }
        command.args(["move", "run", "w", "--source", &self.source, "--target", &self.target]);
        command.args(["--tables", &self.tables]).args(&self.extra);
        command
    }

    /// Starts it in the background.
    pub fn start(&mut self) {
        let log = self.log.reopen().unwrap();
        let mut command = self.run_command();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Runs it to its end, which must come.
    pub fn run(&self) -> Output {
        self.run_command().output().unwrap()
    }

    /// The most memory that the process has had resident, in MiB.
    pub fn peak_memory(&self) -> u64 {
        let pid = self.child.as_ref().expect("a running mover").id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("a peak");
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal to the running process.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = self.child.as_ref().expect("a running mover").id();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal).unwrap();
    }

    /// Another mover of the same workflow, not started, with its own log.
    pub fn another(&self) -> Self {
        Self::between(&self.source, &self.target, &self.tables)
            .with(&self.extra.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The same workflow with another source from the next start on.
    pub fn set_source(&mut self, source: &str) {
        self.source = source.into();
    }

    /// Without an option of `move run` from the next start on.
    pub fn without(&mut self, option: &str) {
        self.extra.retain(|o| o != option);
    }

    /// Starts another command on the workflow in the background.
    pub fn spawn(&self, verb: &str, options: &[&str]) -> Child {
        let mut command = converge();
        command.args(["move", verb, "w", "--target", &self.target]).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Whether the process is there.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| c.try_wait().unwrap().is_none())
    }

    /// Another command on the workflow.
    pub fn command(&self, verb: &str, options: &[&str]) -> Output {
        converge().args(["move", verb, "w", "--target", &self.target]).args(options).output().unwrap()
    }

    /// `status --format json`, `None` while there is nothing to ask.
    pub fn status(&self) -> Option<serde_json::Value> {
        let output = self.command("status", &["--format", "json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Waits until the status fulfils a condition.
    pub fn wait_until(
        &mut self,
        what: &str,
        condition: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let give_up = Instant::now() + Duration::from_secs(90);
        loop {
            let status = self.status();
            if let Some(status) = status.as_ref().filter(|s| condition(s)) {
                return status.clone();
            }
            let ended = self.child.as_mut().and_then(|c| c.try_wait().unwrap());
            let late = Instant::now() > give_up;
            assert!(
                ended.is_none() && !late,
                "waited for {what}: {status:?}, ended {ended:?}, log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the workflow is in a state.
    pub fn wait_for(&mut self, state: &str) -> serde_json::Value {
        self.wait_until(state, |s| s["state"] == state)
    }

    /// Waits until the process ends, and says how.
    pub fn ended(&mut self) -> i32 {
        let give_up = Instant::now() + Duration::from_secs(60);
        while Instant::now() < give_up {
            let ended = self.child.as_mut().expect("a running mover").try_wait().unwrap();
            if let Some(status) = ended {
                self.child = None;
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the mover did not end; log:\n{}", self.log());
    }

    /// Switches traffic, which must work.
    pub fn switch(&self) {
        let output = self.command("switch-traffic", &["--timeout", "30s"]);
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), self.log());
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The built binary.
pub fn converge() -> Command {
    Command::new(PathBuf::from(env!("CARGO_BIN_EXE_converge")))
}
