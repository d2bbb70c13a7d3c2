//! Private servers in Docker containers: any image that behaves like the official ones of MySQL and MariaDB.
//!
//! Each container has a network of its own, from which it can be cut off, and is reached by a port of the loopback
//! interface. Never touches a container, a network or an image that it did not make itself; a missing image is pulled.
//! Container and network go when the value is dropped, and, where the `docker` command is on PATH, also when this process
//! is killed.

use std::fmt;
use std::time::Duration;

use converge_mysql::{Address, Connector, ServerInfo, within};
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::{NetworkConnectRequest, NetworkDisconnectRequest, PortBinding};
use testcontainers::bollard::query_parameters::KillContainerOptions;
use testcontainers::core::IntoContainerPort;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::time::Instant;

use super::process::Watchdog;
use super::{KILL_TIMEOUT, Machine, START_TIMEOUT, STOP_TIMEOUT, ServerOptions, arguments};
use crate::error::Error;
use crate::port::Port;

/// How long a server may take to come up for the first time: official images initialise their data then.
const FIRST_START: Duration = Duration::from_secs(180);
/// How long pulling a missing image and making the container may take.
const MAKE: Duration = Duration::from_secs(1800);
/// How long one command of the engine may take: longer than [`STOP_TIMEOUT`].
const COMMAND: Duration = Duration::from_secs(90);
/// Where servers listen in their containers.
const PORT: u16 = 3306;

/// A server in a container.
#[derive(Debug)]
pub struct Container {
    running: Running,
    info: ServerInfo,
}

/// A container, and the engine that it runs on.
struct Running {
    container: ContainerAsync<GenericImage>,
    engine: Docker,
    image: String,
    name: String,
    port: Port,
    /// Dropped last: what is left then, it removes.
    _watchdog: Watchdog,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("name", &self.name).field("image", &self.image).finish()
    }
}

impl Container {
    /// Makes a container of `image` (`name:tag`), starts it and waits until the server answers queries. `root` without a
    /// password may log in. Of the options, the name, the durability and the extra arguments count.
    pub async fn start(image: &str, options: &ServerOptions) -> Result<Self, Error> {
        let port = Port::reserve()?;
        let name = format!("converge-{}-{}-{}", options.name, std::process::id(), port.number());
        let failed = |why: String| Error::Docker { what: format!("starting a container of {image}"), why };
        let engine = Docker::connect_with_defaults().map_err(|e| failed(e.to_string()))?;
        let ping = tokio::time::timeout(COMMAND, engine.ping()).await;
        ping.map_err(|_| failed("no engine answers".into()))?
            .map_err(|e| failed(format!("no engine answers: {e}")))?;
        // Before the container is there: it must not be left by a process that ends at the wrong moment.
        let watchdog = Watchdog::over_container(&name)?;
        let request = request(image, &name, port.number(), options);
        let container = tokio::time::timeout(MAKE, request.start())
            .await
            .map_err(|_| failed(format!("not made after {} s", MAKE.as_secs())))?
            .map_err(|e| failed(chain(&e)))?;
        let running = Running { container, engine, image: image.to_owned(), name, port, _watchdog: watchdog };
        let info = running.until_it_answers(FIRST_START).await?;
        Ok(Self { running, info })
    }

    /// The address for `root`, with `database` as default database (empty for none).
    pub fn address(&self, database: &str) -> Address {
        self.running.address(database)
    }

    /// The container's name, which is that of its network too.
    pub fn name(&self) -> &str {
        &self.running.name
    }

    /// Pulls the cable: disconnects the container from its network.
    pub async fn unplug(&self) -> Result<(), Error> {
        let Running { engine, name, .. } = &self.running;
        let request = NetworkDisconnectRequest { container: name.clone(), force: Some(true) };
        self.running.command("disconnecting", engine.disconnect_network(name, request)).await
    }

    /// Puts the cable back and waits until the server answers queries.
    pub async fn plug_in(&self) -> Result<(), Error> {
        let Running { engine, name, .. } = &self.running;
        let request = NetworkConnectRequest { container: name.clone(), endpoint_config: None };
        self.running.command("connecting", engine.connect_network(name, request)).await?;
        self.running.until_it_answers(START_TIMEOUT).await.map(drop)
    }
}

impl Running {
    fn address(&self, database: &str) -> Address {
        Address {
            host: "127.0.0.1".into(),
            port: self.port.number(),
            user: "root".into(),
            database: database.into(),
            ..Address::default()
        }
    }

    async fn command<T, E: std::error::Error>(
        &self,
        what: &str,
        done: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error> {
        let late = || self.failed(what, format!("the engine did not answer for {} s", COMMAND.as_secs()));
        let done = tokio::time::timeout(COMMAND, done).await.map_err(|_| late())?;
        done.map_err(|e| self.failed(what, chain(&e)))
    }

    fn failed(&self, what: &str, why: String) -> Error {
        Error::Docker { what: format!("{what} the container {}", self.name), why }
    }

    async fn is_running(&self) -> Result<bool, Error> {
        let state = self.command("inspecting", self.engine.inspect_container(&self.name, None)).await?.state;
        Ok(state.and_then(|state| state.running).unwrap_or(false))
    }

    async fn until_gone(&self, bound: Duration) -> Result<String, Error> {
        let give_up = Instant::now() + bound;
        while self.is_running().await? {
            if Instant::now() >= give_up {
                return Err(Error::StillRunning {
                    what: format!("the container {}", self.name),
                    after: bound,
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(format!("the container {} does not run any more", self.name))
    }

    async fn until_it_answers(&self, bound: Duration) -> Result<ServerInfo, Error> {
        let (give_up, connector) = (Instant::now() + bound, Connector::new(self.address("")));
        loop {
            let asked = within(Duration::from_secs(10), "asking for the version", version(&connector)).await;
            let why = match asked {
                Ok(info) => return Ok(info),
                Err(e) => e.to_string(),
            };
            let running = self.is_running().await?;
            if !running || Instant::now() >= give_up {
                let state = if running { "it does not answer" } else { "it ended by itself" };
                let why = format!("{state}: {why}{}", self.last_words().await);
                return Err(Error::Start { server: format!("{} of {}", self.name, self.image), why });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The end of what the container wrote.
    async fn last_words(&self) -> String {
        let read = async {
            let stdout = self.container.stdout_to_vec().await.unwrap_or_default();
            let stderr = self.container.stderr_to_vec().await.unwrap_or_default();
            [stdout, stderr].concat()
        };
        let text = tokio::time::timeout(COMMAND, read).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(5)..];
        last.iter().map(|line| format!("\n{line}")).collect()
    }
}

impl Machine for Container {
    fn info(&self) -> &ServerInfo {
        &self.info
    }

    fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.running.port.number())
    }

    async fn kill(&self) -> Result<String, Error> {
        let Running { engine, name, .. } = &self.running;
        let options = KillContainerOptions { signal: "SIGKILL".into() };
        self.running.command("killing", engine.kill_container(name, Some(options))).await?;
        self.running.until_gone(KILL_TIMEOUT).await
    }

    async fn stop(&self) -> Result<String, Error> {
        let stopped = self.running.container.stop_with_timeout(Some(STOP_TIMEOUT.as_secs() as i32));
        self.running.command("stopping", stopped).await?;
        self.running.until_gone(KILL_TIMEOUT).await
    }

    async fn restart(&self) -> Result<(), Error> {
        self.running.command("starting", self.running.container.start()).await?;
        self.running.until_it_answers(START_TIMEOUT).await.map(drop)
    }

    async fn pause(&self) -> Result<String, Error> {
        let Running { engine, name, .. } = &self.running;
        self.running.command("pausing", engine.pause_container(name)).await?;
        Ok(format!("the container {name} is paused"))
    }

    async fn resume(&self) -> Result<String, Error> {
        let Running { engine, name, .. } = &self.running;
        self.running.command("resuming", engine.unpause_container(name)).await?;
        Ok(format!("the container {name} goes on"))
    }
}

async fn version(connector: &Connector) -> Result<ServerInfo, converge_mysql::Error> {
    let mut conn = connector.connect().await?;
    let info = ServerInfo::read(&mut conn).await?;
    converge_mysql::connect::close(conn).await;
    Ok(info)
}

fn request(
    image: &str,
    name: &str,
    port: u16,
    options: &ServerOptions,
) -> testcontainers::ContainerRequest<GenericImage> {
    let (repository, tag) = split(image);
    let published = PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some(port.to_string()) };
    let bindings = [(format!("{PORT}/tcp"), Some(vec![published]))];
    GenericImage::new(repository, tag)
        .with_exposed_port(PORT.tcp())
        .with_cmd(arguments::in_container(options, port))
        .with_container_name(name)
        .with_network(name)
        // What official images ask for before they make a server that anybody may log in to.
        .with_env_var("MYSQL_ALLOW_EMPTY_PASSWORD", "yes")
        .with_env_var("MYSQL_ROOT_HOST", "%")
        .with_env_var("MARIADB_ALLOW_EMPTY_ROOT_PASSWORD", "yes")
        .with_env_var("MARIADB_ROOT_HOST", "%")
        .with_host_config_modifier(move |config| {
            config.port_bindings = Some(bindings.iter().cloned().collect());
            config.publish_all_ports = Some(false);
        })
}

/// Repository and tag; the colon of a registry's port is none of a tag.
fn split(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (image, "latest"),
    }
}

/// An error with what caused it, which the outermost often leaves out.
fn chain(error: &impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_tags_and_registries_ports() {
        assert_eq!(split("mysql:8.4"), ("mysql", "8.4"));
        assert_eq!(split("mysql"), ("mysql", "latest"));
        assert_eq!(split("localhost:5000/mysql"), ("localhost:5000/mysql", "latest"));
        assert_eq!(split("localhost:5000/mysql:9"), ("localhost:5000/mysql", "9"));
    }
}
