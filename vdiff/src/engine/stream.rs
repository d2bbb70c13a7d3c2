//! The stream engine: a chunk's row images cross the network once, from both sides at the same time, and the client
//! digests them as they arrive. Memory holds one row per side.
//!
//! It never takes other bytes for a row than the push-down engine digests on the server, and never a digest in which
//! edits could cancel.

use xxhash_rust::xxh3::xxh3_128;

use mysql_async::{Row, Value};

use super::Sessions;
use super::table::Answer;
use crate::canonical_json::canonical;
use crate::digest::{Framing, push_piece};
use crate::error::Error;
use crate::plan::Plan;
use crate::plan::sql::Scope;
use crate::session::Session;

/// Digests a chunk of both sides.
pub async fn digests(sessions: &mut Sessions, plan: &Plan, scope: &Scope) -> Result<[Answer; 2], Error> {
    let (source, target) = tokio::join!(
        digest(&mut sessions.source, plan.images(scope, 0)),
        digest(&mut sessions.target, plan.images(scope, 1))
    );
    Ok([source?, target?])
}

async fn digest(session: &mut Session, sql: String) -> Result<Answer, Error> {
    const WHAT: &str = "reading a chunk's rows";
    let (mut answer, mut image) = (Answer::default(), Vec::new());
    session.each(WHAT, &sql, |row| add(&mut answer, &mut image, row)).await?;
    Ok(answer)
}

/// Adds one row: its image, and after it what the server leaves to the client.
fn add(answer: &mut Answer, image: &mut Vec<u8>, row: &Row) {
    let bytes = |at: usize| match row.as_ref(at) {
        Some(Value::Bytes(bytes)) => Some(bytes.as_slice()),
        _ => None,
    };
    let Some(own) = bytes(0) else {
        // The server could not build it: counted, never digested.
        answer.digest.rows += 1;
        answer.undigested += 1;
        return;
    };
    if row.len() == 1 {
        answer.digest.add_xxh3(xxh3_128(own));
        return;
    }
    image.clear();
    // With its length, so that no client's column can pass for a part of it.
    push_piece(image, Framing::Sized, Some(own));
    for at in 1..row.len() {
        push_piece(image, Framing::Sized, bytes(at).map(canonical).as_deref());
    }
    answer.digest.add_xxh3(xxh3_128(image));
}
