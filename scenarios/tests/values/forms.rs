//! Whether each value has one form, read by a query and from the log: by its key the copy knows which of a chunk's rows a
//! change has touched, so that a second form of a key would bring a stale row to the target.

use std::sync::Arc;
use std::time::Duration;

use converge_chaos::server::LocalServer;
use converge_mover::change::{Change, StreamEvent};
use converge_mover::error::Side;
use converge_mover::schema::{Kind, Table};
use converge_mover::source::{ChunkReader, ServerSource, Source};
use converge_mover::value::{Row, Value};
use converge_mysql::{Connector, ServerInfo};
use mysql_async::Conn;

/// More rows than any table has, and what is added to the `id` of a row that is written again.
pub const AGAIN: i64 = 1_000;

/// Reads the tables' rows by queries; then `again` writes each once more, under an id that is greater by [`AGAIN`]. Names
/// the values that the log has in another form.
pub async fn differing(
    server: &LocalServer,
    conn: &mut Conn,
    names: &[&str],
    again: impl AsyncFnOnce(&mut Conn),
) -> Vec<String> {
    let info = ServerInfo::read(conn).await.unwrap();
    let mut tables = Vec::new();
    for name in names {
        tables.push(Table::read(conn, Side::Source, "shop", name).await.unwrap().unwrap());
    }
    let tables: Arc<[Table]> = tables.into();
    let source = ServerSource::new(Connector::new(server.address("shop")), info, "w", tables.clone(), 1);
    let position = source.position(conn).await.unwrap();
    let (mut reader, mut stream) = (source.reader().await.unwrap(), source.stream(&position).await.unwrap());
    let mut expected = Vec::new();
    for table in 0..tables.len() {
        let rows = reader.read(table, None, AGAIN as usize).await.unwrap().rows;
        expected.extend(rows.into_iter().map(|row| (table, row)));
    }
    again(conn).await;
    let mut logged: Vec<(usize, Row)> = Vec::new();
    while logged.len() < expected.len() {
        let event = tokio::time::timeout(Duration::from_secs(30), stream.next()).await;
        if let StreamEvent::Change(Change::Insert { table, after }) = event.expect("all rows").unwrap() {
            logged.push((table, after));
        }
    }
    let by_id = |(table, row): &(usize, Row)| (*table, id(&tables[*table], row));
    expected.sort_by_key(by_id);
    logged.sort_by_key(by_id);
    let pairs = expected.iter().zip(&logged);
    pairs.flat_map(|((table, read), (_, logged))| complaints(&tables[*table], read, logged)).collect()
}

fn id(table: &Table, row: &Row) -> i64 {
    let at = table.columns.iter().position(|c| c.name == "id").unwrap();
    let Value::Int(id) = row[at] else { panic!("{:?}", row[at]) };
    id
}

fn complaints(table: &Table, read: &Row, logged: &Row) -> Vec<String> {
    assert_eq!(id(table, read) + AGAIN, id(table, logged), "{}", table.name);
    // Documents are in no key, and each way has its own spelling of those that no text can say.
    let compared = |kind: &Kind| !matches!(kind, Kind::Json | Kind::JsonText);
    let cells = table.columns.iter().zip(read.iter().zip(logged));
    cells
        .filter(|(column, (read, logged))| column.name != "id" && compared(&column.kind) && read != logged)
        .map(|(column, cells)| format!("{}.{} ({}): {cells:.200?}", table.name, column.name, column.sql_type))
        .collect()
}
