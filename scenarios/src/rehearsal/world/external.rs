//! Somebody's server: what is made there, and how all of it goes away again.

use std::time::Duration;

use converge_mysql::{Address, Connector, Error as ServerError, quote, within};
use mysql_async::prelude::Queryable;

use super::{DATABASE, MOVER, STATE};
use crate::rehearsal::RehearsalError;

/// How long cleaning one server up may take.
const BOUND: Duration = Duration::from_secs(20);

/// What a rehearsal makes on a server. Dropped, that is removed: also when the rehearsal is given up in its middle, after
/// its mover and its load are gone.
#[derive(Debug)]
pub struct Footprint {
    admin: Address,
    databases: Vec<&'static str>,
    account: String,
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

    /// What to do about them. A rehearsal that was killed leaves its accounts as well; their names are its own.
    pub async fn clearing(admin: &Address, databases: &[String]) -> String {
        let accounts = accounts(admin).await.unwrap_or_default();
        let drops = databases.iter().map(|name| format!("DROP DATABASE {};", quote::ident(name)));
        let users = accounts.iter().map(|account| format!("DROP USER {account};"));
        let statements: Vec<String> = drops.chain(users).collect();
        format!(
            "a rehearsal writes to them at random: use a server without, or give --i-know (databases that were there are not \
             dropped); if a killed rehearsal left them, and no other one and no `converge move` uses that server: {}",
            statements.join(" ")
        )
    }

    /// What is about to be made: an account, and those databases that are not there yet.
    pub fn new(admin: &Address, account: &str, there: &[String]) -> Self {
        let made = |name: &&str| !there.iter().any(|there| there == *name);
        let databases = [DATABASE, STATE].into_iter().filter(made).collect();
        Self { admin: admin.with_database(""), databases, account: account.into() }
    }

    fn statements(&self) -> Vec<String> {
        let databases = self.databases.iter();
        let drops = databases.map(|name| format!("DROP DATABASE IF EXISTS {}", quote::ident(name)));
        drops.chain([format!("DROP USER IF EXISTS {}", self.account)]).collect()
    }
}

impl Drop for Footprint {
    fn drop(&mut self) {
        let (admin, statements) = (self.admin.clone(), self.statements());
        // A destructor cannot wait on the runtime that it may be dropped on.
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| e.to_string())?;
            runtime.block_on(remove(admin, statements)).map_err(|e| e.to_string())
        })
        .join();
        let why = match removed {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(_) => "the attempt panicked".into(),
        };
        let left = self.statements().join("; ");
        tracing::warn!("{} was not cleaned up ({why}); what to do: {left}", self.admin);
    }
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

async fn remove(admin: Address, statements: Vec<String>) -> Result<(), ServerError> {
    let connector = Connector::new(admin).with_setup("SET SESSION lock_wait_timeout = 10");
    let mut conn = connector.connect().await?;
    for statement in &statements {
        within(BOUND, statement, conn.query_drop(statement)).await?;
    }
    converge_mysql::connect::close(conn).await;
    Ok(())
}
