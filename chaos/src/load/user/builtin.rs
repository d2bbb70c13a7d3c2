//! Schemas that load knows by name, besides the commerce schema: made of SQL, and then read like anybody's.

/// The two tables of the classic migration test: `no`, `seq` and `uk` small numbers from 1 on, so that keys collide and
/// are freed all the time; `update_cnt` raised by each update, `random_val` anything.
pub const CLASSIC: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS test1 (
        no INT NOT NULL,
        uk INT NOT NULL,
        update_cnt INT UNSIGNED NOT NULL DEFAULT 0,
        random_val BIGINT NOT NULL,
        PRIMARY KEY (no),
        UNIQUE KEY uk (uk, no)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
    "CREATE TABLE IF NOT EXISTS test2 (
        no INT NOT NULL,
        seq INT NOT NULL,
        uk INT NOT NULL,
        update_cnt INT UNSIGNED NOT NULL DEFAULT 0,
        random_val BIGINT NOT NULL,
        PRIMARY KEY (no, seq),
        UNIQUE KEY uk (uk)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
];

/// Every type that both vendors have, in columns of one table, and keys of types that movers get wrong in others.
pub const TYPES: [&str; 4] = [
    "CREATE TABLE IF NOT EXISTS every_type (
        id BIGINT NOT NULL AUTO_INCREMENT,
        code VARCHAR(30) NOT NULL,
        t1 TINYINT NULL, t2 TINYINT UNSIGNED NULL, t3 BOOLEAN NULL,
        s1 SMALLINT NULL, s2 SMALLINT UNSIGNED NULL,
        m1 MEDIUMINT NULL, m2 MEDIUMINT UNSIGNED NULL,
        i1 INT NULL, i2 INT UNSIGNED NULL,
        b1 BIGINT NULL, b2 BIGINT UNSIGNED NULL,
        d1 DECIMAL(65,30) NULL, d2 DECIMAL(10,0) NULL, d3 DECIMAL(5,5) NULL,
        f1 FLOAT NULL, f2 DOUBLE NULL,
        x1 BIT(1) NULL, x2 BIT(64) NULL, x3 BIT(9) NULL,
        c1 CHAR(1) NULL, c2 CHAR(30) NULL, c3 VARCHAR(255) NULL,
        c4 VARCHAR(40) CHARACTER SET latin1 NULL, c5 VARCHAR(40) CHARACTER SET utf8mb3 NULL,
        c6 VARCHAR(40) CHARACTER SET ascii NULL,
        l1 TINYTEXT NULL, l2 TEXT NULL, l3 MEDIUMTEXT NULL, l4 LONGTEXT NULL,
        n1 BINARY(16) NULL, n2 VARBINARY(300) NULL,
        n3 TINYBLOB NULL, n4 BLOB NULL, n5 MEDIUMBLOB NULL, n6 LONGBLOB NULL,
        e1 ENUM('a','B','ü','it''s') NULL, e2 SET('x','y','z') NULL,
        da DATE NULL, dt DATETIME NULL, dt3 DATETIME(3) NULL, dt6 DATETIME(6) NULL,
        ts TIMESTAMP NULL DEFAULT NULL, ts6 TIMESTAMP(6) NULL DEFAULT NULL,
        ti TIME NULL, ti2 TIME(2) NULL, ye YEAR NULL,
        js JSON NULL, po POINT NULL,
        both_ints BIGINT GENERATED ALWAYS AS (i1 + 1) STORED,
        update_cnt INT UNSIGNED NOT NULL DEFAULT 0,
        PRIMARY KEY (id),
        UNIQUE KEY code (code)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
    "CREATE TABLE IF NOT EXISTS binary_key (
        id BINARY(8) NOT NULL,
        name VARCHAR(40) NOT NULL,
        val INT NOT NULL,
        update_cnt INT UNSIGNED NOT NULL DEFAULT 0,
        PRIMARY KEY (id),
        UNIQUE KEY name (name)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
    "CREATE TABLE IF NOT EXISTS text_key (
        a VARCHAR(20) NOT NULL,
        b ENUM('x','y','z') NOT NULL,
        c SMALLINT UNSIGNED NOT NULL,
        val DOUBLE NULL,
        update_cnt INT UNSIGNED NOT NULL DEFAULT 0,
        PRIMARY KEY (a, b, c)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
    "CREATE TABLE IF NOT EXISTS time_key (
        at DATETIME(6) NOT NULL,
        price DECIMAL(10,2) NOT NULL,
        bits BIT(20) NOT NULL,
        val VARBINARY(40) NULL,
        update_cnt INT UNSIGNED NOT NULL DEFAULT 0,
        PRIMARY KEY (at, price),
        UNIQUE KEY bits (bits)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
];
