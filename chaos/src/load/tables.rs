//! The commerce schema: `customer` and `corder`, which rehearsals move, and `product`, which stays.
//!
//! The same statements must make it on every supported MySQL and MariaDB, so there is no default expression, no
//! check and no vendor's collation in it.

use converge_mysql::quote;

use super::plan::LoadPlan;
use super::values::Value;
use crate::history::Kind;

pub const DDL: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS customer (
        id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
        email VARCHAR(80) NOT NULL,
        name VARCHAR(60) NOT NULL,
        status ENUM('new','active','blocked','gone') NOT NULL DEFAULT 'new',
        flags SET('vip','mail','sms','test') NULL,
        score MEDIUMINT NULL,
        points MEDIUMINT UNSIGNED NULL,
        level TINYINT NULL,
        height SMALLINT UNSIGNED NULL,
        visits INT UNSIGNED NOT NULL DEFAULT 0,
        big BIGINT UNSIGNED NULL,
        balance DECIMAL(18,4) NOT NULL DEFAULT 0,
        rating FLOAT NULL,
        weight DOUBLE NULL,
        bits BIT(12) NULL,
        token BINARY(8) NULL,
        secret VARBINARY(40) NULL,
        born DATE NULL,
        seen DATETIME(6) NULL,
        changed TIMESTAMP(3) NULL DEFAULT NULL,
        awake TIME(3) NULL,
        since YEAR NULL,
        profile JSON NULL,
        bio TEXT NULL,
        photo MEDIUMBLOB NULL,
        update_cnt INT UNSIGNED NOT NULL DEFAULT 0,
        PRIMARY KEY (id),
        UNIQUE KEY email (email),
        KEY status_seen (status, seen)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci",
    "CREATE TABLE IF NOT EXISTS corder (
        region VARCHAR(16) NOT NULL,
        seq INT UNSIGNED NOT NULL,
        order_no VARCHAR(40) NOT NULL,
        customer_id BIGINT UNSIGNED NOT NULL,
        product_id INT NOT NULL,
        quantity SMALLINT NOT NULL DEFAULT 1,
        price DECIMAL(12,2) NOT NULL DEFAULT 0,
        discount DOUBLE NULL,
        state ENUM('cart','paid','sent','back') NOT NULL DEFAULT 'cart',
        placed DATETIME(6) NULL,
        paid TIMESTAMP(3) NULL DEFAULT NULL,
        remark VARCHAR(200) NULL,
        payload JSON NULL,
        label VARBINARY(40) NULL,
        update_cnt INT UNSIGNED NOT NULL DEFAULT 0,
        PRIMARY KEY (region, seq),
        UNIQUE KEY order_no (order_no),
        KEY customer_id (customer_id),
        KEY placed (placed)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci",
    "CREATE TABLE IF NOT EXISTS product (
        id INT NOT NULL,
        sku VARCHAR(40) NOT NULL,
        title VARCHAR(60) NOT NULL,
        price DECIMAL(12,2) NOT NULL DEFAULT 0,
        stock INT NOT NULL DEFAULT 0,
        update_cnt INT UNSIGNED NOT NULL DEFAULT 0,
        PRIMARY KEY (id),
        UNIQUE KEY sku (sku)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci",
];

/// The kinds of statements that some of these tables get.
pub fn kinds(tables: &[String]) -> Vec<Kind> {
    let wanted = |table: Table| tables.iter().any(|name| name == table.name());
    // `product` is no part of swaps.
    let swapped = wanted(Table::Customer) || wanted(Table::Corder);
    let gets =
        |kind: &Kind| if *kind == Kind::UniqueSwap { swapped } else { swapped || wanted(Table::Product) };
    Kind::WRITES.into_iter().filter(gets).collect()
}

/// A column without a key on it, and how often it is NULL.
#[derive(Debug)]
pub struct Column {
    pub name: &'static str,
    pub value: Value,
    pub nullable: bool,
}

const fn column(name: &'static str, value: Value) -> Column {
    Column { name, value, nullable: false }
}

const fn nullable(name: &'static str, value: Value) -> Column {
    Column { name, value, nullable: true }
}

const CUSTOMER: [Column; 23] = [
    column("name", Value::Words),
    column("status", Value::Enum(&["new", "active", "blocked", "gone"])),
    nullable("flags", Value::Set(&["vip", "mail", "sms", "test"])),
    nullable("score", Value::Int(-8_388_608, 8_388_607)),
    nullable("points", Value::Int(0, 16_777_215)),
    nullable("level", Value::Int(-128, 127)),
    nullable("height", Value::Int(0, 65_535)),
    column("visits", Value::Int(0, 4_000_000_000)),
    nullable("big", Value::BigUnsigned),
    column("balance", Value::Decimal(14, 4)),
    nullable("rating", Value::Float),
    nullable("weight", Value::Double),
    nullable("bits", Value::Bits(12)),
    nullable("token", Value::Bytes(8)),
    nullable("secret", Value::Bytes(40)),
    nullable("born", Value::Date),
    nullable("seen", Value::DateTime),
    nullable("changed", Value::Timestamp),
    nullable("awake", Value::Time),
    nullable("since", Value::Year),
    nullable("profile", Value::Json),
    nullable("bio", Value::Text),
    nullable("photo", Value::Bytes(60)),
];

const CORDER: [Column; 11] = [
    column("customer_id", Value::Int(1, 100_000)),
    column("product_id", Value::Int(-500, 500)),
    column("quantity", Value::Int(-32_768, 32_767)),
    column("price", Value::Decimal(10, 2)),
    nullable("discount", Value::Double),
    column("state", Value::Enum(&["cart", "paid", "sent", "back"])),
    nullable("placed", Value::DateTime),
    nullable("paid", Value::Timestamp),
    nullable("remark", Value::Words),
    nullable("payload", Value::Json),
    nullable("label", Value::Bytes(40)),
];

const PRODUCT: [Column; 3] = [
    column("title", Value::Words),
    column("price", Value::Decimal(10, 2)),
    column("stock", Value::Int(i32::MIN as i64, i32::MAX as i64)),
];

/// First members of `corder`'s key. Their order under the collation is not that of their bytes.
const REGIONS: [&str; 6] = ["apac", "Emea", "latam", "Nordic", "äquator", "us-west"];

/// A table that load is sent to. Rows have ordinals from 0; the first ones are seeded, some more are spare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Customer,
    Corder,
    Product,
}

impl Table {
    pub const ALL: [Self; 3] = [Self::Customer, Self::Corder, Self::Product];

    pub fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Corder => "corder",
            Self::Product => "product",
        }
    }

    /// How many of the plan's rows are seeded here.
    pub fn seeded(self, plan: &LoadPlan) -> u64 {
        let product = (plan.rows / 100).min(1000);
        match self {
            Self::Product => product,
            Self::Customer => (plan.rows - product) / 2,
            Self::Corder => plan.rows - product - (plan.rows - product) / 2,
        }
    }

    /// How many ordinals there are: room for new rows and moved keys.
    pub fn ordinals(self, plan: &LoadPlan) -> u64 {
        let seeded = self.seeded(plan);
        seeded + seeded / 4 + 200
    }

    /// The primary key's columns.
    pub fn key_columns(self) -> &'static [&'static str] {
        match self {
            Self::Customer | Self::Product => &["id"],
            Self::Corder => &["region", "seq"],
        }
    }

    /// The primary key of an ordinal, as literals.
    pub fn key(self, ordinal: u64) -> Vec<String> {
        match self {
            Self::Customer => vec![(ordinal + 1).to_string()],
            Self::Product => vec![(ordinal as i64 - 500).to_string()],
            Self::Corder => {
                let region = REGIONS[(ordinal % REGIONS.len() as u64) as usize];
                vec![quote::text(region), (ordinal / REGIONS.len() as u64 + 1).to_string()]
            }
        }
    }

    /// How many ordinals on the next key in order is.
    pub fn neighbour(self) -> u64 {
        match self {
            Self::Customer | Self::Product => 1,
            Self::Corder => REGIONS.len() as u64,
        }
    }

    /// The column of the unique key.
    pub fn unique_column(self) -> &'static str {
        match self {
            Self::Customer => "email",
            Self::Corder => "order_no",
            Self::Product => "sku",
        }
    }

    /// The column that takes large values.
    pub fn large_column(self) -> Option<&'static str> {
        (self == Self::Customer).then_some("photo")
    }

    /// The unique value that an ordinal is seeded with; others take it too, in collisions.
    pub fn unique(self, ordinal: u64) -> String {
        match self {
            Self::Customer => format!("'c{ordinal}@example.com'"),
            Self::Corder => format!("'R-{ordinal:09}'"),
            Self::Product => format!("'sku-{ordinal}'"),
        }
    }

    /// All other columns but `update_cnt`.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Customer => &CUSTOMER,
            Self::Corder => &CORDER,
            Self::Product => &PRODUCT,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ordinals_have_different_keys_and_all_rows_are_seeded() {
        let plan = LoadPlan { rows: 5000, ..LoadPlan::default() };
        for table in Table::ALL {
            let keys: HashSet<_> = (0..table.ordinals(&plan)).map(|n| table.key(n)).collect();
            assert_eq!(keys.len() as u64, table.ordinals(&plan));
        }
        assert_eq!(Table::ALL.map(|t| t.seeded(&plan)).iter().sum::<u64>(), 5000);
    }
}
