//! A disk without space, under a server that has one of its own.

use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use converge_mysql::{Connector, Position, ServerInfo, within};
use mysql_async::prelude::Queryable;
use tokio::time::Instant;

use super::Record;
use super::probe::greeted;
use crate::error::Error;
use crate::server::{LocalServer, Machine};

/// How long a server that is written to may take to meet the end of its disk.
const NOTICE: Duration = Duration::from_secs(20);
/// How long its log is looked at before it is asked.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes that it is asked to write.
const PROBE: u32 = 4_000_000;
/// How long a server that ends over it may take to do so.
const DYING: Duration = Duration::from_secs(2);
/// The same for one that says so: it writes its own epitaph first, with the help of a debugger.
const DYING_LOUDLY: Duration = Duration::from_secs(30);
/// How long a server may rest that found no space: it says up to a minute.
const REST: Duration = Duration::from_secs(90);
/// What servers write into their logs when there is no space.
const WORDS: [&str; 6] = ["no space left", "disk is full", "disk full", "errno: 28", "error 28", "is full"];

/// Fills the disk of a server whose options asked for one. Returns the evidence: what the server says about it in its
/// log, or that it ended over it. Somebody must be writing to it.
pub async fn fill_disk(record: Record<'_>, server: &LocalServer) -> Result<String, Error> {
    let disk =
        server.disk().ok_or_else(|| record.did_not_bite("the server shares its disk with everybody else"))?;
    let before = log_length(server)?;
    record.inject(format!("no space is left on the server's disk of {} MiB", disk.megabytes()));
    disk.fill()?;
    let began = Instant::now();
    loop {
        if let Some(line) = complaint(&written_since(server, before)?) {
            return Ok(record.observed(format!("the server says: {line}")));
        }
        if !server.is_running() {
            return Ok(record.observed("the server ended over it".into()));
        }
        if began.elapsed() >= PATIENCE
            && let Some(answer) = refusal(server).await
        {
            return Ok(record.observed(format!("a write of {PROBE} bytes is told: {answer}")));
        }
        if began.elapsed() >= NOTICE {
            return Err(record.did_not_bite("the server says nothing of a full disk"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a write is told that leaves no trace. Servers that wait for space in silence give no answer, which is none.
async fn refusal(server: &LocalServer) -> Option<String> {
    let write = async {
        let mut conn = Connector::new(server.address("")).connect().await.ok()?;
        conn.query_drop("CREATE TEMPORARY TABLE mysql.probe (v LONGTEXT) ENGINE = InnoDB").await.ok()?;
        let insert = format!("INSERT INTO mysql.probe VALUES (REPEAT('x', {PROBE}))");
        conn.query_drop(insert).await.err().map(|e| e.to_string())
    };
    let answer = tokio::time::timeout(Duration::from_secs(2), write).await.ok().flatten()?;
    complaint(&answer).map(str::to_owned)
}

/// Gives a disk its space back, starts the server if it ended meanwhile, and waits until it greets.
pub async fn free_disk(record: Record<'_>, server: &LocalServer) -> Result<(), Error> {
    if let Some(disk) = server.disk() {
        disk.free()?;
    }
    let how = match ends(server).await {
        true => start_again(server).await?,
        false => "goes on",
    };
    greeted(record, &server.endpoint()).await?;
    writes_its_log(server).await?;
    record.healed(format!("there is space again; the server {how} and writes its log"));
    Ok(())
}

/// Waits until a server that rests because it found no space goes on: nobody learns its log's end while somebody waits to
/// write there.
async fn writes_its_log(server: &LocalServer) -> Result<(), Error> {
    let end = async {
        let mut conn = Connector::new(server.address("")).connect().await?;
        let info = ServerInfo::read(&mut conn).await?;
        Position::current_file(&mut conn, &info).await
    };
    within(REST, "waiting for a server to write its log again", end).await?;
    Ok(())
}

/// Starts a server that ended over a full disk, by the way that its error log names if it refuses the plain one. Says how.
async fn start_again(server: &LocalServer) -> Result<&'static str, Error> {
    let before = log_length(server)?;
    let Err(error) = server.restart().await else {
        return Ok("was started again, because it had ended,");
    };
    if !written_since(server, before)?.contains("--tc-heuristic-recover") {
        return Err(error);
    }
    // None of these transactions was acknowledged: whoever sent them must send them again either way.
    server.roll_back_prepared().await?;
    server.restart().await?;
    Ok("had ended, lost its binary log's end, rolled back what it had prepared, was started again,")
}

/// Whether the server ends over what it met. One that is about to may still answer for a moment.
async fn ends(server: &LocalServer) -> bool {
    let doomed = written_since(server, 0).is_ok_and(|log| doomed(&log));
    let give_up = Instant::now() + if doomed { DYING_LOUDLY } else { DYING };
    while server.is_running() {
        if Instant::now() >= give_up {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    true
}

fn log_length(server: &LocalServer) -> Result<u64, Error> {
    let log = server.log_path();
    Ok(std::fs::metadata(log).map_err(Error::io("looking at", log))?.len())
}

fn written_since(server: &LocalServer, before: u64) -> Result<String, Error> {
    let log = server.log_path();
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(log)?;
        file.seek(SeekFrom::Start(before))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    Ok(String::from_utf8_lossy(&read().map_err(Error::io("reading", log))?).into_owned())
}

/// Whether a server has said since its last start that it is about to end.
fn doomed(log: &str) -> bool {
    let since = log.rsplit("ready for connections").next().unwrap_or_default().to_lowercase();
    ["[fatal]", "got signal", "aborting the server"].iter().any(|words| since.contains(words))
}

fn complaint(log: &str) -> Option<&str> {
    log.lines().find(|line| {
        let line = line.to_lowercase();
        WORDS.iter().any(|words| line.contains(words))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_complain_in_their_own_words() {
        let mysql = "x\n2026-01-01T00:00:00Z 9 [ERROR] [MY-000035] [Server] Disk is full writing './binlog.000002' (OS \
                     errno 28 - No space left on device). Waiting for someone to free space...";
        assert!(complaint(mysql).is_some_and(|line| line.starts_with("2026")));
        assert!(complaint("[ERROR] mariadbd: Disk full (/tmp/#sql)").is_some());
        assert_eq!(complaint("[Note] ready for connections"), None);
        assert!(doomed("ready for connections\n[ERROR] [FATAL] InnoDB: pwrite() returned -1"));
        assert!(!doomed("mariadbd got signal 6\nready for connections\n"));
    }
}
