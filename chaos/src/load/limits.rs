//! Whether this machine and the server have room for the sessions, before the first of them is made: a session that
//! can never connect would be silent, not wrong.

use converge_mysql::Error as ServerError;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::error::Error;

/// Files that a process has open besides its sessions.
const OTHER_FILES: u64 = 64;

/// Databases that are no place for load, and whose they are.
const TAKEN: [(&str, &str); 5] = [
    ("mysql", SERVER),
    ("sys", SERVER),
    ("information_schema", SERVER),
    ("performance_schema", SERVER),
    ("_converge", "`converge move`"),
];
const SERVER: &str = "the server itself";

/// An error if the load would write into tables that others work with.
pub fn refuse_taken(database: &str) -> Result<(), Error> {
    match TAKEN.iter().find(|(name, _)| name.eq_ignore_ascii_case(database)) {
        Some((_, owner)) => Err(Error::NotForLoad { database: database.into(), owner }),
        None => Ok(()),
    }
}

/// An error if `sessions` are too many for this process or the server.
pub async fn check(conn: &mut Conn, sessions: u32) -> Result<(), Error> {
    let needed = u64::from(sessions) + OTHER_FILES;
    // Where the system does not tell, the attempt will.
    if let Some(most) = open_files().filter(|most| *most < needed) {
        return Err(Error::TooFewFiles { sessions, needed, most });
    }
    let fail = |e| ServerError::driver("reading the server's limits on connections", e);
    let (most, per_user) = conn
        .query_first::<(u64, u64), _>("SELECT @@GLOBAL.max_connections, @@GLOBAL.max_user_connections")
        .await
        .map_err(fail)?
        .unwrap_or((u64::MAX, 0));
    let taken: Option<(String, u64)> =
        conn.query_first("SHOW GLOBAL STATUS LIKE 'Threads_connected'").await.map_err(fail)?;
    // The connection that asks is closed before the load begins.
    let taken = taken.map_or(0, |(_, n)| n.saturating_sub(1));
    let limits = [("max_connections", most, taken), ("max_user_connections", per_user, 0)];
    for (setting, most, taken) in limits.into_iter().filter(|(_, most, _)| *most > 0) {
        if taken + u64::from(sessions) > most {
            return Err(Error::TooManySessions { sessions, setting, most, taken });
        }
    }
    Ok(())
}

/// How many files this process may have open.
fn open_files() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn databases_of_the_server_and_of_a_mover_get_no_load() {
        for database in ["mysql", "SYS", "information_schema", "performance_schema", "_converge"] {
            assert!(super::refuse_taken(database).is_err(), "{database}");
        }
        assert!(super::refuse_taken("mysql_shop").is_ok());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_tells_how_many_files_may_be_open() {
        assert!(super::open_files().is_some_and(|n| n > 10));
    }
}
