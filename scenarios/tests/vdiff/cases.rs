//! The corruption matrix: tables, their rows, and one damage each, with the rows and columns that must be named.

use converge_mysql::Flavor;

/// One table and the damage done to its copy on the target.
pub struct Case {
    /// The table's name.
    pub table: String,
    /// Servers that have what it takes; `None` for all.
    pub only: Option<Flavor>,
    /// What stands between `CREATE TABLE name (` and `)`, and after it.
    pub columns: String,
    /// Options after the closing parenthesis.
    pub table_options: String,
    /// What stands after `INSERT INTO name`; empty for no rows.
    pub rows: String,
    /// Statements on the target, with `T` for the table's name.
    pub damage: Vec<String>,
    /// What must be found: `kind key columns` with the key as JSON.
    #[allow(dead_code)]
    pub found: Vec<String>,
}

impl Case {
    /// The statements that make the table.
    pub fn creation(&self) -> Vec<String> {
        let table = format!("CREATE TABLE `{}` ({}) {}", self.table, self.columns, self.table_options);
        let rows = (!self.rows.is_empty()).then(|| format!("INSERT INTO `{}` {}", self.table, self.rows));
        std::iter::once(table).chain(rows).collect()
    }

    /// The statements that damage it.
    pub fn damages(&self) -> Vec<String> {
        let name = format!("`{}`", self.table);
        let named = |sql: &String| {
            sql.split(' ')
                .map(|word| if word == "T" { name.as_str() } else { word })
                .collect::<Vec<_>>()
                .join(" ")
        };
        self.damage.iter().map(named).collect()
    }
}

const NUMBERS: &str = "(id, v) VALUES (1,'v1'),(2,'v2'),(3,'v3'),(4,'v4'),(5,'v5'),(6,'v6'),(7,'v7'),(8,'v8'),(9,'v9'),\
                       (10,'v10'),(11,'v11'),(12,'v12')";
const SIMPLE: &str = "id INT PRIMARY KEY, v VARCHAR(20)";

macro_rules! cases {
    ($($table:ident $(($only:ident))? [$columns:expr $(; $options:literal)?] $rows:expr; $($damage:literal),* => $($found:literal),*;)*) => {
        /// All cases.
        pub fn cases() -> Vec<Case> {
            vec![$(Case {
                table: stringify!($table).into(),
                only: cases!(@only $($only)?),
                columns: $columns.into(),
                table_options: cases!(@options $($options)?).into(),
                rows: $rows.into(),
                damage: vec![$($damage.into()),*],
                found: vec![$($found.into()),*],
            }),*]
        }
    };
    (@only) => { None };
    (@only $only:ident) => { Some(Flavor::$only) };
    (@options) => { "" };
    (@options $options:literal) => { $options };
}

cases! {
    // Where: first, last, middle, each chunk boundary (chunks have three rows), below, above, between.
    changed_at_boundaries [SIMPLE] NUMBERS; "UPDATE T SET v = 'x' WHERE id IN (1, 3, 4, 6, 7, 9, 10, 12)" =>
        "mismatched {\"id\":1} v", "mismatched {\"id\":3} v", "mismatched {\"id\":4} v", "mismatched {\"id\":6} v",
        "mismatched {\"id\":7} v", "mismatched {\"id\":9} v", "mismatched {\"id\":10} v", "mismatched {\"id\":12} v";
    changed_first [SIMPLE] NUMBERS; "UPDATE T SET v = 'x' WHERE id = 1" => "mismatched {\"id\":1} v";
    changed_middle [SIMPLE] NUMBERS; "UPDATE T SET v = 'x' WHERE id = 5" => "mismatched {\"id\":5} v";
    changed_last [SIMPLE] NUMBERS; "UPDATE T SET v = 'x' WHERE id = 12" => "mismatched {\"id\":12} v";
    missing_first [SIMPLE] NUMBERS; "DELETE FROM T WHERE id = 1" => "extra_source {\"id\":1} ";
    missing_at_boundaries [SIMPLE] NUMBERS; "DELETE FROM T WHERE id IN (3, 4, 6, 7)" =>
        "extra_source {\"id\":3} ", "extra_source {\"id\":4} ", "extra_source {\"id\":6} ", "extra_source {\"id\":7} ";
    missing_last [SIMPLE] NUMBERS; "DELETE FROM T WHERE id = 12" => "extra_source {\"id\":12} ";
    missing_all [SIMPLE] "(id, v) VALUES (1,'a'),(2,'b')"; "DELETE FROM T" =>
        "extra_source {\"id\":1} ", "extra_source {\"id\":2} ";
    extra_below [SIMPLE] NUMBERS; "INSERT INTO T VALUES (-5, 'x'), (0, 'y')" =>
        "extra_target {\"id\":-5} ", "extra_target {\"id\":0} ";
    extra_above [SIMPLE] NUMBERS; "INSERT INTO T VALUES (13, 'x'), (2147483647, 'y')" =>
        "extra_target {\"id\":13} ", "extra_target {\"id\":2147483647} ";
    extra_between [SIMPLE] "(id, v) VALUES (10,'a'),(20,'b'),(30,'c'),(40,'d'),(50,'e')"; "INSERT INTO T VALUES (31, 'x')" =>
        "extra_target {\"id\":31} ";
    missing_middle [SIMPLE] NUMBERS; "DELETE FROM T WHERE id = 5" => "extra_source {\"id\":5} ";
    extra_at_boundaries [SIMPLE] "(id, v) VALUES (10,'a'),(20,'b'),(30,'c'),(40,'d'),(50,'e'),(60,'f'),(70,'g'),(80,'h'),(90,'i')";
        "INSERT INTO T VALUES (9,'x'),(11,'x'),(31,'x'),(39,'x'),(41,'x'),(61,'x'),(69,'x'),(71,'x'),(89,'x'),(91,'x')" =>
        "extra_target {\"id\":9} ", "extra_target {\"id\":11} ", "extra_target {\"id\":31} ", "extra_target {\"id\":39} ",
        "extra_target {\"id\":41} ", "extra_target {\"id\":61} ", "extra_target {\"id\":69} ", "extra_target {\"id\":71} ",
        "extra_target {\"id\":89} ", "extra_target {\"id\":91} ";
    moved_row [SIMPLE] NUMBERS; "UPDATE T SET id = 100 WHERE id = 3" => "extra_source {\"id\":3} ", "extra_target {\"id\":100} ";
    swapped_keys [SIMPLE] NUMBERS; "UPDATE T SET id = 99 WHERE id = 3", "UPDATE T SET id = 3 WHERE id = 9", "UPDATE T SET id = 9 WHERE id = 99" =>
        "mismatched {\"id\":3} v", "mismatched {\"id\":9} v";
    extra_where_source_is_empty [SIMPLE] ""; "INSERT INTO T VALUES (1,'x'),(2,'x'),(3,'x'),(4,'x'),(5,'x'),(6,'x')" =>
        "extra_target {\"id\":1} ", "extra_target {\"id\":2} ", "extra_target {\"id\":3} ", "extra_target {\"id\":4} ",
        "extra_target {\"id\":5} ", "extra_target {\"id\":6} ";
    one_row [SIMPLE] "(id, v) VALUES (7, 'x')"; "UPDATE T SET v = 'y'" => "mismatched {\"id\":7} v";
    // What cancels or hides in weaker digests.
    swapped_rows [SIMPLE] NUMBERS; "UPDATE T SET v = IF(id = 2, 'v3', 'v2') WHERE id IN (2, 3)" =>
        "mismatched {\"id\":2} v", "mismatched {\"id\":3} v";
    same_edit_in_2 [SIMPLE] NUMBERS; "UPDATE T SET v = 'zz' WHERE id IN (1, 2)" =>
        "mismatched {\"id\":1} v", "mismatched {\"id\":2} v";
    same_edit_in_4 [SIMPLE] NUMBERS; "UPDATE T SET v = 'zz' WHERE id IN (4, 5, 6, 7)" =>
        "mismatched {\"id\":4} v", "mismatched {\"id\":5} v", "mismatched {\"id\":6} v", "mismatched {\"id\":7} v";
    same_edit_in_8 ["id INT PRIMARY KEY, v CHAR(2)"] "VALUES (1,'aa'),(2,'aa'),(3,'aa'),(4,'aa'),(5,'aa'),(6,'aa'),(7,'aa'),(8,'aa')";
        "UPDATE T SET v = 'ab'" =>
        "mismatched {\"id\":1} v", "mismatched {\"id\":2} v", "mismatched {\"id\":3} v", "mismatched {\"id\":4} v",
        "mismatched {\"id\":5} v", "mismatched {\"id\":6} v", "mismatched {\"id\":7} v", "mismatched {\"id\":8} v";
    swapped_columns ["id INT PRIMARY KEY, a VARCHAR(9), b VARCHAR(9)"] "VALUES (1,'x','y')"; "UPDATE T SET a = 'y', b = 'x'" =>
        "mismatched {\"id\":1} a,b";
    moved_border ["id INT PRIMARY KEY, a VARCHAR(9), b VARCHAR(9)"] "VALUES (1,'ab','c')"; "UPDATE T SET a = 'a', b = 'bc'" =>
        "mismatched {\"id\":1} a,b";
    forged_frame ["id INT PRIMARY KEY, a VARCHAR(9), b VARCHAR(9)"] "VALUES (1,'a,1:b','c')"; "UPDATE T SET a = 'a', b = 'b,1:c'" =>
        "mismatched {\"id\":1} a,b";
    shifted_null ["id INT PRIMARY KEY, a VARCHAR(9), b VARCHAR(9)"] "VALUES (1,NULL,'x')"; "UPDATE T SET a = 'x', b = NULL" =>
        "mismatched {\"id\":1} a,b";
    // NULL and what looks like it.
    null_to_empty [SIMPLE] "VALUES (1,NULL)"; "UPDATE T SET v = ''" => "mismatched {\"id\":1} v";
    null_to_word [SIMPLE] "VALUES (1,NULL)"; "UPDATE T SET v = 'NULL'" => "mismatched {\"id\":1} v";
    word_to_empty [SIMPLE] "VALUES (1,'NULL')"; "UPDATE T SET v = ''" => "mismatched {\"id\":1} v";
    word_to_zero [SIMPLE] "VALUES (1,'NULL')"; "UPDATE T SET v = '0'" => "mismatched {\"id\":1} v";
    null_to_n [SIMPLE] "VALUES (1,NULL)"; "UPDATE T SET v = 'N'" => "mismatched {\"id\":1} v";
    empty_to_null [SIMPLE] "VALUES (1,'')"; "UPDATE T SET v = NULL" => "mismatched {\"id\":1} v";
    null_to_zero ["id INT PRIMARY KEY, v INT"] "VALUES (1,NULL)"; "UPDATE T SET v = 0" => "mismatched {\"id\":1} v";
    empty_to_zero [SIMPLE] "VALUES (1,'')"; "UPDATE T SET v = '0'" => "mismatched {\"id\":1} v";
    // Strings that collations call equal.
    letter_case [SIMPLE] "VALUES (1,'Abc')"; "UPDATE T SET v = 'abc'" => "mismatched {\"id\":1} v";
    accent [SIMPLE] "VALUES (1,'Jose')"; "UPDATE T SET v = 'José'" => "mismatched {\"id\":1} v";
    trailing_space [SIMPLE] "VALUES (1,'a')"; "UPDATE T SET v = 'a '" => "mismatched {\"id\":1} v";
    trailing_nul [SIMPLE] "VALUES (1,'a')"; "UPDATE T SET v = 'a\\0'" => "mismatched {\"id\":1} v";
    normal_form [SIMPLE] "VALUES (1,_utf8mb4 x'c3a9')"; "UPDATE T SET v = _utf8mb4 x'65cc81'" => "mismatched {\"id\":1} v";
    four_bytes [SIMPLE] "VALUES (1,_utf8mb4 x'f09f9880')"; "UPDATE T SET v = _utf8mb4 x'f09f9881'" => "mismatched {\"id\":1} v";
    latin1 ["id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET latin1"] "VALUES (1,x'e9'),(2,x'81')"; "UPDATE T SET v = 'e' WHERE id = 1" =>
        "mismatched {\"id\":1} v";
    utf16 ["id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET utf16"] "VALUES (1,'aé')"; "UPDATE T SET v = 'ae'" => "mismatched {\"id\":1} v";
    long_text ["id INT PRIMARY KEY, v LONGTEXT"] "VALUES (1,REPEAT('é',300000))"; "UPDATE T SET v = CONCAT(REPEAT('é',150000),'e',REPEAT('é',149999))" =>
        "mismatched {\"id\":1} v";
    tiny_text ["id INT PRIMARY KEY, v TINYTEXT, w TINYBLOB"] "VALUES (1,'a','a')"; "UPDATE T SET w = 'A'" => "mismatched {\"id\":1} w";
    // Numbers.
    float_digits ["id INT PRIMARY KEY, v FLOAT"] "VALUES (1,16777215)"; "UPDATE T SET v = 16777214" => "mismatched {\"id\":1} v";
    float_small ["id INT PRIMARY KEY, v FLOAT"] "VALUES (1,1.2345678)"; "UPDATE T SET v = 1.2345679" => "mismatched {\"id\":1} v";
    double_ulp ["id INT PRIMARY KEY, v DOUBLE"] "VALUES (1,0.3e0)"; "UPDATE T SET v = 0.1e0 + 0.2e0" => "mismatched {\"id\":1} v";
    double_extreme ["id INT PRIMARY KEY, v DOUBLE"] "VALUES (1,1.7976931348623157e308),(2,5e-324)"; "UPDATE T SET v = 1.7976931348623155e308 WHERE id = 1" =>
        "mismatched {\"id\":1} v";
    double_denormal ["id INT PRIMARY KEY, v DOUBLE"] "VALUES (1,5e-324)"; "UPDATE T SET v = 0" => "mismatched {\"id\":1} v";
    minus_zero(MySql) ["id INT PRIMARY KEY, v DOUBLE, w FLOAT"] "VALUES (1,0,0)"; "UPDATE T SET v = '-0', w = '-0'" => "mismatched {\"id\":1} v,w";
    decimal_digit ["id INT PRIMARY KEY, v DECIMAL(65,30)"] "VALUES (1,12345678901234567890123456789012345.123456789012345678901234567890)";
        "UPDATE T SET v = 12345678901234567890123456789012345.123456789012345678901234567891" => "mismatched {\"id\":1} v";
    unsigned_64 ["id INT PRIMARY KEY, v BIGINT UNSIGNED"] "VALUES (1,18446744073709551615)"; "UPDATE T SET v = 18446744073709551614" =>
        "mismatched {\"id\":1} v";
    signs ["id INT PRIMARY KEY, a TINYINT, b SMALLINT, c MEDIUMINT, d INT, e BIGINT"]
        "VALUES (1,-128,-32768,-8388608,-2147483648,-9223372036854775808)";
        "UPDATE T SET c = 8388607, e = -9223372036854775807" => "mismatched {\"id\":1} c,e";
    zerofill ["id INT PRIMARY KEY, v INT(6) ZEROFILL"] "VALUES (1,42)"; "UPDATE T SET v = 420" => "mismatched {\"id\":1} v";
    bits ["id INT PRIMARY KEY, v BIT(64), w BIT(1)"] "VALUES (1,b'1',b'0')"; "UPDATE T SET v = 18446744073709551615, w = 1" =>
        "mismatched {\"id\":1} v,w";
    // Times.
    microsecond ["id INT PRIMARY KEY, v DATETIME(6)"] "VALUES (1,'2020-01-01 00:00:00.000001')"; "UPDATE T SET v = '2020-01-01 00:00:00.000002'" =>
        "mismatched {\"id\":1} v";
    an_hour ["id INT PRIMARY KEY, v TIMESTAMP(3) NULL"] "VALUES (1,'2020-10-25 00:30:00.5')"; "UPDATE T SET v = '2020-10-25 01:30:00.5'" =>
        "mismatched {\"id\":1} v";
    zero_dates ["id INT PRIMARY KEY, a DATE, b DATETIME, c TIMESTAMP NULL"] "VALUES (1,'0000-00-00','0000-00-00','0000-00-00'),(2,'2020-00-00',NULL,NULL)";
        "UPDATE T SET a = NULL, b = NULL, c = NULL WHERE id = 1" => "mismatched {\"id\":1} a,b,c";
    times ["id INT PRIMARY KEY, v TIME(6), y YEAR"] "VALUES (1,'-00:00:00.5',0),(2,'838:59:59',1901)"; "UPDATE T SET v = '00:00:00.5', y = 2000 WHERE id = 1" =>
        "mismatched {\"id\":1} v,y";
    // Types with names and structure.
    enum_empty ["id INT PRIMARY KEY, v ENUM('a','','b')"] "VALUES (1,'')"; "UPDATE T SET v = 0" => "mismatched {\"id\":1} v";
    enum_member ["id INT PRIMARY KEY, v ENUM('a','A2','b')"] "VALUES (1,'a')"; "UPDATE T SET v = 'b'" => "mismatched {\"id\":1} v";
    set_members ["id INT PRIMARY KEY, v SET('a','b','c')"] "VALUES (1,'a,c')"; "UPDATE T SET v = 'a,b'" => "mismatched {\"id\":1} v";
    set_empty ["id INT PRIMARY KEY, v SET('a','b')"] "VALUES (1,'')"; "UPDATE T SET v = NULL" => "mismatched {\"id\":1} v";
    json_type ["id INT PRIMARY KEY, v JSON"] "VALUES (1,'{\"b\":1,\"a\":[1,2]}'),(2,'1'),(3,'1'),(4,'\"x\"'),(5,'[1.50, 1e2, \"\\\\u00e9\"]')";
        "REPLACE INTO T VALUES (2, '1.0')", "UPDATE T SET v = '\"1\"' WHERE id = 3" => "mismatched {\"id\":2} v", "mismatched {\"id\":3} v";
    json_null ["id INT PRIMARY KEY, v JSON"] "VALUES (1,'null')"; "UPDATE T SET v = NULL" => "mismatched {\"id\":1} v";
    json_deep ["id INT PRIMARY KEY, v JSON"] "VALUES (1,'{\"k\":{\"l\":[true,0.1]}}')"; "UPDATE T SET v = '{\"k\":{\"l\":[true,0.10000000000000002]}}'" =>
        "mismatched {\"id\":1} v";
    geometry ["id INT PRIMARY KEY, v GEOMETRY"] "VALUES (1,ST_GeomFromText('POINT(1 2)')),(2,NULL)"; "UPDATE T SET v = ST_GeomFromText('POINT(1 2.0000000000000004)') WHERE id = 1" =>
        "mismatched {\"id\":1} v";
    vectors(MySql) ["id INT PRIMARY KEY, v VECTOR(3)"] "VALUES (1,TO_VECTOR('[1,2,3]'))"; "UPDATE T SET v = TO_VECTOR('[1,2,3.0000002]')" =>
        "mismatched {\"id\":1} v";
    addresses(MariaDb) ["id INT PRIMARY KEY, u UUID, i INET6"] "VALUES (1,'123e4567-e89b-12d3-a456-426655440000','::1')"; "UPDATE T SET i = '::2'" =>
        "mismatched {\"id\":1} i";
    binary_zeros ["id INT PRIMARY KEY, v VARBINARY(9), w BINARY(4)"] "VALUES (1,x'00',x'61')"; "UPDATE T SET v = ''" => "mismatched {\"id\":1} v";
    blob_bit ["id INT PRIMARY KEY, v LONGBLOB"] "VALUES (1,REPEAT('x',20971520))";
        "UPDATE T SET v = CONCAT(REPEAT('x',10485760),'y',REPEAT('x',10485759))" => "mismatched {\"id\":1} v";
    stored_generated ["id INT PRIMARY KEY, a INT, g INT GENERATED ALWAYS AS (a + 1) STORED"] "(id, a) VALUES (1,1)"; "UPDATE T SET a = 2" =>
        "mismatched {\"id\":1} a,g";
    virtual_generated ["id INT PRIMARY KEY, a INT, g INT GENERATED ALWAYS AS (a + 1) VIRTUAL"] "(id, a) VALUES (1,1)"; "UPDATE T SET a = 2" =>
        "mismatched {\"id\":1} a,g";
    invisible ["id INT PRIMARY KEY, a INT INVISIBLE"] "(id, a) VALUES (1,1)"; "UPDATE T SET a = 2" => "mismatched {\"id\":1} a";
    odd_names ["`i d``x` INT PRIMARY KEY, `é'\"` INT, `select` INT"] "VALUES (1,1,1)"; "UPDATE T SET `é'\"` = 2" => "mismatched {\"i d`x\":1} é'\"";
    // Keys.
    composite_key ["a INT, b VARCHAR(9) COLLATE utf8mb4_bin, c INT, v INT, PRIMARY KEY (a, b, c)"]
        "VALUES (1,'a',1,0),(1,'a',2,0),(1,'b',1,0),(1,'b',2,0),(2,'a',1,0),(2,'a',2,0),(2,'b',1,0),(2,'b',2,0)";
        "UPDATE T SET v = 1 WHERE a = 1 AND b = 'b' AND c = 2", "DELETE FROM T WHERE a = 2 AND b = 'a' AND c = 1",
        "INSERT INTO T VALUES (2,'aa',9,9)" =>
        "mismatched {\"a\":1,\"b\":\"b\",\"c\":2} v", "extra_source {\"a\":2,\"b\":\"a\",\"c\":1} ", "extra_target {\"a\":2,\"b\":\"aa\",\"c\":9} ";
    half_ordered_key ["a INT, b VARCHAR(9) COLLATE utf8mb4_unicode_ci, v INT, PRIMARY KEY (a, b)"]
        "VALUES (1,'a',0),(1,'b',0),(1,'c',0),(1,'d',0),(1,'e',0),(1,'f',0),(1,'g',0),(1,'h',0),(2,'a',0),(2,'b',0),(3,'é',0)";
        "UPDATE T SET v = 1 WHERE a = 1 AND b = 'h'", "UPDATE T SET b = 'B' WHERE a = 2 AND b = 'b'" =>
        "mismatched {\"a\":1,\"b\":\"h\"} v", "extra_source {\"a\":2,\"b\":\"b\"} ", "extra_target {\"a\":2,\"b\":\"B\"} ";
    ci_key ["k VARCHAR(20) COLLATE utf8mb4_unicode_ci PRIMARY KEY, v INT"] "VALUES ('a',1),('B',1),('c',1),('D',1),('é',1),('z',1),('ß',1)";
        "UPDATE T SET v = 2 WHERE k = 'D'" => "mismatched {\"k\":\"D\"} v";
    ci_key_case ["k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT"] "VALUES ('a',1),('b',1),('c',1),('d',1),('e',1)";
        "UPDATE T SET k = 'B' WHERE k = 'b'" => "extra_source {\"k\":\"b\"} ", "extra_target {\"k\":\"B\"} ";
    ci_key_accent ["k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT"] "VALUES ('a',1),('e',1),('i',1)";
        "UPDATE T SET k = 'é' WHERE k = 'e'" => "extra_source {\"k\":\"e\"} ", "extra_target {\"k\":\"é\"} ";
    key_space ["k VARCHAR(20) COLLATE utf8mb4_bin PRIMARY KEY, v INT"] "VALUES ('a',1),('b',1),('c',1),('d',1)";
        "UPDATE T SET k = 'b ' WHERE k = 'b'" => "extra_source {\"k\":\"b\"} ", "extra_target {\"k\":\"b \"} ";
    binary_key ["k VARBINARY(8) PRIMARY KEY, v INT"] "VALUES (x'',1),(x'00',1),(x'0000',1),(x'61',1),(x'ff',1),(x'ff00',1)";
        "UPDATE T SET v = 2 WHERE k = x'0000'", "DELETE FROM T WHERE k = x'ff00'" => "mismatched {\"k\":\"0x0000\"} v", "extra_source {\"k\":\"0xff00\"} ";
    uuid_key ["k BINARY(16) PRIMARY KEY, v INT"] "VALUES (UNHEX(REPEAT('00',16)),1),(UNHEX(REPEAT('7f',16)),1),(UNHEX(REPEAT('ff',16)),1)";
        "UPDATE T SET v = 2 WHERE k = UNHEX(REPEAT('ff',16))" => "mismatched {\"k\":\"0xffffffffffffffffffffffffffffffff\"} v";
    unsigned_key ["k BIGINT UNSIGNED PRIMARY KEY, v INT"] "VALUES (0,1),(1,1),(9223372036854775807,1),(9223372036854775808,1),(18446744073709551615,1)";
        "UPDATE T SET v = 2 WHERE k >= 9223372036854775808" =>
        "mismatched {\"k\":\"9223372036854775808\"} v", "mismatched {\"k\":\"18446744073709551615\"} v";
    negative_key ["k BIGINT PRIMARY KEY, v INT"] "VALUES (-9223372036854775808,1),(-9223372036854775807,1),(-1,1),(0,1),(9223372036854775807,1)";
        "UPDATE T SET v = 2 WHERE k < -1" =>
        "mismatched {\"k\":\"-9223372036854775808\"} v", "mismatched {\"k\":\"-9223372036854775807\"} v";
    time_key ["k DATETIME(6) PRIMARY KEY, v INT"] "VALUES ('0000-00-00',1),('2020-01-01 00:00:00.000001',1),('2020-01-01 00:00:00.000002',1),('9999-12-31 23:59:59.999999',1)";
        "UPDATE T SET v = 2 WHERE k = '2020-01-01 00:00:00.000002'" => "mismatched {\"k\":\"2020-01-01 00:00:00.000002\"} v";
    decimal_key ["k DECIMAL(20,3) PRIMARY KEY, v INT"] "VALUES (-1.5,1),(0,1),(0.001,1),(99999999999999999.999,1)";
        "UPDATE T SET v = 2 WHERE k = 0.001" => "mismatched {\"k\":\"0.001\"} v";
    bit_key ["k BIT(8) PRIMARY KEY, v INT"] "VALUES (0,1),(1,1),(127,1),(128,1),(255,1)"; "UPDATE T SET v = 2 WHERE k = 128" => "mismatched {\"k\":128} v";
    enum_key ["k ENUM('z','a','m') PRIMARY KEY, v INT"] "VALUES ('z',1),('a',1),('m',1)"; "UPDATE T SET v = 2 WHERE k = 'a'" => "mismatched {\"k\":\"a\"} v";
    float_key ["k DOUBLE PRIMARY KEY, v INT"] "VALUES (0.1,1),(0.2,1),(1e300,1)"; "UPDATE T SET v = 2 WHERE k = 1e300" => "mismatched {\"k\":\"1e300\"} v";
    prefix_key ["k TEXT, v INT, PRIMARY KEY (k(10))"] "VALUES ('a',1),('b',1),('long enough for a prefix',1)"; "UPDATE T SET v = 2 WHERE k LIKE 'long%'" =>
        "mismatched {\"k\":\"long enough for a prefix\"} v";
    unique_key ["a INT NULL, b INT NOT NULL, v INT, UNIQUE (a), UNIQUE (b)"] "VALUES (NULL,1,1),(NULL,2,1),(1,3,1)"; "UPDATE T SET v = 2 WHERE b = 2" =>
        "mismatched {\"b\":2} v";
    sparse_key ["k BIGINT PRIMARY KEY, v INT"] "VALUES (1,1),(1000000,1),(1000001,1),(4000000000000,1),(4000000000001,1)"; "UPDATE T SET v = 2 WHERE k = 4000000000000" =>
        "mismatched {\"k\":4000000000000} v";
    char_key ["k CHAR(9) CHARACTER SET latin1 PRIMARY KEY, v INT"] "VALUES ('a',1),('B',1),('é',1),('z',1)"; "UPDATE T SET k = 'E' WHERE k = 'é'" =>
        "extra_source {\"k\":\"é\"} ", "extra_target {\"k\":\"E\"} ";
    date_key ["k DATE PRIMARY KEY, v INT"] "VALUES ('0000-00-00',1),('2020-00-00',1),('2020-02-29',1),('9999-12-31',1)";
        "UPDATE T SET v = 2 WHERE k = '2020-00-00'" => "mismatched {\"k\":\"2020-00-00\"} v";
    timestamp_key ["k TIMESTAMP(6) PRIMARY KEY, v INT"] "VALUES ('2020-10-25 00:30:00',1),('2020-10-25 01:30:00',1),('2038-01-19 03:14:07.999999',1)";
        "UPDATE T SET v = 2 WHERE k > '2030-01-01'" => "mismatched {\"k\":\"2038-01-19 03:14:07.999999\"} v";
    clock_key ["k TIME(1) PRIMARY KEY, v INT"] "VALUES ('-838:59:59',1),('-00:00:00.1',1),('00:00:00',1),('100:00:00.5',1),('838:59:59',1)";
        "UPDATE T SET v = 2 WHERE k IN ('-00:00:00.1', '838:59:59')" =>
        "mismatched {\"k\":\"-00:00:00.1\"} v", "mismatched {\"k\":\"838:59:59.0\"} v";
    year_key ["k YEAR PRIMARY KEY, v INT"] "VALUES (0,1),(1901,1),(2000,1),(2155,1)"; "UPDATE T SET v = 2 WHERE k = 0" => "mismatched {\"k\":0} v";
    set_key ["k SET('z','a','m') PRIMARY KEY, v INT"] "VALUES ('',1),('z',1),('a',1),('z,m',1)"; "UPDATE T SET v = 2 WHERE k = 'z,m'" => "mismatched {\"k\":\"z,m\"} v";
    real_key ["k FLOAT PRIMARY KEY, v INT"] "VALUES (-0.5,1),(16777214,1),(16777215,1)"; "UPDATE T SET v = 2 WHERE k > 16777214" => "mismatched {\"k\":\"16777215.0\"} v";
    zerofill_key ["k INT(6) ZEROFILL PRIMARY KEY, v INT"] "VALUES (1,1),(42,1),(1000000,1)"; "UPDATE T SET v = 2 WHERE k = 42" => "mismatched {\"k\":42} v";
    text_in_key ["a INT, b VARCHAR(700) COLLATE utf8mb4_bin, v INT, PRIMARY KEY (b, a)"]
        "VALUES (1,'it''s',1),(1,'\\\\',1),(2,'\\\\',1),(1,'a\\0b',1),(1,'😀',1),(1,REPEAT('é',700),1)"; "UPDATE T SET v = 2" =>
        "mismatched {\"b\":\"it's\",\"a\":1} v", "mismatched {\"b\":\"\\\\\",\"a\":1} v", "mismatched {\"b\":\"\\\\\",\"a\":2} v",
        "mismatched {\"b\":\"a\\u0000b\",\"a\":1} v", "mismatched {\"b\":\"😀\",\"a\":1} v", "mismatched {\"b\":\"éé*\"a\":1} v";
    generated_key(MySql) ["a INT, k INT GENERATED ALWAYS AS (a * 2) STORED, v INT, PRIMARY KEY (k)"] "(a, v) VALUES (1,1),(2,1),(3,1),(4,1)";
        "UPDATE T SET a = 9 WHERE a = 2" => "extra_source {\"k\":4} ", "extra_target {\"k\":18} ";
    descending_key(MySql) ["a INT, b INT, v INT, PRIMARY KEY (a DESC, b)"] "VALUES (1,1,1),(1,2,1),(2,1,1),(2,2,1),(3,1,1),(3,2,1),(4,1,1)";
        "UPDATE T SET v = 2 WHERE a = 3", "DELETE FROM T WHERE a = 1 AND b = 1" =>
        "mismatched {\"a\":3,\"b\":1} v", "mismatched {\"a\":3,\"b\":2} v", "extra_source {\"a\":1,\"b\":1} ";
    // No key: multisets.
    no_key_all_equal ["a INT"] "VALUES (1),(1),(1),(1),(1),(1),(1),(1)"; "DELETE FROM T LIMIT 3" => "extra_source {\"a\":1} ";
    no_key_swapped ["a INT, b INT"] "VALUES (1,2),(2,1),(1,2),(3,3)"; "UPDATE T SET a = 2, b = 1 WHERE a = 1 LIMIT 1" =>
        "extra_source {\"a\":1,\"b\":2} ", "extra_target {\"a\":2,\"b\":1} ";
    nullable_key ["a INT NULL, b VARCHAR(9), UNIQUE (a)"] "VALUES (NULL,'x'),(NULL,'x'),(1,'x'),(2,'y')"; "DELETE FROM T WHERE a IS NULL LIMIT 1" =>
        "extra_source {\"a\":null,\"b\":\"x\"} ";
    no_key ["a INT, b VARCHAR(9)"] "VALUES (1,'x'),(1,'x'),(2,NULL),(NULL,NULL),(3,'y')"; "UPDATE T SET b = 'z' WHERE a = 3" =>
        "extra_source {\"a\":3,\"b\":\"y\"} ", "extra_target {\"a\":3,\"b\":\"z\"} ";
    no_key_duplicate ["a INT, b VARCHAR(9)"] "VALUES (1,'x'),(1,'x'),(2,NULL)"; "DELETE FROM T WHERE a = 1 LIMIT 1" =>
        "extra_source {\"a\":1,\"b\":\"x\"} ";
    no_key_pairs ["a INT, b VARCHAR(9)"] "VALUES (1,'x'),(1,'x'),(2,'y'),(2,'y')"; "DELETE FROM T WHERE a = 1", "INSERT INTO T VALUES (2,'y'),(2,'y')" =>
        "extra_source {\"a\":1,\"b\":\"x\"} ", "extra_target {\"a\":2,\"b\":\"y\"} ";
    no_key_json ["a INT, j JSON"] "VALUES (1,'{\"x\":1}'),(1,'{\"x\":1}'),(2,'[]')"; "UPDATE T SET j = '{\"x\":2}' WHERE a = 1 LIMIT 1" =>
        "extra_source {\"a\":1,\"j\":*} ", "extra_target {\"a\":1,\"j\":*} ";
    range_partitions ["id INT, d DATE, v INT, PRIMARY KEY (id, d)"; "PARTITION BY RANGE (YEAR(d)) (PARTITION a VALUES LESS THAN (2000), PARTITION b VALUES LESS THAN (2020), PARTITION c VALUES LESS THAN MAXVALUE)"]
        "VALUES (1,'1999-01-01',1),(2,'2019-01-01',1),(3,'2024-01-01',1),(4,'1999-01-01',1),(5,'2019-01-01',1)";
        "UPDATE T SET d = '2000-01-01' WHERE id = 1", "UPDATE T SET v = 2 WHERE id = 3", "DELETE FROM T WHERE id = 5" =>
        "extra_source {\"id\":1,\"d\":\"1999-01-01\"} ", "extra_target {\"id\":1,\"d\":\"2000-01-01\"} ",
        "mismatched {\"id\":3,\"d\":\"2024-01-01\"} v", "extra_source {\"id\":5,\"d\":\"2019-01-01\"} ";
    key_partitions_no_key ["a INT, b INT"; "PARTITION BY KEY (a) PARTITIONS 4"] "VALUES (1,1),(2,1),(3,1),(4,1),(4,1)"; "UPDATE T SET a = 5 WHERE a = 2" =>
        "extra_source {\"a\":2,\"b\":1} ", "extra_target {\"a\":5,\"b\":1} ";
    partitioned ["id INT PRIMARY KEY, v INT"; "PARTITION BY HASH (id) PARTITIONS 3"] "VALUES (1,1),(2,1),(3,1),(4,1),(5,1),(6,1),(7,1)";
        "UPDATE T SET v = 2 WHERE id = 5" => "mismatched {\"id\":5} v";
}
