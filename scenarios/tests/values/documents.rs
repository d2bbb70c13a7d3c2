//! JSON documents that look alike, but for some.

/// Rows that [`TABLE`] is filled with.
pub const ROWS: u64 = 1_200;

/// Of the documents of a table: `alike` have values of SQL types in places where others have JSON's own, and a few have one
/// elsewhere; `later` ones look otherwise from some row on; there are `many` places from some row on; and one is `long`.
pub const TABLE: &str =
    "CREATE TABLE documents (id INT PRIMARY KEY, alike JSON, later JSON, many JSON, `long` JSON)";

/// The rows.
pub fn fill() -> String {
    let many = vec!["CAST(CONCAT(id, '.125') AS DECIMAL(10,3))"; 20].join(", ");
    let day = "DATE'2024-01-01' + INTERVAL id DAY";
    format!(
        "INSERT INTO documents WITH RECURSIVE n AS (SELECT 1 id UNION ALL SELECT id + 1 FROM n WHERE id < {ROWS}) SELECT id, \
         IF(id % 7 = 0, NULL, JSON_MERGE_PRESERVE( \
             JSON_OBJECT('n', id, 'price', IF(id % 3 = 0, CAST(CAST(CONCAT(id, '.25') AS DECIMAL(10,2)) AS JSON), CAST(id + 0.25e0 AS JSON)), \
                 'a\"t', JSON_ARRAY('x', IF(id % 5 = 0, CAST(CAST({day} AS DATE) AS JSON), CAST(JSON_QUOTE(CAST({day} AS CHAR)) AS JSON)))), \
             IF(id BETWEEN 700 AND 705, JSON_OBJECT('odd', x'00ff'), JSON_OBJECT()))), \
         IF(id < 400, JSON_OBJECT('v', id), JSON_OBJECT('w', CAST(CONCAT(id, '.125') AS DECIMAL(10,3)))), \
         IF(id < 900, JSON_ARRAY(id), JSON_ARRAY({many})), \
         IF(id = 1100, JSON_ARRAY(REPEAT('x', 100000), CAST(1.5 AS DECIMAL(3,1))), JSON_ARRAY('x', id)) FROM n"
    )
}
