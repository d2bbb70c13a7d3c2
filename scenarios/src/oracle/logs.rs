//! The servers' binary logs, for the oracles that read them, and whether they still hold all that was written since a
//! moment. Nothing here shares code with the mover that is judged, nor with VDiff, and nothing writes to a server.

use std::ops::ControlFlow;
use std::time::Duration;

use converge_mysql::{Address, Connector, Error as ServerError, FilePosition, Position, ServerInfo, within};
use futures_util::StreamExt;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, Row};
use mysql_common::binlog::consts::EventType;
use mysql_common::binlog::events::{Event, EventData};

/// As whom the log is asked for; nothing else reads a rehearsal's servers as that.
const SERVER_ID: u32 = 0xC0_4E_12_6E;
/// How long the server may take for an answer or an event.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Their names, from the oldest to the one that is written to.
pub async fn names(conn: &mut Conn) -> Result<Vec<String>, mysql_async::Error> {
    let logs: Vec<Row> = conn.query("SHOW BINARY LOGS").await?;
    Ok(logs.iter().filter_map(|log| log.get(0)).collect())
}

/// Where the log that is written to ends. The file position, not the GTIDs: it moves with whatever is written.
pub async fn end(target: &Address) -> Result<FilePosition, ServerError> {
    let mut conn = Connector::new(target.clone()).connect().await?;
    let server = ServerInfo::read(&mut conn).await?;
    let end = Position::current_file(&mut conn, &server).await?;
    converge_mysql::connect::close(conn).await;
    Ok(end)
}

/// Reads a log from its beginning, event by event, until `see` has seen enough.
pub async fn events(
    conn: Conn,
    name: &str,
    what: &str,
    mut see: impl FnMut(&BinlogStream, &Event, Option<EventData<'_>>) -> Result<ControlFlow<()>, ServerError>,
) -> Result<(), ServerError> {
    let request =
        BinlogStreamRequest::new(SERVER_ID).with_filename(name.as_bytes()).with_pos(4u64).with_non_blocking();
    let mut stream = within(PATIENCE, what, conn.get_binlog_stream(request)).await?;
    while let Some(event) = within(PATIENCE, what, async { stream.next().await.transpose() }).await? {
        let data = event.read_data().map_err(|e| ServerError::driver(what, e.into()))?;
        // A server names the file before it sends it, MariaDB with more behind the name.
        let ends = matches!(&data, Some(EventData::RotateEvent(next)) if !next.name().starts_with(name));
        if ends || see(&stream, &event, data)?.is_break() {
            break;
        }
    }
    within(PATIENCE, what, stream.close()).await
}

/// The file that a target's log was written to at some moment, and when it was begun. A log that is wiped begins again
/// under the same name and grows past the same offset, but that moment does not come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    file: String,
    /// Seconds since 1970.
    begun: u32,
}

/// What has become of a log's part since a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Since {
    /// All of it is there.
    Whole,
    /// The marked file is gone.
    #[default]
    Cut,
    /// There is a file of its name, which is not that one.
    Wiped,
}

impl Since {
    /// Why it proves nothing, unless it is whole.
    pub fn lack(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::Cut => Some("no longer has its beginning"),
            Self::Wiped => Some("was wiped and begun anew after the move had begun"),
        }
    }
}

impl Mark {
    /// Marks the log that is written to now.
    pub async fn set(target: &Address) -> Result<Self, ServerError> {
        let file = end(target).await?.file;
        let begun = begun(target, &file).await?;
        until_after(target, begun).await?;
        Ok(Self { file, begun })
    }

    /// Looks for what was written since.
    pub async fn look(&self, target: &Address) -> Result<Since, ServerError> {
        let mut conn = Connector::new(target.clone()).connect().await?;
        let names = within(PATIENCE, "listing binary logs", names(&mut conn)).await?;
        converge_mysql::connect::close(conn).await;
        if !names.contains(&self.file) {
            return Ok(Since::Cut);
        }
        let same = begun(target, &self.file).await? == self.begun;
        Ok(if same { Since::Whole } else { Since::Wiped })
    }
}

/// When a log file was begun: its first event says so.
async fn begun(target: &Address, file: &str) -> Result<u32, ServerError> {
    let (conn, mut begun) = (Connector::new(target.clone()).connect().await?, None);
    events(conn, file, "reading the beginning of a binary log", |_, event, _| {
        if event.header().event_type_raw() == EventType::FORMAT_DESCRIPTION_EVENT as u8 {
            begun = Some(event.header().timestamp());
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    begun.ok_or_else(|| ServerError::NoBinaryLog(target.to_string()))
}

/// Waits for the server's clock to leave a second: what is begun from then on bears another one.
async fn until_after(target: &Address, second: u32) -> Result<(), ServerError> {
    const PAUSE: Duration = Duration::from_millis(50);
    let mut conn = Connector::new(target.clone()).connect().await?;
    let left = async {
        // A clock that was set back is not waited for.
        while conn.query_first::<u32, _>("SELECT UNIX_TIMESTAMP()").await? == Some(second) {
            tokio::time::sleep(PAUSE).await;
        }
        Ok::<_, mysql_async::Error>(())
    };
    within(PATIENCE, "reading the server's clock", left).await?;
    converge_mysql::connect::close(conn).await;
    Ok(())
}

/// Logs that end in the middle of an event, because the server died while it wrote it.
#[derive(Debug, Default)]
pub struct Torn(pub Vec<String>);

impl Torn {
    /// Notes that a log is torn, if that is what the error with this `code` said of the reading of it. What a server tore
    /// off when it died, it has neither applied nor sent to anybody; the `last` log it writes to.
    pub fn note(
        &mut self,
        read: Result<(), ServerError>,
        code: u16,
        name: &str,
        last: bool,
    ) -> Result<(), ServerError> {
        match read {
            Err(e) if e.server_code() == Some(code) && !last => {
                self.0.push(name.to_owned());
                Ok(())
            }
            read => read,
        }
    }

    /// A remark on them.
    pub fn remark(&self) -> String {
        match self.0.as_slice() {
            [] => String::new(),
            torn => format!("; {} ends where the server died", torn.join(", ")),
        }
    }
}
