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
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::Error;

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

    /// Kills and reaps, blocking; for destructors.
    pub fn end(&mut self) {
        if self.alive().is_some() {
            let _ = self.kill();
            let _ = self.child.wait();
        }
    }

    fn send(&self, signal: Signal) -> Result<(), Error> {
        killpg(Pid::from_raw(self.child.id() as i32), signal).map_err(|e| Error::Io {
            what: format!("sending {signal} to process {}", self.child.id()),
            source: e.into(),
        })
    }
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
        if !self.kept.load(Ordering::Relaxed) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
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
    shell: Child,
    pipe: Mutex<Option<ChildStdin>>,
}

impl Watchdog {
    /// Starts the watchdog over `directory`.
    pub fn start(directory: &Path) -> Result<Self, Error> {
        Self::run(WATCHDOG, directory.as_os_str())
    }

    /// Starts the watchdog over a container and a network, both of this name. Without the `docker` command it does nothing.
    #[cfg(feature = "docker")]
    pub fn over_container(name: &str) -> Result<Self, Error> {
        Self::run(CONTAINER_WATCHDOG, name.as_ref())
    }

    fn run(script: &str, over: &OsStr) -> Result<Self, Error> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", script, "converge-watchdog"])
            .arg(over)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(Error::io("starting", Path::new("/bin/sh")))?;
        let pipe = Mutex::new(shell.stdin.take());
        Ok(Self { shell, pipe })
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
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(e)) = pipe.as_mut().map(|p| p.write_all(line.as_bytes())) {
            tracing::warn!("the server's watchdog is gone: {e}");
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Closing the pipe ends the shell; it removes the directory unless told otherwise.
        self.pipe.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let _ = self.shell.wait();
    }
}
