//! Private servers to break: real mysqld and mariadbd processes on loopback, each with a data directory of its
//! own, started from scratch and gone afterwards.
//!
//! Never touches a server or a directory that it did not make itself. A server dies with the process that
//! started it, however that process ends, and its directory goes with it.

mod arguments;
#[cfg(feature = "docker")]
mod container;
mod discover;
mod disk;
mod machine;
mod process;
mod replication;
mod template;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use converge_mysql::{Address, Connector, within};
use mysql_async::prelude::Queryable;
use tokio::time::Instant;

#[cfg(feature = "docker")]
pub use container::Container;
pub use discover::{ServerBinary, discover, select};
pub use disk::Disk;
pub use machine::{Machine, OwnServer};
pub(crate) use replication::read_only_variable;
pub use replication::{position_of, replica_option};

use crate::error::Error;
use crate::port::Port;
use process::{Directory, Process, Watchdog};

/// How long a server may take to come up, crash recovery included.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a clean shutdown may take.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the system may take to end a process after SIGKILL.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// How to run a server. The default is a durable server with a small memory footprint.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// What the server is for (`source`, `target`): part of its directory's name.
    pub name: String,
    /// Whether every commit is flushed to disk before it is acknowledged. Without it, a killed machine (not a
    /// killed process) may lose acknowledged commits.
    pub durable: bool,
    /// Directory to make the server's own directory in; the system's temporary directory by default.
    pub parent: Option<PathBuf>,
    /// MiB of a disk of the server's own (which takes memory as it is written to, and the right to mount); it shares
    /// that of `parent` by default.
    pub disk: Option<u32>,
    /// Where the error log goes; `error.log` in the server's directory by default.
    pub log: Option<PathBuf>,
    /// More command-line arguments; they come last and win.
    pub extra: Vec<String>,
    /// Whether its directory stays, also when it does not start.
    pub keep: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            name: "server".into(),
            durable: true,
            parent: None,
            disk: None,
            log: None,
            extra: Vec::new(),
            keep: false,
        }
    }
}

impl ServerOptions {
    /// The defaults, under a name.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// A server that this process started. All methods take `&self`; dropping it kills the server and removes its
/// directory.
#[derive(Debug)]
pub struct LocalServer {
    binary: ServerBinary,
    options: ServerOptions,
    port: Port,
    log: PathBuf,
    /// Serialises start, kill and stop.
    life: tokio::sync::Mutex<()>,
    process: Mutex<Option<Process>>,
    disk: Option<Disk>,
    watchdog: Watchdog,
    directory: Directory,
}

impl LocalServer {
    /// Initialises a data directory, starts the server and waits until it answers queries, at most
    /// [`START_TIMEOUT`]. `root` without a password may log in from 127.0.0.1, and nobody from elsewhere.
    pub async fn start(binary: &ServerBinary, options: ServerOptions) -> Result<Self, Error> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let server = Self::prepare(binary, options.clone()).await?;
            let launched = server.launch().await;
            match &launched {
                // Somebody else took the port in the moment between choosing it and listening on it.
                Err(e) if attempts < 5 && server.port_is_taken() => {
                    tracing::debug!("trying another port: {e}");
                    continue;
                }
                _ if server.options.keep => server.keep(),
                _ => {}
            }
            return launched.map(|()| server);
        }
    }

    async fn prepare(binary: &ServerBinary, options: ServerOptions) -> Result<Self, Error> {
        let parent = options.parent.clone().unwrap_or_else(std::env::temp_dir);
        let directory = Directory::create(&parent, &options.name)?;
        let watchdog = Watchdog::start(directory.path())?;
        let mount = |megabytes| {
            watchdog.mounted();
            Disk::mount(directory.path(), megabytes)
        };
        let disk = options.disk.map(mount).transpose()?;
        let (from, data) = (binary.clone(), directory.path().join("data"));
        let temporary = arguments::temporary(&data);
        std::fs::create_dir(&temporary).map_err(Error::io("making", &temporary))?;
        tokio::task::spawn_blocking(move || template::populate(&from, &data))
            .await
            .map_err(|e| Error::Start { server: binary.to_string(), why: e.to_string() })??;
        let log = options.log.clone().unwrap_or_else(|| directory.path().join("error.log"));
        Ok(Self {
            binary: binary.clone(),
            port: Port::reserve()?,
            log,
            life: tokio::sync::Mutex::new(()),
            process: Mutex::new(None),
            disk,
            watchdog,
            directory,
            options,
        })
    }

    /// The address for `root`, with `database` as default database (empty for none).
    pub fn address(&self, database: &str) -> Address {
        Address {
            host: "127.0.0.1".into(),
            port: self.port(),
            user: "root".into(),
            database: database.into(),
            ..Address::default()
        }
    }

    /// The TCP port, the same over all restarts.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Which binary this server runs.
    pub fn binary(&self) -> &ServerBinary {
        &self.binary
    }

    /// The process id while the server runs.
    pub fn pid(&self) -> Option<u32> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.as_mut().and_then(Process::alive)
    }

    /// Whether the server's process is alive.
    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// The server's error log.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The server's own directory; the data directory is `data` in it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its own disk, if its options asked for one.
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Keeps a copy of the data of a server that does not run, for [`LocalServer::restore_data`].
    pub async fn save_data(&self) -> Result<(), Error> {
        let (data, backup) = self.stopped_data()?;
        blocking(move || template::copy_directory(&data, &backup)).await
    }

    /// Puts the data back as they were when [`LocalServer::save_data`] copied them; the copy is used up. The server must
    /// not run.
    pub async fn restore_data(&self) -> Result<(), Error> {
        let (data, backup) = self.stopped_data()?;
        blocking(move || {
            std::fs::remove_dir_all(&data).map_err(Error::io("removing", &data))?;
            std::fs::rename(&backup, &data).map_err(Error::io("putting back", &backup))
        })
        .await
    }

    fn stopped_data(&self) -> Result<(PathBuf, PathBuf), Error> {
        if self.is_running() {
            return Err(self.state_error("running"));
        }
        Ok((self.directory().join("data"), self.directory().join("backup")))
    }

    /// Leaves the directory in place when the server is dropped; the process is killed all the same.
    pub fn keep(&self) {
        self.directory.keep();
        self.watchdog.keep();
    }

    /// Kills the server with SIGKILL and waits until the process is reaped. Returns the process id that is gone.
    pub async fn kill(&self) -> Result<u32, Error> {
        let _life = self.life.lock().await;
        let pid = self.signal(Process::kill)?;
        self.wait_until_gone(KILL_TIMEOUT).await?;
        Ok(pid)
    }

    /// Shuts the server down cleanly (SIGTERM) and waits until it has ended, at most [`STOP_TIMEOUT`].
    pub async fn stop(&self) -> Result<(), Error> {
        let _life = self.life.lock().await;
        self.signal(Process::terminate)?;
        self.wait_until_gone(STOP_TIMEOUT).await
    }

    /// Stops the process in its tracks (SIGSTOP): connections stay open and nobody answers. Returns the process id.
    pub fn pause(&self) -> Result<u32, Error> {
        self.signal(Process::pause)
    }

    /// Lets a paused process go on (SIGCONT). Returns the process id.
    pub fn resume(&self) -> Result<u32, Error> {
        self.signal(Process::resume)
    }

    /// Starts a stopped or killed server again, on the same port and data, and waits until it answers queries, at
    /// most [`START_TIMEOUT`].
    pub async fn restart(&self) -> Result<(), Error> {
        let _life = self.life.lock().await;
        self.launch().await
    }

    /// Has a MariaDB server that does not run roll back the transactions that it had prepared and cannot decide on, as its
    /// error log asks for when its binary log was lost to a full disk. It ends after that by itself.
    pub async fn roll_back_prepared(&self) -> Result<(), Error> {
        let _life = self.life.lock().await;
        self.spawn(&["--tc-heuristic-recover=ROLLBACK"])?;
        self.wait_until_gone(START_TIMEOUT).await
    }

    fn signal(&self, send: fn(&mut Process) -> Result<(), Error>) -> Result<u32, Error> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        match process.as_mut().and_then(|p| p.alive().map(|pid| (pid, send(p)))) {
            Some((pid, sent)) => sent.map(|()| pid),
            None => Err(self.state_error("not running")),
        }
    }

    async fn wait_until_gone(&self, bound: Duration) -> Result<(), Error> {
        let give_up = Instant::now() + bound;
        while self.is_running() {
            if Instant::now() >= give_up {
                return Err(Error::StillRunning { what: self.label(), after: bound });
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.watchdog.forget_process();
        Ok(())
    }

    /// Starts the process; the caller sees to it that no other does so at the same time.
    async fn launch(&self) -> Result<(), Error> {
        let data = self.spawn(&[])?;
        self.wait_until_ready(&data).await
    }

    /// Starts the process with these arguments besides its own, and returns the data directory.
    fn spawn(&self, more: &[&str]) -> Result<PathBuf, Error> {
        if self.is_running() {
            return Err(self.state_error("running"));
        }
        let data = self.directory.path().join("data");
        let mut arguments = arguments::running(&self.binary, &self.options, &data, &self.log, self.port());
        arguments.extend(more.iter().map(|argument| (*argument).into()));
        let process = Process::spawn(&self.binary.path, &arguments, &self.log, &self.watchdog)?;
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        Ok(data)
    }

    async fn wait_until_ready(&self, data: &Path) -> Result<(), Error> {
        let give_up = Instant::now() + START_TIMEOUT;
        let connector = Connector::new(self.address(""));
        loop {
            let answer =
                within(Duration::from_secs(10), "asking for the data directory", answering(&connector));
            match answer.await {
                Ok(directory) if self.is_running() && Path::new(&directory) == data => return Ok(()),
                Ok(directory) if self.is_running() => {
                    let why = format!("another server, at {directory}, answers on its port");
                    return Err(Error::Start { server: self.label(), why });
                }
                _ if !self.is_running() => {
                    let why = format!("it ended by itself{}", template::tail(&self.log));
                    return Err(Error::Start { server: self.label(), why });
                }
                Err(e) if Instant::now() >= give_up => {
                    let why = format!("{e}{}", template::tail(&self.log));
                    return Err(Error::Start { server: self.label(), why });
                }
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    fn port_is_taken(&self) -> bool {
        std::fs::read_to_string(&self.log).is_ok_and(|log| log.contains("Address already in use"))
    }

    fn label(&self) -> String {
        format!("{} ({}) on port {}", self.options.name, self.binary.info, self.port())
    }

    fn state_error(&self, state: &'static str) -> Error {
        Error::ServerState { server: self.label(), state }
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        // The process goes first: it must not write into a directory that is being removed.
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        if process.take().is_none_or(|mut process| process.end()) {
            self.watchdog.forget_process();
        }
    }
}

async fn blocking(work: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Result<(), Error> {
    let failed = |e: tokio::task::JoinError| Error::Io { what: "copying data".into(), source: e.into() };
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

async fn answering(connector: &Connector) -> Result<String, converge_mysql::Error> {
    let mut conn = connector.connect().await?;
    let directory: Option<String> = conn
        .query_first("SELECT @@datadir")
        .await
        .map_err(|e| converge_mysql::Error::driver("asking for the data directory", e))?;
    converge_mysql::connect::close(conn).await;
    Ok(directory.unwrap_or_default().trim_end_matches('/').to_owned())
}
