//! `--all-tables`: which tables the databases have, and which of them have no counterpart.
//!
//! Never leaves a table out without a word: what is on one side only is a difference, and what was left out on request
//! or is no table is told. Where the target follows the source, a table may only be late: it is looked for again once the
//! target has all that the source had.

use std::collections::BTreeMap;

use super::shards::{Sessions, Shards};
use crate::error::Error;
use crate::proof::Standing;
use crate::report::{TableReport, Verdict};
use crate::request::{Request, Side, TablePair};
use crate::schema::{self, SchemaFinding, Severity};
use crate::session::{number, text};

/// The tables of two databases.
pub struct Listing {
    /// Those that both sides have, by name.
    pub pairs: Vec<TablePair>,
    /// Those that one side has.
    lonely: Vec<Lonely>,
    /// What is not compared although it is there.
    pub left_out: Vec<String>,
}

/// A table without a counterpart.
#[derive(Clone, PartialEq, Eq)]
struct Lonely {
    side: Side,
    name: String,
    /// Why that is not proven, if so.
    doubt: Option<String>,
}

/// What a side has under its names: whether it is a table (else a view or a sequence).
type Relations = BTreeMap<String, bool>;

/// Lists the tables of both sides, without those to leave out.
pub async fn read(request: &Request, exclude: &[String]) -> Result<Listing, Error> {
    let mut sessions = Sessions::open(request).await?;
    let mut listing = look(&mut sessions, exclude).await?;
    if !listing.lonely.is_empty()
        && let Some(standing) = Standing::open(request).await?
    {
        let late = standing.catch_up(request).await?;
        let before = std::mem::replace(&mut listing, look(&mut sessions, exclude).await?);
        listing.doubt(&before.lonely, late.as_deref());
    }
    for Lonely { side, name, .. } in &listing.lonely {
        let other = 1 - crate::plan::at(*side);
        for session in sessions.side(other).each_mut() {
            schema::prove_absent(session, name).await?;
        }
    }
    sessions.close().await;
    if listing.pairs.is_empty() && listing.lonely.is_empty() {
        let why = "--all-tables: neither database has a table that the account may see";
        return Err(Error::BadRequest(why.into()));
    }
    Ok(listing)
}

/// One look at both sides.
async fn look(sessions: &mut Sessions, exclude: &[String]) -> Result<Listing, Error> {
    let (source, target) = tokio::join!(relations(&mut sessions.source), relations(&mut sessions.target));
    let sides = [source?, target?];
    let folded =
        names_are_folded(&mut sessions.source).await? || names_are_folded(&mut sessions.target).await?;
    listed(sides, exclude, folded)
}

async fn relations(shards: &mut Shards) -> Result<Relations, Error> {
    let sql = "SELECT TABLE_NAME, TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') FROM information_schema.TABLES \
               WHERE TABLE_SCHEMA = DATABASE()";
    let rows = shards.query("listing the tables", sql).await?;
    Ok(rows.iter().map(|row| (text(&row[0]), text(&row[1]) == "1")).collect())
}

/// Whether a server takes names in any letter case for the same.
async fn names_are_folded(shards: &mut Shards) -> Result<bool, Error> {
    let rows = shards.query("reading how names are compared", "SELECT @@lower_case_table_names").await?;
    Ok(rows.iter().any(|row| number::<u8>(&row[0]) != Some(0)))
}

fn listed(sides: [Relations; 2], exclude: &[String], folded: bool) -> Result<Listing, Error> {
    let same = |a: &str, b: &str| a == b || folded && a.to_lowercase() == b.to_lowercase();
    let has = |side: usize, name: &str| sides[side].keys().find(|other| same(other, name));
    if let Some(typo) = exclude.iter().find(|name| has(0, name).or(has(1, name)).is_none()) {
        return Err(Error::BadRequest(format!("--exclude {typo}: neither database has such a table")));
    }
    let excluded = |name: &str| exclude.iter().any(|out| same(out, name));
    let [sources, targets] =
        sides.each_ref().map(|side| side.keys().filter(|name| !excluded(name)).collect::<Vec<_>>());
    // A name in another letter case must not take what has its own counterpart, nor two the same.
    let mut partners: BTreeMap<&String, &String> =
        sources.iter().filter(|name| targets.contains(name)).map(|name| (*name, *name)).collect();
    for name in &sources {
        let free = |other: &&&String| same(other, name) && !partners.values().any(|taken| taken == *other);
        if !partners.contains_key(name)
            && let Some(target) = targets.iter().find(free)
        {
            partners.insert(name, target);
        }
    }
    let (mut pairs, mut lonely, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let alone = |side, name: &str| Lonely { side, name: name.into(), doubt: None };
    for name in sources {
        match (sides[0][name], partners.get(name)) {
            (true, Some(target)) => pairs.push(TablePair { source: name.clone(), target: (*target).clone() }),
            (true, None) => lonely.push(alone(Side::Source, name)),
            (false, _) => others.push(name.clone()),
        }
    }
    for name in targets {
        let source = partners.iter().find(|(_, target)| **target == name).map(|(source, _)| *source);
        match (sides[1][name], source) {
            (true, None) => lonely.push(alone(Side::Target, name)),
            // A view there that is a table here has to be compared as well.
            (true, Some(source)) if !sides[0][source] => lonely.push(alone(Side::Target, name)),
            (false, None) => others.push(name.clone()),
            _ => {}
        }
    }
    let mut left_out = Vec::new();
    if !exclude.is_empty() {
        left_out.push(format!("tables left out on request: {}", exclude.join(", ")));
    }
    others.retain(|name| !pairs.iter().any(|pair| pair.source == *name || pair.target == *name));
    if !others.is_empty() {
        left_out.push(format!("views and sequences: {}", others.join(", ")));
    }
    Ok(Listing { pairs, lonely, left_out })
}

impl Listing {
    /// Doubts what was not seen `before` the target had all that the source had; `late`: why it never had.
    fn doubt(&mut self, before: &[Lonely], late: Option<&str>) {
        for lonely in &mut self.lonely {
            lonely.doubt = match late {
                Some(why) => Some(why.to_owned()),
                None if before.contains(lonely) => None,
                None => Some("it was made or dropped meanwhile: run again when no DDL runs".into()),
            };
        }
    }

    /// What there is to say about tables without a counterpart.
    pub fn reports(&self) -> Vec<TableReport> {
        self.lonely.iter().map(missing).collect()
    }
}

fn missing(Lonely { side, name, doubt }: &Lonely) -> TableReport {
    let at = crate::plan::at(*side);
    let other = ["target", "source"][at];
    let so = "none of its rows was compared; create it there, or leave it out with --exclude";
    let finding = SchemaFinding::only_on(at, Severity::Error, "table", name, so);
    let doubt =
        doubt.as_ref().map(|why| format!("whether the {other} has no such table was not proven: {why}"));
    TableReport {
        table: name.clone(),
        target_table: name.clone(),
        verdict: if doubt.is_some() { Verdict::NotProven } else { Verdict::Different },
        processed_rows: 0,
        matching_rows: 0,
        mismatched_rows: 0,
        extra_rows_source: 0,
        extra_rows_target: 0,
        unconfirmed_rows: 0,
        rows: Vec::new(),
        not_verified: vec![format!("all of its rows: the {other} has no such table")],
        reasons: doubt.into_iter().collect(),
        not_compared_from: None,
        schema_notes: vec![finding.message.clone()],
        schema: vec![finding],
        source_rows: 0,
        target_rows: 0,
        engine: String::new(),
        engine_reason: String::new(),
        key: Vec::new(),
        chunks: 0,
        elapsed_seconds: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relations(names: &[(&str, bool)]) -> Relations {
        names.iter().map(|(name, is_table)| ((*name).to_owned(), *is_table)).collect()
    }

    fn names(listing: &Listing) -> (Vec<String>, Vec<String>) {
        let pairs = listing.pairs.iter().map(|p| format!("{}={}", p.source, p.target)).collect();
        (pairs, listing.lonely.iter().map(|l| format!("{} {}", l.side, l.name)).collect())
    }

    #[test]
    fn only_what_is_missing_at_a_position_that_was_reached_is_proven() {
        let listing = |target: &[(&str, bool)]| {
            listed([relations(&[("a", true), ("b", true)]), relations(target)], &[], false).unwrap()
        };
        let verdicts = |before: &[(&str, bool)], after: &[(&str, bool)], late| {
            let mut after = listing(after);
            after.doubt(&listing(before).lonely, late);
            after.reports().iter().map(|r| (r.table.clone(), r.verdict)).collect::<Vec<_>>()
        };
        let (a, b) = (("a", true), ("b", true));
        assert_eq!(verdicts(&[a], &[a, b], None), []);
        assert_eq!(verdicts(&[a], &[a], None), [("b".into(), Verdict::Different)]);
        assert_eq!(verdicts(&[a], &[a], Some("why")), [("b".into(), Verdict::NotProven)]);
        assert_eq!(verdicts(&[a], &[b], None), [("a".into(), Verdict::NotProven)]);
    }

    #[test]
    fn each_table_is_paired_or_named() {
        let source = relations(&[("a", true), ("b", true), ("v", false), ("w", false), ("x", true)]);
        let target = relations(&[("a", true), ("c", true), ("v", true), ("x", false), ("z", true)]);
        let listing = listed([source, target], &["z".into()], false).unwrap();
        let (pairs, lonely) = names(&listing);
        assert_eq!(pairs, ["a=a", "x=x"]);
        assert_eq!(lonely, ["source b", "target c", "target v"]);
        assert_eq!(listing.left_out, ["tables left out on request: z", "views and sequences: v, w"]);
    }

    #[test]
    fn letter_case_counts_unless_a_server_folds_it() {
        let sides = || [relations(&[("Orders", true)]), relations(&[("orders", true)])];
        assert_eq!(names(&listed(sides(), &[], true).unwrap()).0, ["Orders=orders"]);
        let apart = names(&listed(sides(), &[], false).unwrap());
        assert_eq!(apart, (vec![], vec!["source Orders".into(), "target orders".into()]));
        assert!(listed(sides(), &["ORDERS".into()], true).unwrap().pairs.is_empty());
        assert!(listed(sides(), &["ORDERS".into()], false).is_err());
    }

    #[test]
    fn a_table_beside_one_of_the_same_letters_is_not_left_out() {
        let (one, two) = (&[("orders", true)][..], &[("Orders", true), ("orders", true)][..]);
        for (source, target, alone) in [(one, two, "target Orders"), (two, one, "source Orders")] {
            let listing = listed([relations(source), relations(target)], &[], true).unwrap();
            assert_eq!(names(&listing), (vec!["orders=orders".into()], vec![alone.into()]));
        }
        let other = listed([relations(&[("ORDERS", true)]), relations(two)], &[], true).unwrap();
        assert_eq!(names(&other), (vec!["ORDERS=Orders".into()], vec!["target orders".into()]));
    }
}
