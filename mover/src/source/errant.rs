//! What a MariaDB that took over wrote by itself before the place at which the stream goes on: somebody wrote to the replica
//! while the former source was the source. A position has the last transaction of a domain and no other, so that the server
//! does not send them. (MySQL does: they are not in the set.) Those that change no moved table do not matter: a server that
//! is looked after has some.

use std::collections::BTreeMap;

use converge_mysql::{MariaDbGtidPosition, last_numbers, quote, within};
use futures_util::StreamExt;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn};
use mysql_common::binlog::events::{Event, TableMapEvent};

use super::binlog::{query_of, silence};
use super::bytes::{Bytes, Truncated};
use super::event::{Unreadable, kind};
use super::history::Historian;
use super::refused::{self, lost};
use super::statement::{self, Logged, Meaning};
use super::{TIMEOUT, fenced_name};
use crate::error::{Error, OnSide, Result};

/// A server and a domain, and a number there.
type Gtid = ((u32, u32), u64);

/// The last transactions that a MariaDB knows of each server, written by itself or applied.
pub async fn known(conn: &mut Conn) -> Result<String> {
    ask(conn, "SELECT CONCAT_WS(',', NULLIF(@@gtid_binlog_state, ''), NULLIF(@@gtid_slave_pos, ''))").await
}

async fn ask(conn: &mut Conn, query: &str) -> Result<String> {
    let what = "reading which transactions the source knows";
    let known: Option<String> = within(TIMEOUT, what, conn.query_first(query)).await.on_source()?;
    Ok(known.unwrap_or_default())
}

/// The moved tables.
pub struct Moved<'a> {
    /// Their database on the source.
    pub schema: &'a str,
    /// Their names.
    pub names: Vec<&'a str>,
}

impl Moved<'_> {
    fn has(&self, schema: &str, table: &str) -> bool {
        let is = |name: &str| table.eq_ignore_ascii_case(name);
        schema.eq_ignore_ascii_case(self.schema)
            && self.names.iter().any(|name| is(name) || is(&fenced_name(name)))
    }

    /// The moved table that an event changes.
    fn changed(&self, event: &Event) -> std::result::Result<Option<String>, Unreadable> {
        match event.header().event_type_raw() {
            kind::TABLE_MAP => {
                let map = event.read_event::<TableMapEvent<'_>>()?;
                let (schema, table) = (map.database_name(), map.table_name());
                Ok(self.has(&schema, &table).then(|| quote::qualified(&schema, &table)))
            }
            kind::QUERY | kind::MARIADB_QUERY_COMPRESSED => {
                let query = query_of(event)?;
                let readings = query.spelling.readings(&query.text);
                let (text, meaning) = statement::gravest(&readings, |text| {
                    let logged = Logged { text, default: &query.schema, changed: None };
                    statement::meaning(&logged, self.schema, self.names.iter().copied())
                });
                let matters = matches!(meaning, Meaning::Concerns | Meaning::Rows);
                Ok(matters.then(|| text.chars().take(200).collect()))
            }
            _ => Ok(None),
        }
    }
}

/// Refuses a server whose log has changes of moved tables before `position` that a server which knew `former` did not have.
pub async fn check(
    historian: &mut Historian<'_>,
    former: &str,
    position: &MariaDbGtidPosition,
    moved: &Moved<'_>,
) -> Result<()> {
    // Of what it was set up with, nothing stands in its log.
    let has = ask(historian.conn, "SELECT @@gtid_binlog_state").await?;
    let has = last_numbers(&has).on_source()?;
    let search = Search::new(position, last_numbers(former).on_source()?, &has);
    if search.open.is_empty() {
        return Ok(());
    }
    let mut files = historian.files().await?;
    let Some((mut file, _)) = files.pop() else { return Ok(()) };
    while !search.may_begin(&list(historian, &file).await?) {
        let Some((older, _)) = files.pop() else {
            tracing::warn!(
                "the source has transactions that the former one did not have, and its log does not go back to all of them: \
                 compare the tables by `converge vdiff` before traffic is switched"
            );
            break;
        };
        file = older;
    }
    match search.first(log(historian, &file).await?, moved).await? {
        None => Ok(()),
        Some((gtid, what)) => Err(Error::refused(
            format!(
                "the source has a transaction {gtid} before {position} that the former source did not have, and it changes \
                 moved tables ({what}): somebody wrote to the replica before it took over, and the stream begins behind that"
            ),
            "point --source at a server that has what the former one had and nothing else; or cancel the workflow, empty its \
             tables on the target, and begin again under another name",
        )),
    }
}

/// The log from the beginning of a file to the end of the last one.
async fn log(historian: &Historian<'_>, file: &str) -> Result<BinlogStream> {
    let mut conn = historian.connector.connect().await.on_source()?;
    let capable = conn.query_drop("SET @mariadb_slave_capability = 4");
    within(TIMEOUT, "preparing to read the binary log", capable).await.on_source()?;
    let request = BinlogStreamRequest::new(historian.server_id).with_filename(file.as_bytes()).with_pos(4u64);
    conn.get_binlog_stream(request.with_non_blocking()).await.map_err(|e| refused::reason(e, file))
}

async fn next(log: &mut BinlogStream) -> Result<Option<Event>> {
    match tokio::time::timeout(silence(), log.next()).await {
        Ok(Some(Ok(event))) => Ok(Some(event)),
        Ok(Some(Err(e))) => Err(refused::reason(e, "looking for errant transactions")),
        Ok(None) => Ok(None),
        Err(_) => Err(lost("the source did not send its log to the end")),
    }
}

/// What stands before a file, by the list at its beginning: the last of each server in each domain.
async fn list(historian: &Historian<'_>, file: &str) -> Result<Vec<Gtid>> {
    let mut log = log(historian, file).await?;
    while let Some(event) = next(&mut log).await? {
        if event.header().event_type_raw() == kind::MARIADB_GTID_LIST {
            return listed(event.data()).map_err(|e| Unreadable::from(e).at(file.into()));
        }
    }
    Ok(Vec::new())
}

/// A list: how many, and each by domain, server and number. The count's upper bits are flags.
fn listed(data: &[u8]) -> std::result::Result<Vec<Gtid>, Truncated> {
    let mut bytes = Bytes::new(data);
    let count = bytes.u32()? & 0x0fff_ffff;
    (0..count).map(|_| Ok(((bytes.u32()?, bytes.u32()?), bytes.u64()?))).collect()
}

/// Looks through a log for what the former source did not have.
struct Search {
    /// By domain the place that was not come to: server and number. Only domains that have something unknown.
    open: BTreeMap<u32, (u32, u64)>,
    known: BTreeMap<(u32, u32), u64>,
}

impl Search {
    /// `has`: what the log has in all.
    fn new(
        position: &MariaDbGtidPosition,
        mut known: BTreeMap<(u32, u32), u64>,
        has: &BTreeMap<(u32, u32), u64>,
    ) -> Self {
        for (id, number) in position.numbers() {
            let last = known.entry(id).or_default();
            *last = number.max(*last);
        }
        // What the place's own server wrote later is behind it.
        let unknown = |place: (u32, u32)| {
            has.iter().any(|(id, number)| id.0 == place.0 && *id != place && known.get(id) < Some(number))
        };
        // A place that is not in the log was set up with, and nothing stands before it.
        let open = position.numbers().filter(|(id, number)| has.get(id) >= Some(number) && unknown(*id));
        let open = open.map(|((domain, server), number)| (domain, (server, number))).collect();
        Self { open, known }
    }

    fn is_unknown(&self, (id, number): Gtid) -> bool {
        self.open.contains_key(&id.0) && self.known.get(&id) < Some(&number)
    }

    fn is_place(&self, ((domain, server), number): Gtid) -> bool {
        self.open.get(&domain).is_some_and(|place| place.0 == server && number >= place.1)
    }

    /// Whether all that matters comes behind this list.
    fn may_begin(&self, list: &[Gtid]) -> bool {
        !list.iter().any(|gtid| self.is_unknown(*gtid) || self.is_place(*gtid))
    }

    /// The first unknown transaction that changes a moved table, and what it changes.
    async fn first(mut self, mut log: BinlogStream, moved: &Moved<'_>) -> Result<Option<(String, String)>> {
        let mut unknown = None;
        while !self.open.is_empty() {
            let Some(event) = next(&mut log).await? else { return Ok(None) };
            let unreadable = |e: Unreadable| e.at("looking for errant transactions".into());
            if event.header().event_type_raw() == kind::MARIADB_GTID {
                unknown = self.begin(&event).map_err(unreadable)?;
            } else if let Some(gtid) = &unknown
                && let Some(what) = moved.changed(&event).map_err(unreadable)?
            {
                return Ok(Some((gtid.clone(), what)));
            }
        }
        Ok(None)
    }

    /// A transaction begins; its name, if it is unknown.
    fn begin(&mut self, event: &Event) -> std::result::Result<Option<String>, Unreadable> {
        let mut bytes = Bytes::new(event.data());
        let (number, domain, server) = (bytes.u64()?, bytes.u32()?, event.header().server_id());
        let gtid = ((domain, server), number);
        let unknown = self.is_unknown(gtid).then(|| format!("{domain}-{server}-{number}"));
        if self.is_place(gtid) {
            self.open.remove(&domain);
        }
        Ok(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(position: &str, former: &str, has: &str) -> Search {
        let last = |text: &str| last_numbers(text).unwrap();
        Search::new(&position.parse().unwrap(), last(former), &last(has))
    }

    #[test]
    fn only_domains_with_something_unknown_are_looked_through() {
        let open = |position, former, has| search(position, former, has).open.into_keys().collect::<Vec<_>>();
        assert!(open("0-1-9", "0-1-8,0-2-3", "0-1-9,0-2-3").is_empty());
        assert_eq!(open("0-1-9,5-1-4", "0-1-8,5-1-4", "0-1-9,0-2-3,5-1-6"), [0]);
        // The server was set up with the place, and has written since.
        assert!(open("0-1-9", "0-1-9", "0-2-10").is_empty());
    }

    #[test]
    fn reading_begins_before_the_place_and_before_what_is_unknown() {
        let search = search("0-1-9", "0-1-9", "0-1-9,0-2-12");
        let gtids = |text: &str| last_numbers(text).unwrap().into_iter().collect::<Vec<_>>();
        assert!(search.may_begin(&[]) && search.may_begin(&gtids("0-1-8,7-2-1")));
        assert!(!search.may_begin(&gtids("0-1-9")) && !search.may_begin(&gtids("0-1-8,0-2-8")));
    }

    #[test]
    fn a_list_has_flags_in_its_count() {
        let data = [&[1, 0, 0, 0x10][..], &[0; 4], &[7, 0, 0, 0], &[9, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(listed(&data).unwrap(), [((0, 7), 9)]);
        assert!(listed(&data[..15]).is_err());
    }
}
