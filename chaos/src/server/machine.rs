//! What can be done to any server of the harness, whether it is a process of this machine or runs in a container.
//!
//! Decides nothing, and looks at nothing from outside: whether a fault bit is for `fault` to see.

use converge_mysql::ServerInfo;

use super::LocalServer;
#[cfg(feature = "docker")]
use super::container::Container;
use crate::error::Error;

/// A server that can be killed, shut down, stopped in its tracks, and brought back. What has been done to it is said in
/// words, for the history.
pub trait Machine: Sync {
    /// Product and version.
    fn info(&self) -> &ServerInfo;

    /// Where it listens: `host:port`, the same over all restarts.
    fn endpoint(&self) -> String;

    /// Kills it (SIGKILL) and waits until it is gone.
    fn kill(&self) -> impl Future<Output = Result<String, Error>> + Send;

    /// Shuts it down cleanly and waits until it has ended.
    fn stop(&self) -> impl Future<Output = Result<String, Error>> + Send;

    /// Starts it again after [`Machine::kill`] or [`Machine::stop`] and waits until it answers queries.
    fn restart(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Stops it in its tracks: connections stay open and nobody answers.
    fn pause(&self) -> impl Future<Output = Result<String, Error>> + Send;

    /// Lets it go on after [`Machine::pause`].
    fn resume(&self) -> impl Future<Output = Result<String, Error>> + Send;
}

impl Machine for LocalServer {
    fn info(&self) -> &ServerInfo {
        &self.binary().info
    }

    fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    async fn kill(&self) -> Result<String, Error> {
        Ok(format!("process {} is gone", self.kill().await?))
    }

    async fn stop(&self) -> Result<String, Error> {
        let pid = self.pid().ok_or_else(|| self.state_error("not running"))?;
        self.stop().await?;
        Ok(format!("process {pid} is gone"))
    }

    async fn restart(&self) -> Result<(), Error> {
        self.restart().await
    }

    async fn pause(&self) -> Result<String, Error> {
        Ok(format!("process {} is stopped", self.pause()?))
    }

    async fn resume(&self) -> Result<String, Error> {
        Ok(format!("process {} goes on", self.resume()?))
    }
}

/// A server of the harness, of either kind.
#[derive(Debug)]
pub enum OwnServer {
    /// A process of this machine.
    Local(Box<LocalServer>),
    /// In a container.
    #[cfg(feature = "docker")]
    Container(Box<Container>),
}

/// Does the same to a server of either kind.
macro_rules! either {
    ($own:expr, $server:ident => $done:expr) => {
        match $own {
            OwnServer::Local($server) => $done,
            #[cfg(feature = "docker")]
            OwnServer::Container($server) => $done,
        }
    };
}

impl Machine for OwnServer {
    fn info(&self) -> &ServerInfo {
        either!(self, server => Machine::info(&**server))
    }

    fn endpoint(&self) -> String {
        either!(self, server => Machine::endpoint(&**server))
    }

    async fn kill(&self) -> Result<String, Error> {
        either!(self, server => Machine::kill(&**server).await)
    }

    async fn stop(&self) -> Result<String, Error> {
        either!(self, server => Machine::stop(&**server).await)
    }

    async fn restart(&self) -> Result<(), Error> {
        either!(self, server => Machine::restart(&**server).await)
    }

    async fn pause(&self) -> Result<String, Error> {
        either!(self, server => Machine::pause(&**server).await)
    }

    async fn resume(&self) -> Result<String, Error> {
        either!(self, server => Machine::resume(&**server).await)
    }
}
