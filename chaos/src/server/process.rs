//! A server's process and directory, and the watchdog that ends both when this process is gone.
//!
//! The watchdog is a small shell that reads from a pipe whose other end only this process holds. When the pipe
//! closes, for whatever reason (a SIGKILL included), it kills the server and removes the directory. Nothing here
//! depends on destructors running. Server and watchdog have process groups of their own, so that Ctrl-C in a
//! terminal reaches neither before the harness has decided what to do.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::KILL_TIMEOUT;
use crate::error::Error;

/// How long a directory may take to be removed, and a file system to be unmounted.
const REMOVAL: Duration = Duration::from_secs(15);
/// How long an engine may take to remove a container and its network.
#[cfg(feature = "docker")]
const CONTAINER_REMOVAL: Duration = Duration::from_secs(60);

/// A running server, leader of its own process group.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program with its output appended to `log`, and puts it under the watchdog.
    pub fn spawn(
        program: &Path,
        arguments: &[OsString],
        log: &Path,
        watchdog: &Watchdog,
    ) -> Result<Self, Error> {
        let out = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(Error::io("opening", log))?;
        let err = out.try_clone().map_err(Error::io("opening", log))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(Error::io("starting", program))?;
        watchdog.guard_process(child.id());
        Ok(Self { child })
    }

    /// The process id while the process is alive. Once it has ended, it is reaped here.
    pub fn alive(&mut self) -> Option<u32> {
        // An error means that there is no such child any more.
        matches!(self.child.try_wait(), Ok(None)).then(|| self.child.id())
    }

    /// Sends SIGKILL to the process group.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.send(Signal::SIGKILL)
    }

    /// Sends SIGTERM to the process group: a clean shutdown.
    pub fn terminate(&mut self) -> Result<(), Error> {
        self.send(Signal::SIGTERM)
    }

    /// Sends SIGSTOP to the process group. A stopped process still dies of SIGKILL.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.send(Signal::SIGSTOP)
    }

    /// Sends SIGCONT to the process group.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.send(Signal::SIGCONT)
    }

    /// Kills and reaps, blocking for [`KILL_TIMEOUT`] at the most; for destructors. Whether it is gone.
    pub fn end(&mut self) -> bool {
        if self.alive().is_some() {
            let _ = self.kill();
        }
        let is_gone = has_ended(&mut self.child, KILL_TIMEOUT);
        if !is_gone {
            tracing::warn!("left behind: process {} does not end, though it was killed", self.child.id());
        }
        is_gone
    }

    fn send(&self, signal: Signal) -> Result<(), Error> {
        send_group(&self.child, signal).map_err(|e| Error::Io {
            what: format!("sending {signal} to process {}", self.child.id()),
            source: e.into(),
        })
    }
}

/// Sends a signal to the group that a child leads.
fn send_group(child: &Child, signal: Signal) -> nix::Result<()> {
    killpg(Pid::from_raw(child.id() as i32), signal)
}

/// Waits until a child has ended, and reaps it; whether it did so in time.
fn has_ended(child: &mut Child, bound: Duration) -> bool {
    let give_up = Instant::now() + bound;
    // An error means that there is no such child any more.
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() >= give_up {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

/// A directory that is removed with this value unless it is kept.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    kept: AtomicBool,
}

impl Directory {
    /// Makes a new directory in `parent`, private to this account, with `name` in its name.
    pub fn create(parent: &Path, name: &str) -> Result<Self, Error> {
        let made = tempfile::Builder::new()
            .prefix(&format!("converge-{name}-"))
            .tempdir_in(parent)
            .map_err(Error::io("making a directory in", parent))?
            .keep();
        let path = made.canonicalize().map_err(Error::io("finding", &made))?;
        Ok(Self { path, kept: AtomicBool::new(false) })
    }

    /// Its path, links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory in place.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.kept.load(Ordering::Relaxed) {
            return;
        }
        // A file system that hangs must not hold up more than a thread.
        let (path, (done, removed)) = (self.path.clone(), mpsc::channel());
        let remove = move || done.send(std::fs::remove_dir_all(&path));
        let why = match thread::Builder::new().spawn(remove).map(|_| removed.recv_timeout(REMOVAL)) {
            Ok(Ok(Ok(()))) => return,
            // The watchdog was there before.
            Ok(Ok(Err(e))) if e.kind() == std::io::ErrorKind::NotFound => return,
            Ok(Ok(Err(e))) | Err(e) => e.to_string(),
            Ok(Err(_)) => format!("this takes more than {} s", REMOVAL.as_secs()),
        };
        tracing::warn!("left behind: {} cannot be removed: {why}", self.path.display());
    }
}

/// Reads `pid N`, `gone`, `mounted` and `keep`; at the end of input kills the group, unmounts and removes the directory,
/// trying again for a while because a dying server may still be writing into it.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP QUIT
pid= keep= mounted=
while read -r word value; do
  case $word in
    pid) pid=$value ;;
    gone) pid= ;;
    keep) keep=yes ;;
    mounted) mounted=yes ;;
  esac
done
[ -z "$pid" ] || kill -s KILL -- "-$pid"
[ -z "$keep" ] || exit 0
[ -z "$mounted" ] || umount -l -- "$1"
tries=0
while [ -e "$1" ] && [ "$tries" -lt 50 ]; do
  rm -rf -- "$1"
  tries=$((tries + 1))
  [ ! -e "$1" ] || sleep 0.1
done
"#;

/// Removes a container and its network at the end of input, should they still be there.
#[cfg(feature = "docker")]
const CONTAINER_WATCHDOG: &str = r#"
trap '' INT TERM HUP QUIT
while read -r word; do :; done
docker rm --force --volumes "$1"
docker network rm "$1"
"#;

/// Ends a server and removes its directory when the pipe to it closes.
#[derive(Debug)]
pub struct Watchdog {
    work: Work,
    shell: Child,
    told: Mutex<Told>,
}

/// What a watchdog does at the end.
#[derive(Debug)]
struct Work {
    script: &'static str,
    over: OsString,
    /// How long it may take.
    bound: Duration,
}

/// The pipe to a watchdog, and what went through it.
#[derive(Debug)]
struct Told {
    pipe: Option<ChildStdin>,
    lines: String,
}

impl Work {
    fn begin(&self) -> Result<Child, Error> {
        Command::new("/bin/sh")
            .args(["-c", self.script, "converge-watchdog"])
            .arg(&self.over)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(Error::io("starting", Path::new("/bin/sh")))
    }

    /// Waits for a shell that has nothing more to wait for, and ends it if it does not end by itself: why it did not.
    fn end(&self, shell: &mut Child) -> Result<(), String> {
        // It is of no use to anybody if somebody has stopped it.
        let _ = send_group(shell, Signal::SIGCONT);
        if has_ended(shell, self.bound) {
            return Ok(());
        }
        let _ = send_group(shell, Signal::SIGKILL);
        has_ended(shell, KILL_TIMEOUT);
        Err(format!("its watchdog, process {}, took more than {} s", shell.id(), self.bound.as_secs_f64()))
    }

    /// The same from its beginning, in another shell.
    fn again(&self, lines: &str) -> Result<(), String> {
        let mut shell = self.begin().map_err(|e| e.to_string())?;
        if let Some(mut pipe) = shell.stdin.take() {
            // A shell that is gone already is seen to be so.
            let _ = pipe.write_all(lines.as_bytes());
        }
        self.end(&mut shell)
    }
}

impl Watchdog {
    /// Starts the watchdog over `directory`.
    pub fn start(directory: &Path) -> Result<Self, Error> {
        Self::run(WATCHDOG, directory.as_os_str(), REMOVAL)
    }

    /// Starts the watchdog over a container and a network, both of this name. Without the `docker` command it does nothing.
    #[cfg(feature = "docker")]
    pub fn over_container(name: &str) -> Result<Self, Error> {
        Self::run(CONTAINER_WATCHDOG, name.as_ref(), CONTAINER_REMOVAL)
    }

    fn run(script: &'static str, over: &OsStr, bound: Duration) -> Result<Self, Error> {
        let work = Work { script, over: over.to_owned(), bound };
        let mut shell = work.begin()?;
        let told = Mutex::new(Told { pipe: shell.stdin.take(), lines: String::new() });
        Ok(Self { work, shell, told })
    }

    /// The process to kill from now on.
    pub fn guard_process(&self, pid: u32) {
        self.tell(&format!("pid {pid}\n"));
    }

    /// The process was reaped: its id may soon be somebody else's.
    pub fn forget_process(&self) {
        self.tell("gone\n");
    }

    /// Something is, or is about to be, mounted over the directory.
    pub fn mounted(&self) {
        self.tell("mounted\n");
    }

    /// Leave the directory.
    pub fn keep(&self) {
        self.tell("keep\n");
    }

    fn tell(&self, line: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.lines.push_str(line);
        if let Some(Err(e)) = told.pipe.as_mut().map(|p| p.write_all(line.as_bytes())) {
            tracing::warn!("the server's watchdog is gone: {e}");
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let told = self.told.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Closing the pipe ends the shell; it removes the directory unless told otherwise.
        told.pipe.take();
        let Err(why) = self.work.end(&mut self.shell) else { return };
        tracing::warn!("cleaning up after {} once more: {why}", self.work.over.display());
        if let Err(why) = self.work.again(&told.lines) {
            tracing::warn!("left behind: {} may still be there: {why}", self.work.over.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hangs for much longer than a test may take, the first time.
    const STUCK: &str = r#"
while read -r word; do said=$word; done
mkdir "$1/first" && sleep 600
echo "$said" > "$1/done"
"#;

    fn dropped(watchdog: Watchdog) -> Duration {
        let began = Instant::now();
        drop(watchdog);
        began.elapsed()
    }

    #[test]
    fn a_watchdog_that_hangs_is_replaced_by_one_that_knows_as_much() {
        let here = tempfile::tempdir().unwrap();
        let watchdog = Watchdog::run(STUCK, here.path().as_os_str(), Duration::from_secs(1)).unwrap();
        watchdog.keep();
        assert!(dropped(watchdog) < Duration::from_secs(10));
        assert_eq!(std::fs::read_to_string(here.path().join("done")).unwrap(), "keep\n");
    }

    #[test]
    fn watchdogs_that_all_hang_hold_nobody_up() {
        let watchdog = Watchdog::run("sleep 600", "x".as_ref(), Duration::from_secs(1)).unwrap();
        assert!(dropped(watchdog) < Duration::from_secs(10));
    }

    #[test]
    fn a_watchdog_that_somebody_stopped_does_its_work() {
        let here = tempfile::tempdir().unwrap();
        let watchdog = Watchdog::start(here.path()).unwrap();
        send_group(&watchdog.shell, Signal::SIGSTOP).unwrap();
        assert!(dropped(watchdog) < REMOVAL);
        assert!(!here.path().exists());
    }
}
