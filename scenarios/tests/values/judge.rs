//! The judge of the type matrix: what two servers themselves say about every value, without a line of the mover's or
//! VDiff's code in between.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// A name in backquotes.
pub fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Name, data type, and whether it is generated, of each column in order.
pub async fn columns(conn: &mut Conn, table: &str) -> Vec<(String, String, bool)> {
    let sql = "SELECT column_name, data_type, extra FROM information_schema.columns \
               WHERE table_schema = 'shop' AND table_name = ? ORDER BY ordinal_position";
    let rows: Vec<(String, String, String)> = conn.exec(sql, (table,)).await.unwrap();
    rows.into_iter().map(|(name, kind, extra)| (name, kind, extra.contains(" GENERATED"))).collect()
}

/// SQL for an exact text of a value, the same text for the same value on both products.
fn exact(name: &str, kind: &str, typed_json: bool) -> String {
    let c = ident(name);
    match kind {
        "float" | "double" => format!("HEX(ST_AsWKB(POINT({c}, 0)))"),
        "enum" | "set" => format!("CONCAT(CAST({c} AS UNSIGNED), ':', HEX(CONVERT({c} USING utf8mb4)))"),
        "bit" => format!("HEX({c})"),
        "year" => format!("CAST({c} AS UNSIGNED)"),
        "json" if typed_json => format!(
            "CONCAT(CONVERT({c} USING utf8mb4), ' ', JSON_STORAGE_SIZE({c}), ' ', JSON_TYPE({c}), ' ', \
             (SELECT CONCAT(COUNT(*), IFNULL(GROUP_CONCAT(JSON_TYPE(v) ORDER BY n), '')) FROM JSON_TABLE({c}, '$**.*' COLUMNS (n FOR ORDINALITY, v JSON PATH '$')) x), \
             (SELECT CONCAT(COUNT(*), IFNULL(GROUP_CONCAT(JSON_TYPE(v) ORDER BY n), '')) FROM JSON_TABLE({c}, '$**[*]' COLUMNS (n FOR ORDINALITY, v JSON PATH '$')) x))"
        ),
        "json" => format!("CONVERT({c} USING utf8mb4)"),
        "uuid" | "inet4" | "inet6" => format!("CONCAT({c}, ' ', HEX({c}))"),
        // The internal form: SRID, then WKB.
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" | "geomcollection" => {
            format!("CONCAT(ST_SRID({c}), ' ', HEX({c}))")
        }
        "vector" => format!("HEX({c})"),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "binary" | "varbinary"
        | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
            format!("IF(LENGTH({c}) > 2000, CONCAT(LENGTH({c}), ' ', SHA2({c}, 256)), HEX({c}))")
        }
        _ => format!("CAST({c} AS CHAR)"),
    }
}

/// All rows of a table by id. `kinds`: the source's columns, by which both sides are read.
pub async fn dump(
    conn: &mut Conn,
    table: &str,
    kinds: &[(String, String, bool)],
    typed_json: bool,
) -> Vec<(i64, Vec<Option<String>>)> {
    conn.query_drop("SET SESSION time_zone = '+00:00', group_concat_max_len = 10000000").await.unwrap();
    let list: Vec<String> =
        kinds.iter().map(|(name, kind, _)| format!(", {}", exact(name, kind, typed_json))).collect();
    let sql = format!("SELECT id{} FROM {} ORDER BY id", list.concat(), ident(table));
    let rows: Vec<mysql_async::Row> = conn.query(&sql).await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    rows.into_iter()
        .map(|row| {
            let id = row.get(0).unwrap();
            let texts = (1..row.len()).map(|i| row.get::<Option<Vec<u8>>, _>(i).unwrap());
            (id, texts.map(|t| t.map(|t| String::from_utf8(t).unwrap())).collect())
        })
        .collect()
}
