//! Server settings: what the source must log, and where the two servers differ in a way that matters to a move.

use converge_mysql::position::{binlog_status_statement, replica_status_statement};
use converge_mysql::{Error as ServerError, Flavor, quote};
use mysql_async::Row;

use super::{Finding, Server, Servers};
use crate::error::{OnSide, Result, Side};
use crate::schema::{Column, Kind, Table};
use crate::source::upstream;

/// Binary logs that are kept for less than this may be gone after one bad night.
const SHORT_RETENTION: f64 = 86_400.0;
/// A packet of the mover holds one statement of about 1 MiB, or one row.
const SMALL_PACKET: f64 = (4 << 20) as f64;

/// Checks what the source logs.
pub async fn source(server: &mut Server<'_>) -> Result<Vec<Finding>> {
    let mut findings = wanted(server);
    findings.push(commit_order(server));
    findings.push(server_id(server));
    findings.push(retention(server));
    findings.push(encoding(server));
    findings.extend(positions(server));
    findings.extend(not_measured(server));
    findings.extend(durability(server));
    findings.push(filters(server).await?);
    findings.push(replica_log(server).await?);
    Ok(findings.into_iter().map(|f| f.on(Side::Source)).collect())
}

/// Settings with exactly one right value.
fn wanted(server: &Server<'_>) -> Vec<Finding> {
    const RECONNECT: &str = "then make all sessions reconnect: they keep the old value";
    let settings = [
        ("log_bin", "ON", "start the source with --log-bin --server-id=N (needs a restart)".to_owned()),
        ("binlog_format", "ROW", format!("SET GLOBAL binlog_format = 'ROW'; {RECONNECT}")),
        ("binlog_row_image", "FULL", format!("SET GLOBAL binlog_row_image = 'FULL'; {RECONNECT}")),
        ("binlog_row_value_options", "", format!("SET GLOBAL binlog_row_value_options = ''; {RECONNECT}")),
        ("binlog_alter_two_phase", "OFF", format!("SET GLOBAL binlog_alter_two_phase = OFF; {RECONNECT}")),
    ];
    settings
        .into_iter()
        .filter_map(|(name, value, fix)| {
            let found = server.variable(name)?;
            let shown = |text: &str| if text.is_empty() { "empty".to_owned() } else { text.to_owned() };
            Some(if found.eq_ignore_ascii_case(value) {
                Finding::pass(name, format!("{name} = {}", shown(value)))
            } else {
                let what = format!("the source has {name} = {found}, it must be {}", shown(value));
                Finding::refuse(name, what, fix)
            })
        })
        .collect()
}

/// A source that answers before its log is on the disk can lose, with its machine, what the target has already.
fn durability(server: &Server<'_>) -> Option<Finding> {
    let settings = ["sync_binlog", "innodb_flush_log_at_trx_commit"];
    let loose: Vec<&str> =
        settings.into_iter().filter(|n| server.variable(n).is_some_and(|v| v != "1")).collect();
    let shown = |list: &[&str]| {
        let each = list.iter().map(|n| format!("{n} = {}", server.variable(n).unwrap_or_default()));
        each.collect::<Vec<_>>().join(", ")
    };
    if loose.is_empty() {
        return Some(Finding::pass("durability", shown(&settings)));
    }
    let what = format!(
        "the source has {}: if its machine crashes, it may lose transactions that are on the target by then",
        shown(&loose)
    );
    let fix: Vec<String> = loose.iter().map(|name| format!("SET GLOBAL {name} = 1")).collect();
    Some(Finding::warn("durability", what, fix.join("; ")))
}

/// MariaDB's former form of times with fractions is logged in a way that does not tell how many digits they have.
pub fn old_temporals(table: &Table) -> Vec<Finding> {
    const MARK: &str = "mariadb-5.3";
    let fraction =
        |kind: &Kind| matches!(kind, Kind::Time(n) | Kind::DateTime(n) | Kind::Timestamp(n) if *n > 0);
    let old = table.columns.iter().filter(|c| fraction(&c.kind) && c.sql_type.contains(MARK));
    let finding = |column: &Column| {
        let name = table.qualified();
        Finding::refuse(
            "columns",
            format!(
                "column {} of {name} is {}: fractions in the former temporal format cannot be followed",
                quote::ident(&column.name),
                column.sql_type
            ),
            format!("SET GLOBAL mysql56_temporal_format = ON, then ALTER TABLE {name} FORCE"),
        )
        .on(Side::Source)
        .of(name)
    };
    old.map(finding).collect()
}

/// A mark proves that all before it in the log is visible only if commits are ordered as they are logged.
fn commit_order(server: &Server<'_>) -> Finding {
    const NAME: &str = "binlog_order_commits";
    match server.variable(NAME) {
        Some("OFF" | "0") => Finding::refuse(
            NAME,
            "the source has binlog_order_commits = 0, it must be 1: rows become visible in another order than they are logged",
            "SET GLOBAL binlog_order_commits = ON",
        ),
        Some(_) => Finding::pass(NAME, "transactions become visible in the order in which they are logged"),
        None => Finding::pass(NAME, format!("{} always commits in the order of its log", server.info.flavor)),
    }
}

fn server_id(server: &Server<'_>) -> Finding {
    match server.variable("server_id").unwrap_or("0") {
        "0" => Finding::refuse(
            "server_id",
            "the source has server_id = 0: it sends its log to nobody",
            "SET GLOBAL server_id = N, with a number that no other server of its replication has",
        ),
        id => Finding::pass("server_id", format!("server_id = {id}")),
    }
}

/// How long logs are kept: a mover that is stopped for longer cannot resume.
fn retention(server: &Server<'_>) -> Finding {
    const NAME: &str = "binlog_retention";
    const FIX: &str = "SET GLOBAL binlog_expire_logs_seconds = 604800";
    if let Some(bytes) = server.number("max_binlog_total_size").filter(|b| *b > 0.0) {
        let what =
            format!("the source purges its logs as soon as they have {bytes} bytes (max_binlog_total_size)");
        return Finding::warn(NAME, what, "SET GLOBAL max_binlog_total_size = 0");
    }
    let seconds = server.number("binlog_expire_logs_seconds").unwrap_or(0.0);
    let days = server.number("expire_logs_days").unwrap_or(0.0) * 86_400.0;
    let kept = if seconds > 0.0 { seconds } else { days };
    if kept <= 0.0 || server.variable("binlog_expire_logs_auto_purge") == Some("OFF") {
        return Finding::pass(NAME, "logs are kept until somebody purges them");
    }
    let text = format!("logs are kept for {:.1} hours", kept / 3600.0);
    if kept < SHORT_RETENTION {
        return Finding::warn(NAME, format!("{text}: a mover that is stopped for longer cannot resume"), FIX);
    }
    Finding::pass(NAME, text)
}

/// Forms of the log that are all understood; named so that a report shows what was there.
fn encoding(server: &Server<'_>) -> Finding {
    const NAMES: [&str; 5] = [
        "binlog_checksum",
        "binlog_transaction_compression",
        "log_bin_compress",
        "binlog_row_metadata",
        "binlog_encryption",
    ];
    let found: Vec<String> =
        NAMES.iter().filter_map(|name| Some(format!("{name} = {}", server.variable(name)?))).collect();
    Finding::pass("binlog_encoding", format!("{}: each value is understood", found.join(", ")))
}

/// What positions look like decides whether a workflow can resume on another host.
fn positions(server: &Server<'_>) -> Option<Finding> {
    let mode = server.variable("gtid_mode")?;
    Some(if mode == "ON" {
        Finding::pass("gtid_mode", "positions are GTIDs: a workflow can resume on a replica of the source")
    } else {
        Finding::warn(
            "gtid_mode",
            format!(
                "gtid_mode = {mode}: positions are files and offsets, which mean nothing on another host"
            ),
            "SET GLOBAL gtid_mode = ON, step by step over OFF_PERMISSIVE and ON_PERMISSIVE, to be able to fail over",
        )
    })
}

/// Set-ups in which the order of log and visibility was never measured.
fn not_measured(server: &Server<'_>) -> Vec<Finding> {
    let semi_sync = ["rpl_semi_sync_source_enabled", "rpl_semi_sync_master_enabled"];
    let mut findings = Vec::new();
    if semi_sync.iter().any(|name| server.is_on(name)) {
        findings.push(Finding::warn(
            "semi_sync",
            "the source replicates semi-synchronously: the order of log and visibility was not measured with it",
            "rehearse with the same setting, and compare the tables with `converge vdiff` after the switch",
        ));
    }
    let group = server.variable("group_replication_group_name").is_some_and(|name| !name.is_empty());
    if server.is_on("wsrep_on") || group {
        findings.push(Finding::warn(
            "cluster",
            "the source is a member of a cluster (Galera or Group Replication), with which nothing was measured",
            "name the member that the application writes to in --source, rehearse with the same cluster, and compare the \
             tables with `converge vdiff` after the switch",
        ));
    }
    findings
}

/// Databases that are left out of the log would be left out of the move.
async fn filters(server: &mut Server<'_>) -> Result<Finding> {
    const NAME: &str = "binlog_filters";
    let statement = binlog_status_statement(&server.info);
    // Without the privilege for it the move is refused anyway, and that finding names the privilege.
    if server.probe(statement).await.is_err_and(|e| e.is_refusal()) {
        return Ok(Finding::warn(
            NAME,
            format!("whether the source filters its log cannot be seen: {statement} is refused"),
            "grant the missing privilege",
        ));
    }
    let row: Option<Row> = server.first(statement, statement).await?;
    let filter =
        |i: usize| row.as_ref().and_then(|r| r.get::<Option<String>, _>(i)).flatten().unwrap_or_default();
    let (only, not) = (filter(2), filter(3));
    Ok(if only.is_empty() && not.is_empty() {
        Finding::pass(NAME, "no database is left out of the log")
    } else {
        Finding::refuse(
            NAME,
            format!("the source filters its binary log (binlog-do-db: {only:?}, binlog-ignore-db: {not:?})"),
            "start the source without --binlog-do-db and --binlog-ignore-db",
        )
    })
}

/// A replica that does not log what it replicates has changes that nobody can follow.
async fn replica_log(server: &mut Server<'_>) -> Result<Finding> {
    const NAME: &str = "log_replica_updates";
    let found =
        ["log_replica_updates", "log_slave_updates"].into_iter().find(|n| server.variable(n).is_some());
    let Some(variable) = found.filter(|n| !server.is_on(n)) else {
        return Ok(Finding::pass(NAME, "what the source replicates is in its log too"));
    };
    let statement = replica_status_statement(&server.info);
    let option = variable.replace('_', "-");
    let fix = format!("start the source with --{option}=ON, or move from its own source");
    match server.probe(statement).await {
        Err(e) if e.is_refusal() => {
            let what = format!("whether the source is a replica with {variable} = 0 cannot be seen: {e}");
            return Ok(Finding::warn(NAME, what, fix));
        }
        _ => {}
    }
    let replica: Option<Row> = server.first(statement, statement).await?;
    Ok(match replica {
        None => Finding::pass(NAME, "the source is no replica"),
        Some(_) => Finding::refuse(
            NAME,
            format!("the source is a replica with {variable} = 0: its log lacks what it replicates"),
            fix,
        ),
    })
}

/// Writes that reach a replica come from a server that no fence on the replica keeps anybody out of.
pub async fn replication(server: &mut Server<'_>) -> Result<Finding> {
    const NAME: &str = "replication";
    let info = server.info;
    let finding = match upstream::upstreams(server.conn(), &info).await {
        Ok(upstreams) if upstreams.is_empty() => Finding::pass(NAME, "the source is no replica"),
        Ok(upstreams) => {
            let from = upstreams.join(", ");
            let what = format!(
                "the source is set up as a replica of {from}: switch-traffic will be declined, because a fence on a \
                 replica keeps nobody out of the server that is written to"
            );
            Finding::warn(NAME, what, upstream::way_out(&info))
        }
        Err(error @ ServerError::Denied { .. }) => {
            let what = format!("whether the source is a replica cannot be seen: {error}");
            Finding::warn(NAME, what, "grant the missing privilege")
        }
        Err(error) => return Err(error).on(server.side),
    };
    Ok(finding.on(Side::Source))
}

/// Checks settings in which the two servers may differ.
pub fn both(servers: &Servers<'_>) -> Vec<Finding> {
    let mut findings = vec![packets(servers), local_infile(servers), names(servers), auto_increment(servers)];
    findings.push(Finding::pass("sql_mode", "any: every session of the mover sets its own"));
    findings.push(Finding::pass("time_zone", "any: every session of the mover uses UTC"));
    findings.extend(events(servers));
    findings
}

fn packets(servers: &Servers<'_>) -> Finding {
    const NAME: &str = "max_allowed_packet";
    let of = |s: &Server<'_>| s.number(NAME).unwrap_or(0.0);
    let (source, target) = (of(&servers.source), of(&servers.target));
    let fix = |bytes: f64| format!("SET GLOBAL max_allowed_packet = {bytes}");
    if target < source {
        let what =
            format!("the target takes packets of {target} bytes, the source has rows of up to {source}");
        return Finding::warn(NAME, what, fix(source)).on(Side::Target);
    }
    if target < SMALL_PACKET {
        let what = format!("the target takes packets of {target} bytes only");
        return Finding::warn(NAME, what, fix(SMALL_PACKET)).on(Side::Target);
    }
    Finding::pass(NAME, format!("source {source}, target {target} bytes"))
}

fn local_infile(servers: &Servers<'_>) -> Finding {
    let what = match servers.target.is_on("local_infile") {
        true => "LOAD DATA LOCAL is possible",
        false => {
            "local_infile = OFF on the target: rows are copied by INSERT; SET GLOBAL local_infile = ON makes it faster"
        }
    };
    Finding::pass("local_infile", what).on(Side::Target)
}

fn names(servers: &Servers<'_>) -> Finding {
    const NAME: &str = "lower_case_table_names";
    let of = |s: &Server<'_>| s.variable(NAME).unwrap_or("0").to_owned();
    let (source, target) = (of(&servers.source), of(&servers.target));
    if source == target {
        return Finding::pass(NAME, format!("{source} on both"));
    }
    Finding::warn(
        NAME,
        format!("{source} on the source, {target} on the target: names of tables may change their case"),
        "name tables in lower case: --tables Customer=customer",
    )
}

fn auto_increment(servers: &Servers<'_>) -> Finding {
    const NAMES: [&str; 2] = ["auto_increment_increment", "auto_increment_offset"];
    let of = |s: &Server<'_>| NAMES.map(|n| s.variable(n).unwrap_or("1").to_owned());
    let (source, target) = (of(&servers.source), of(&servers.target));
    if source == target {
        return Finding::pass("auto_increment", format!("{}/{} on both", source[0], source[1]));
    }
    Finding::warn(
        "auto_increment",
        format!(
            "increment/offset are {}/{} on the source, {}/{} on the target",
            source[0], source[1], target[0], target[1]
        ),
        format!("SET GLOBAL auto_increment_increment = {}, auto_increment_offset = {}", source[0], source[1]),
    )
    .on(Side::Target)
}

fn events(servers: &Servers<'_>) -> Option<Finding> {
    // Always on in MySQL; what its events do is nobody's business unless they write to the moved tables.
    let on = servers.target.info.flavor == Flavor::MariaDb && servers.target.is_on("event_scheduler");
    on.then(|| {
        Finding::warn(
            "event_scheduler",
            "the target runs scheduled events: none of them may write to the moved tables before the switch",
            "SET GLOBAL event_scheduler = OFF until the switch, or look through SHOW EVENTS",
        )
        .on(Side::Target)
    })
}
