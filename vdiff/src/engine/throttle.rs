//! Holds chunks back while a server is busier, or a replica further behind, than asked for.
//!
//! It only ever delays: what is compared is the same. Reading slows down nobody's replicas but the server itself where
//! that is one, so that is whose lag counts.

use std::time::Duration;

use converge_mysql::{Flavor, Version, quote};
use mysql_async::Row;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::shards::Sessions;
use crate::error::Error;
use crate::request::{Options, Request};
use crate::session::{Session, number, text};

/// Between two looks at the servers.
const EVERY: Duration = Duration::from_millis(500);

/// The answer to whether the next chunk may begin.
pub struct Throttle {
    watcher: Option<Watcher>,
    held_since: Option<Instant>,
    waited: Duration,
}

/// Who looks at the servers. Tells why chunks are held back, `None` while they are not.
struct Watcher {
    told: watch::Receiver<Option<String>>,
    task: JoinHandle<Result<(), Error>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Throttle {
    /// Begins to watch the servers, over connections of its own; without limits it never holds anything.
    pub async fn start(request: &Request) -> Result<Self, Error> {
        let (options, mut watcher) = (request.options.clone(), None);
        if !options.max_load.is_empty() || options.max_lag.is_some() {
            let mut sessions = Sessions::open(request).await?;
            check(&mut sessions, &options).await?;
            let (sender, told) = watch::channel(look(&mut sessions, &options).await?);
            watcher = Some(Watcher { told, task: tokio::spawn(watching(sessions, options, sender)) });
        }
        Ok(Self { watcher, held_since: None, waited: Duration::ZERO })
    }

    /// Whether there is anything to wait for.
    pub fn is_on(&self) -> bool {
        self.watcher.is_some()
    }

    /// Why no chunk may begin now.
    pub fn held(&mut self) -> Option<String> {
        let held = self.watcher.as_mut().and_then(|watcher| watcher.told.borrow_and_update().clone());
        match (&held, self.held_since) {
            (Some(_), None) => self.held_since = Some(Instant::now()),
            (None, Some(since)) => {
                self.waited += since.elapsed();
                self.held_since = None;
            }
            _ => {}
        }
        held
    }

    /// Waits until the answer may be another one; without limits for ever. The error is the watcher's.
    pub async fn changed(&mut self) -> Result<(), Error> {
        let Some(watcher) = &mut self.watcher else { return std::future::pending().await };
        if watcher.told.changed().await.is_ok() {
            return Ok(());
        }
        // It never ends well while somebody listens.
        Err(match (&mut watcher.task).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => Error::Worker("nobody watches the servers' load any more".into()),
            Err(error) => Error::Worker(error.to_string()),
        })
    }

    /// Waits until chunks may begin.
    pub async fn open(&mut self, tell: impl Fn(String)) -> Result<(), Error> {
        while let Some(why) = self.held() {
            tell(why);
            self.changed().await?;
        }
        Ok(())
    }

    /// How long chunks were held back.
    pub fn waited(&self) -> Duration {
        self.waited + self.held_since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// Looks again and again, until nobody listens or chunks were held for too long.
async fn watching(
    mut sessions: Sessions,
    options: Options,
    sender: watch::Sender<Option<String>>,
) -> Result<(), Error> {
    let mut held_since: Option<Instant> = None;
    while !sender.is_closed() {
        let held = look(&mut sessions, &options).await?;
        match (&held, held_since) {
            (None, _) => held_since = None,
            (Some(_), None) => held_since = Some(Instant::now()),
            (Some(why), Some(since)) if since.elapsed() >= options.hold_at_most => {
                return Err(Error::Busy { why: why.clone(), after: since.elapsed() });
            }
            _ => {}
        }
        // Each look is told: whoever waits shows for how long.
        let _ = sender.send(held);
        tokio::time::sleep(EVERY).await;
    }
    Ok(())
}

/// What is asked for must be there to be watched.
async fn check(sessions: &mut Sessions, options: &Options) -> Result<(), Error> {
    let mut replicas = 0;
    for side in [0, 1] {
        for session in sessions.side(side).each_mut() {
            for limit in &options.max_load {
                if counter(session, &limit.variable).await?.is_none() {
                    return Err(Error::BadLoad(format!(
                        "--max-load {limit}: the {} has no such number in SHOW GLOBAL STATUS",
                        session.side
                    )));
                }
            }
            if options.max_lag.is_some() {
                replicas += lags(session).await?.len();
            }
        }
    }
    if options.max_lag.is_some() && replicas == 0 {
        return Err(Error::BadLoad(
            "--max-lag: none of the servers is a replica, and reading makes no other server lag".into(),
        ));
    }
    Ok(())
}

/// The first reason to hold chunks back.
async fn look(sessions: &mut Sessions, options: &Options) -> Result<Option<String>, Error> {
    for side in [0, 1] {
        for session in sessions.side(side).each_mut() {
            for limit in &options.max_load {
                let now = counter(session, &limit.variable).await?.unwrap_or(0);
                if now > limit.most {
                    return Ok(Some(format!("{} is {now} on the {}", limit.variable, session.side)));
                }
            }
            let Some(most) = options.max_lag else { continue };
            // A replica that does not replicate would not catch up by waiting.
            let lag = lags(session).await?.into_iter().flatten().max();
            if let Some(lag) = lag.filter(|lag| Duration::from_secs(*lag) > most) {
                return Ok(Some(format!("the {} lags by {lag} s", session.side)));
            }
        }
    }
    Ok(None)
}

async fn counter(session: &mut Session, variable: &str) -> Result<Option<u64>, Error> {
    let sql = format!("SHOW GLOBAL STATUS WHERE Variable_name = {}", quote::text(variable));
    let rows = session.query("reading the server's load", &sql).await?;
    Ok(rows.first().and_then(|row| number(row.get(1)?)))
}

/// Seconds behind, for each channel that the server replicates through; `None` for one that does not run.
async fn lags(session: &mut Session) -> Result<Vec<Option<u64>>, Error> {
    let sql = match session.info.flavor {
        Flavor::MariaDb => "SHOW ALL SLAVES STATUS",
        Flavor::MySql if session.info.is_mysql_since(Version(8, 0, 22)) => "SHOW REPLICA STATUS",
        Flavor::MySql => "SHOW SLAVE STATUS",
    };
    let mut lags = Vec::new();
    let read = |row: Row| {
        let named = |name: &str| row.columns_ref().iter().position(|c| c.name_str() == name);
        let at = named("Seconds_Behind_Source").or(named("Seconds_Behind_Master"));
        let cell: Option<Option<Vec<u8>>> = at.and_then(|at| row.get(at));
        lags.push(text(&cell.flatten()).parse().ok());
    };
    session.each("reading the replica's lag (this needs REPLICATION CLIENT)", sql, read).await?;
    Ok(lags)
}
