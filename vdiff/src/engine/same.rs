//! Whether a source and a target are one and the same database, whatever their addresses say: through a proxy, a second
//! name or a socket, tables would be compared with themselves.
//!
//! What one connection locks by name, any other one of the same server sees locked, and no right is needed for that.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::shards::Sessions;
use crate::error::Error;

/// Whether a shard of the source is a shard of the target.
pub async fn is_shared(sessions: &mut Sessions) -> Result<bool, Error> {
    const WHAT: &str = "telling the servers apart";
    let Sessions { source, target } = sessions;
    let mut shared = false;
    for one in source.each_mut() {
        let database = one.database.clone();
        let mut others: Vec<_> = target.each_mut().filter(|other| other.database == database).collect();
        if others.is_empty() {
            continue;
        }
        let lock = format!("'converge.vdiff.{:016x}'", RandomState::new().build_hasher().finish());
        one.query(WHAT, &format!("SELECT GET_LOCK({lock}, 0)")).await?;
        for other in &mut others {
            let holder = other.query(WHAT, &format!("SELECT IS_USED_LOCK({lock})")).await?;
            shared |= holder.first().is_some_and(|row| row.first().is_some_and(Option::is_some));
        }
        one.query(WHAT, &format!("SELECT RELEASE_LOCK({lock})")).await?;
    }
    Ok(shared)
}
