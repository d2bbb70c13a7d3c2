//! Products and versions. Unsupported ones never get here: they are an error when the server is first asked.

use converge_mysql::ServerInfo;

use super::{Finding, Servers};
use crate::error::Side;

/// Checks both versions and the step between them.
pub fn check(servers: &Servers<'_>) -> Vec<Finding> {
    let (source, target) = (servers.source.info, servers.target.info);
    let one = |info: ServerInfo, side| {
        Finding::pass("version", format!("{info} (supported: MySQL 8.0 and later, MariaDB 10.6 and later)"))
            .on(side)
    };
    let mut findings = vec![one(source, Side::Source), one(target, Side::Target)];
    if source.flavor == target.flavor && series(target) < series(source) {
        findings.push(Finding::warn(
            "downgrade",
            format!(
                "the target ({target}) is older than the source ({source}): it may lack types and collations"
            ),
            "rehearse the move, or move to the same version",
        ));
    }
    findings
}

/// The numbers with which a product changes its features.
fn series(info: ServerInfo) -> (u16, u16) {
    (info.version.0, info.version.1)
}
