//! Somebody's server: what is made and set there, and how all of it goes away again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use converge_mysql::{Address, Connector, Error as ServerError, quote, within};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::{DATABASE, MOVER, STATE};
use crate::rehearsal::RehearsalError;

/// How long cleaning one server up may take.
const BOUND: Duration = Duration::from_secs(20);
/// The table, in the rehearsal's database, of statements that give changed settings their former values: who finds the
/// database after a SIGKILL finds them too.
const BORROWED: &str = "converge_borrowed";
/// How soon to look again for what is waited for.
const AGAIN: Duration = Duration::from_millis(100);
/// The error of a server without a free connection.
const TOO_MANY: u16 = 1040;

/// Whether something was left on somebody's servers that could not be removed.
#[derive(Debug, Clone, Default)]
pub struct Leftovers(Arc<AtomicBool>);

impl Leftovers {
    /// Whether there is something; what it is was told when it was left.
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a rehearsal makes on a server, and sets there while a fault lasts. Dropped, that is undone: also when the rehearsal
/// is given up in its middle, after its mover and its load are gone.
#[derive(Debug)]
pub struct Footprint {
    admin: Address,
    databases: Vec<&'static str>,
    account: String,
    /// Of what is made, what was begun and not refused, in that order.
    made: Mutex<Vec<Made>>,
    /// Statements that give settings their former values.
    borrowed: Mutex<Vec<String>>,
    left: Leftovers,
}

/// What a rehearsal makes on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// The database of the tables.
    Database,
    /// The mover's account, and with it what that may make: the database of its state.
    Account,
}

impl Footprint {
    /// Those databases that a rehearsal would write to, which are on the server already.
    pub async fn in_the_way(admin: &Address) -> Result<Vec<String>, RehearsalError> {
        const WHAT: &str = "listing databases";
        let mut conn = Connector::new(admin.with_database("")).connect().await?;
        let query = format!(
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name IN ({}, {}) ORDER BY 1",
            quote::text(DATABASE),
            quote::text(STATE)
        );
        Ok(within(BOUND, WHAT, conn.query(query)).await?)
    }

    /// The statements that remove them, with the accounts of rehearsals that were killed; their names are their own.
    pub async fn clearing(admin: &Address, databases: &[String]) -> String {
        let accounts = accounts(admin).await.unwrap_or_default();
        // Nothing can be dropped on a server that is read-only.
        let settings = Self::changed(admin).await.into_iter().map(|set| format!("{set};"));
        let drops = databases.iter().map(|name| format!("DROP DATABASE {};", quote::ident(name)));
        let users = accounts.iter().map(|account| format!("DROP USER {account};"));
        settings.chain(drops).chain(users).collect::<Vec<_>>().join(" ")
    }

    /// Statements that give settings their former values which a rehearsal changed that was killed meanwhile.
    pub async fn changed(admin: &Address) -> Vec<String> {
        let query = format!("SELECT statement FROM {} ORDER BY id", borrowed_table());
        // Mostly there is no such table.
        let Ok(mut conn) = connect(admin).await else { return Vec::new() };
        within(BOUND, "reading changed settings", conn.query(query)).await.unwrap_or_default()
    }

    /// What is about to be made: an account, and those databases that are not there yet.
    pub fn new(admin: &Address, account: &str, there: &[String], left: &Leftovers) -> Self {
        let made = |name: &&str| !there.iter().any(|there| there == *name);
        let databases = [DATABASE, STATE].into_iter().filter(made).collect();
        let (admin, account, left) = (admin.with_database(""), account.into(), left.clone());
        Self { admin, databases, account, made: Mutex::default(), borrowed: Mutex::default(), left }
    }

    /// Something is about to be made.
    pub fn begin(&self, what: Made) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// The server refused to make what was begun last.
    pub fn refused(&self) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).pop();
    }

    /// Remembers the values of these settings of the whole server, which are about to be changed.
    pub async fn borrow(&self, settings: &[&str]) -> Result<(), ServerError> {
        if settings.is_empty() {
            return Ok(());
        }
        // What a killed rehearsal changed has its former value there alone.
        let mut former = Self::changed(&self.admin).await;
        let begins = |setting: &str| format!("SET GLOBAL {setting} = ");
        let mut conn = Connector::new(self.admin.clone()).connect().await?;
        let mut new = Vec::new();
        for setting in settings {
            if former.iter().any(|set| set.starts_with(&begins(setting))) {
                continue;
            }
            let query = format!("SELECT CAST(@@GLOBAL.{setting} AS CHAR)");
            let value: Option<String> = within(BOUND, "reading a setting", conn.query_first(query)).await?;
            let value = value.unwrap_or_default();
            let value = if value.parse::<u64>().is_ok() { value } else { quote::text(&value) };
            new.push(begins(setting) + &value);
        }
        converge_mysql::connect::close(conn).await;
        let table = borrowed_table();
        let create = "id INT AUTO_INCREMENT PRIMARY KEY, statement TEXT NOT NULL";
        let mut statements = vec![format!("CREATE TABLE IF NOT EXISTS {table} ({create}) ENGINE=InnoDB")];
        let insert = |set: &String| format!("INSERT INTO {table} (statement) VALUES ({})", quote::text(set));
        statements.extend(new.iter().map(insert));
        former.extend(new);
        former.push(format!("DROP TABLE IF EXISTS {table}"));
        *self.borrowed.lock().unwrap_or_else(PoisonError::into_inner) = former;
        execute(&self.admin, &statements).await
    }

    /// Gives the settings that were changed their former values.
    pub async fn give_back(&self) -> Result<(), ServerError> {
        let former = self.borrowed();
        if !former.is_empty() {
            execute(&self.admin, &former).await?;
            self.borrowed.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        Ok(())
    }

    fn borrowed(&self) -> Vec<String> {
        self.borrowed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Settings first: nothing can be dropped on a server that is read-only.
    fn statements(&self) -> Vec<String> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_made =
            |name: &str| made.contains(if name == STATE { &Made::Account } else { &Made::Database });
        let databases = self.databases.iter().filter(|name| is_made(name));
        let drops = databases.map(|name| format!("DROP DATABASE IF EXISTS {}", quote::ident(name)));
        let account = made.contains(&Made::Account).then(|| format!("DROP USER IF EXISTS {}", self.account));
        self.borrowed().into_iter().chain(drops).chain(account).collect()
    }
}

impl Drop for Footprint {
    fn drop(&mut self) {
        let (admin, statements) = (self.admin.clone(), self.statements());
        if statements.is_empty() {
            return;
        }
        let all = statements.clone();
        // A destructor cannot wait on the runtime that it may be dropped on.
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| (e.to_string(), statements.clone()))?;
            runtime.block_on(undo(&admin, &statements))
        })
        .join();
        let (why, left) = match removed {
            Ok(Ok(())) => return,
            Ok(Err(left)) => left,
            Err(_) => ("the attempt panicked".into(), all),
        };
        self.left.0.store(true, Ordering::Relaxed);
        tracing::warn!("{} was not cleaned up ({why}); what to do: {}", self.admin, left.join("; "));
    }
}

fn borrowed_table() -> String {
    quote::qualified(DATABASE, BORROWED)
}

/// The accounts that rehearsals have made on a server and not dropped.
async fn accounts(admin: &Address) -> Result<Vec<String>, ServerError> {
    let mut conn = Connector::new(admin.with_database("")).connect().await?;
    let query = format!(
        "SELECT user, host FROM mysql.user WHERE user REGEXP '^{MOVER}_[0-9a-f]{{8}}$' ORDER BY 1, 2"
    );
    let found: Vec<(String, String)> = within(BOUND, "listing accounts", conn.query(query)).await?;
    converge_mysql::connect::close(conn).await;
    let account = |(user, host): &(String, String)| format!("{}@{}", quote::text(user), quote::text(host));
    Ok(found.iter().map(account).collect())
}

/// Carries statements out, once there is a connection: those that a fault took become free only when the server has seen
/// their ends. What the server refuses keeps nothing from being undone that comes after it. Why some are left, and which.
async fn undo(admin: &Address, statements: &[String]) -> Result<(), (String, Vec<String>)> {
    let give_up = tokio::time::Instant::now() + BOUND;
    let mut conn = loop {
        match connect(admin).await {
            Err(e) if e.server_code() == Some(TOO_MANY) && tokio::time::Instant::now() < give_up => {
                tokio::time::sleep(AGAIN).await;
            }
            Err(e) => return Err((e.to_string(), statements.to_vec())),
            Ok(conn) => break conn,
        }
    };
    let (mut why, mut left) = (Vec::new(), Vec::new());
    if let Err(e) = end_pending(&mut conn, statements).await {
        why.push(e.to_string());
        left.extend(statements.iter().filter(|statement| setting(statement).is_some()).cloned());
    }
    for statement in statements {
        if let Err(e) = within(BOUND, statement, conn.query_drop(statement)).await {
            why.push(e.to_string());
            if !left.contains(statement) {
                left.push(statement.clone());
            }
        }
    }
    converge_mysql::connect::close(conn).await;
    if left.is_empty() { Ok(()) } else { Err((why.join("; "), left)) }
}

/// The beginning of a statement that sets a setting of the whole server, up to the value.
fn setting(statement: &str) -> Option<&str> {
    statement.starts_with("SET GLOBAL ").then(|| statement.split_inclusive("= ").next())?
}

/// Ends what would change these settings later: given up by who began it, a statement may still wait on the server for a
/// lock that somebody else holds.
async fn end_pending(conn: &mut Conn, statements: &[String]) -> Result<(), ServerError> {
    let settings: Vec<&str> = statements.iter().filter_map(|statement| setting(statement)).collect();
    if settings.is_empty() {
        return Ok(());
    }
    let own = u64::from(conn.id());
    let ended = async {
        loop {
            let rows: Vec<Row> = conn.query("SHOW FULL PROCESSLIST").await?;
            let session = |row: &Row| Some((row.get::<u64, _>(0)?, row.get::<Option<String>, _>(7)??));
            let sets = |(id, info): &(u64, String)| {
                *id != own && settings.iter().any(|setting| info.starts_with(setting))
            };
            let pending: Vec<_> = rows.iter().filter_map(session).filter(sets).collect();
            if pending.is_empty() {
                return Ok::<(), mysql_async::Error>(());
            }
            for (id, _) in pending {
                // It may have come to its end just now.
                let _ = conn.query_drop(format!("KILL {id}")).await;
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    within(BOUND, "ending a statement that waits to change a setting", ended).await
}

async fn connect(admin: &Address) -> Result<Conn, ServerError> {
    Connector::new(admin.clone()).with_setup("SET SESSION lock_wait_timeout = 10").connect().await
}

async fn execute(admin: &Address, statements: &[String]) -> Result<(), ServerError> {
    let mut conn = connect(admin).await?;
    end_pending(&mut conn, statements).await?;
    for statement in statements {
        within(BOUND, statement, conn.query_drop(statement)).await?;
    }
    converge_mysql::connect::close(conn).await;
    Ok(())
}
