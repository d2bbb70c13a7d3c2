//! A rehearsal under watch: everything that it starts carries a variable in its environment, and makes its temporary
//! files in a directory of its own, so that what is left of it can be told from everything else on the machine.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use converge_chaos::server::ServerBinary;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const MARK: &str = "CONVERGE_TEST_HOME";
const TICK: Duration = Duration::from_millis(25);
/// How long a rehearsal may take to come to a line or to its end.
const PATIENCE: Duration = Duration::from_secs(120);

/// `converge rehearse`, running.
pub struct Watched {
    child: Child,
    home: tempfile::TempDir,
    /// Ports on which any of its processes was seen to listen.
    ports: BTreeSet<u16>,
    /// The most processes that were seen at once, itself included.
    most_processes: usize,
}

impl Watched {
    /// Starts a rehearsal of `scenario` (TOML) with more arguments.
    pub fn start(server: &ServerBinary, scenario: &str, more: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("scenario.toml");
        std::fs::write(&file, scenario).unwrap();
        std::fs::create_dir(home.path().join("tmp")).unwrap();
        let output = File::create(home.path().join("output")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_converge"))
            .arg("rehearse")
            .arg(file)
            .args(["--seed", "3", "--server"])
            .arg(&server.path)
            .arg("--report")
            .arg(home.path().join("report"))
            .args(more)
            .env(MARK, home.path())
            .env("TMPDIR", home.path().join("tmp"))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { child, home, ports: BTreeSet::new(), most_processes: 0 }
    }

    /// What it has printed so far, on both streams.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.home.path().join("output")).unwrap()
    }

    /// Waits until it has printed `words`.
    pub fn until(&mut self, words: &str) {
        let give_up = Instant::now() + PATIENCE;
        while !self.output().contains(words) {
            let ended = self.child.try_wait().unwrap();
            let goes_on = ended.is_none() && Instant::now() < give_up;
            assert!(goes_on, "waited in vain for {words:?}: {ended:?}\n{}", self.output());
            self.look();
            std::thread::sleep(TICK);
        }
    }

    /// Waits until `count` of its processes live and it listens on a port for each server.
    pub fn until_running(&mut self, count: usize) {
        let give_up = Instant::now() + PATIENCE;
        while self.most_processes < count || self.ports.len() < 2 {
            assert!(Instant::now() < give_up, "{} processes\n{}", self.most_processes, self.output());
            self.look();
            std::thread::sleep(TICK);
        }
    }

    /// Waits for its end: the exit code, or `None` if a signal ended it.
    pub fn ended(&mut self) -> Option<i32> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < give_up, "it does not end\n{}", self.output());
            self.look();
            std::thread::sleep(TICK);
        }
    }

    /// Sends it, and nothing that it started, a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Sends SIGKILL to its mover.
    pub fn kill_mover(&self) {
        let command = |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_mover = |pid: &u32| command(pid).windows(9).any(|w| w == b"move\0run\0");
        let mover = self.processes().into_iter().find(is_mover);
        send(mover.expect("a mover runs"), Signal::SIGKILL);
    }

    fn look(&mut self) {
        let processes = self.processes();
        self.ports.extend(listening(&processes));
        self.most_processes = self.most_processes.max(processes.len());
    }

    /// The living processes with its mark; a zombie has no environment any more.
    fn processes(&self) -> Vec<u32> {
        let mark = [MARK.as_bytes(), b"=", self.home.path().as_os_str().as_encoded_bytes()].concat();
        let marked = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark)
        };
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(marked).collect()
    }

    /// What is left of it besides its report.
    fn traces(&self) -> Vec<String> {
        let process = |pid: u32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!("process {pid}: {}", String::from_utf8_lossy(&command).replace('\0', " "))
        };
        let open = |port: &&u16| TcpStream::connect(("127.0.0.1", **port)).is_ok();
        let directories = entries(&self.home.path().join("tmp"));
        let processes = self.processes().into_iter().map(process);
        let ports = self.ports.iter().filter(open).map(|port| format!("port {port}"));
        processes.chain(ports).chain(directories.iter().map(|p| p.display().to_string())).collect()
    }

    /// Asserts that at least `processes` lived and two servers listened, and that nothing of it is left at the latest
    /// when `bound` is over.
    pub fn assert_gone(&mut self, processes: usize, bound: Duration) {
        let seen = (self.most_processes, self.ports.len());
        assert!(seen.0 >= processes && seen.1 >= 2, "only {seen:?} processes and ports\n{}", self.output());
        let give_up = Instant::now() + bound;
        while !self.traces().is_empty() {
            assert!(Instant::now() < give_up, "left behind: {:#?}\n{}", self.traces(), self.output());
            std::thread::sleep(TICK);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // After a failed assertion nothing of what is being tested can be relied on.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.processes().into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
    }
}

fn send(pid: u32, signal: Signal) {
    // A process that is gone already needs no signal.
    let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal);
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect()
}

/// The TCP ports on which processes listen.
fn listening(processes: &[u32]) -> BTreeSet<u16> {
    let sockets: BTreeSet<String> = processes
        .iter()
        .filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).ok())
        .flat_map(|entries| entries.flatten())
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields.get(3) == Some(&"0A") && sockets.contains(*fields.get(9)?);
        listens.then(|| u16::from_str_radix(fields[1].rsplit(':').next()?, 16).ok())?
    };
    table.lines().skip(1).filter_map(port).collect()
}
