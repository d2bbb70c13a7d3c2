//! What must be so before a move can be right: one finding per question, all of them at once, each that is not a pass
//! with the statement that fixes it.
//!
//! A pass is earned: it says what was looked at. What nobody can look at is listed in [`NOT_CHECKED`]. Nothing here
//! writes to a server, and nothing here knows how rows are moved.

mod charsets;
mod checks;
mod computed;
mod expressions;
mod fence;
mod finding;
pub mod fits;
mod foreign_keys;
mod grants;
mod hidden;
mod keys;
mod owner;
mod privileges;
mod servers;
mod settings;
mod target;
mod triggers;
pub mod values;
mod versions;
pub mod xa;

pub use finding::{Finding, Report, Weight};
pub use servers::{Server, Servers, identity};

use converge_mysql::{Address, quote};
use mysql_async::Conn;

use crate::copy::Strategy;
use crate::error::{Error, OnSide, Result, Side};
use crate::schema::Table;
use crate::workflow::creation;

/// What preflight cannot know. It is said with every report.
pub const NOT_CHECKED: &[&str] = &[
    "free disk space on the target: no server says how much there is",
    "sessions of the source that were opened before a setting was changed and still use the old one, or that set \
     sql_log_bin = 0, binlog_format or binlog_row_image for themselves",
    "whether somebody writes to the moved tables on the target, or changes a setting while the move runs",
    "rows: whether each value fits is known only once it is moved",
];

/// Which move is looked at.
#[derive(Debug, Clone)]
pub struct Request {
    /// Server and database that the tables are in.
    pub source: Address,
    /// Server and database that they go to.
    pub target: Address,
    /// Names on the source and on the target.
    pub tables: Vec<(String, String)>,
    /// How rows are to be copied.
    pub strategy: Strategy,
    /// Whether secondary keys are to be built after the copy.
    pub defer_secondary_keys: bool,
    /// What the operator takes upon himself.
    pub accepted: Accepted,
}

/// What the operator takes upon himself: findings that then only warn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Foreign keys that cascade without the server's logging what they change.
    pub unlogged_cascades: bool,
    /// Tables without a key that identifies rows.
    pub no_key: bool,
}

/// One table of the move, as far as it is there.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Name on the source.
    pub from: String,
    /// Name on the target.
    pub to: String,
    /// The source's table.
    pub source: Option<Table>,
    /// The target's table; `None`: the move creates it.
    pub target: Option<Table>,
    /// The statement that makes the target's table, if it is not there and can be made.
    pub creation: Option<String>,
}

/// Connects to both servers and answers every question. Errors: no answer from one of them.
pub async fn check(request: &Request) -> Result<Report> {
    request.source.require_database().on_source()?;
    request.target.require_database().on_target()?;
    let mut source = crate::session::connector(&request.source).connect().await.on_source()?;
    let mut target = crate::session::connector(&request.target).connect().await.on_target()?;
    let mut servers = Servers::read(&mut source, &mut target).await?;
    Ok(examine(&mut servers, request).await?.0)
}

/// Answers every question over connections of the caller's, before a workflow is made.
pub async fn examine(servers: &mut Servers<'_>, request: &Request) -> Result<(Report, Vec<Pair>)> {
    if request.tables.is_empty() {
        return Err(Error::refused("no tables are named", "name them: --tables customer,corder"));
    }
    owner::reserved(request)?;
    let mut findings = versions::check(servers);
    findings.extend(settings::source(&mut servers.source).await?);
    findings.push(settings::replication(&mut servers.source).await?);
    findings.extend(settings::both(servers));
    findings.extend(target::deferral(servers, request));
    findings.push(target::writable(&mut servers.source));
    findings.extend(target::server(&mut servers.target));
    findings.extend(xa::check(&mut servers.source).await?);
    findings.extend(owner::check(&mut servers.target, request).await?);
    let mut pairs = Vec::new();
    for (from, to) in &request.tables {
        let mut found = Vec::new();
        pairs.push(target::pair(servers, request, (from, to), &mut found).await?);
        findings.extend(about(request, from, to, found));
    }
    findings.extend(privileges::check(servers, request, &pairs).await?);
    findings.extend(foreign_keys::check(servers, request, &pairs).await?);
    findings.extend(charsets::check(servers, &pairs).await?);
    for pair in &mut pairs {
        let found = of_pair(servers, request, pair).await?;
        findings.extend(about(request, &pair.from, &pair.to, found));
    }
    Ok((Report::new(servers, request, findings), pairs))
}

/// The findings of one table: each names it, as it is called on that side.
fn about(request: &Request, from: &str, to: &str, findings: Vec<Finding>) -> impl Iterator<Item = Finding> {
    let here = quote::qualified(&request.source.database, from);
    let there = quote::qualified(&request.target.database, to);
    findings.into_iter().map(move |finding| match (&finding.table, finding.side) {
        (Some(_), _) => finding,
        (None, Some(Side::Target)) => finding.of(&there),
        (None, _) => finding.of(&here),
    })
}

/// What is asked of one table that is there, once all of them were read; sets how it is made on the target.
async fn of_pair(servers: &mut Servers<'_>, request: &Request, pair: &mut Pair) -> Result<Vec<Finding>> {
    let Some(source) = &pair.source else { return Ok(Vec::new()) };
    let (source_info, target_info) = (servers.source.info, servers.target.info);
    let mut findings = creation::losses(source, source_info.flavor, target_info.flavor);
    findings.extend(settings::old_temporals(source));
    findings.push(fence::check(&mut servers.source, source).await?);
    findings.extend(computed::check(&mut servers.source, source).await?);
    if pair.target.is_none() {
        findings.extend(hidden::check(&mut servers.source, source).await?);
        let from = (request.source.database.as_str(), pair.from.as_str());
        let to = (request.target.database.as_str(), pair.to.as_str());
        let (here, there) = (servers.source.conn(), servers.target.conn());
        match creation::statement((here, &source_info), (there, &target_info), from, to).await? {
            Ok(statement) => pair.creation = Some(statement),
            Err(why) => findings.extend(why),
        }
    }
    findings.extend(triggers::check(servers, source, pair.target.as_ref()).await?);
    findings.extend(checks::only_there(servers, pair).await?);
    if let Some(target) = &pair.target {
        findings.extend(target::table(&mut servers.target, source, target).await?);
        findings.extend(values::check(servers, source, target).await?);
        findings.extend(keys::both_sides(servers, source, target).await?);
    }
    Ok(findings)
}

/// What may have changed since a workflow was made: asked again at the beginning of every session.
pub async fn again(
    servers: &mut Servers<'_>,
    accepted: Accepted,
    tables: &[Table],
    target_tables: &[Table],
) -> Result<()> {
    let mut findings = settings::source(&mut servers.source).await?;
    findings.push(settings::replication(&mut servers.source).await?);
    for (source, target) in tables.iter().zip(target_tables) {
        findings.push(foreign_keys::again(&mut servers.source, accepted, source, tables).await?);
        findings.extend(settings::old_temporals(source));
        findings.extend(target::engine_again(&mut servers.source, source).await?);
        findings.extend(target::engine_again(&mut servers.target, target).await?);
        findings.extend(triggers::on_target(&mut servers.target, source, target, false).await?);
    }
    finding::judge(&findings)
}

/// Asks of a server only whether it logs what a stream needs: of a replica that rows are copied from.
pub async fn log_only(conn: &mut Conn) -> Result<()> {
    let mut server = Server::read(Side::Source, conn).await?;
    finding::judge(&settings::source(&mut server).await?)
}

/// Puts an error that is a finding among the findings; all others are passed on.
fn refusal<T>(
    result: Result<T>,
    name: &'static str,
    side: Side,
    findings: &mut Vec<Finding>,
) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Refused { what, help }) => {
            findings.push(Finding::refuse(name, what, help).on(side));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
