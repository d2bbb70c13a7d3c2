//! GTID positions of both families.
//!
//! MySQL: a set of intervals per server UUID and tag. MariaDB: one last sequence number per domain.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A MySQL GTID set, such as `3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7,…:tag:1-3`.
///
/// Keys are the lower-case UUID and the tag (empty for none); values are sorted, disjoint, non-adjacent
/// inclusive intervals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct MySqlGtidSet {
    intervals: BTreeMap<(String, String), Vec<(u64, u64)>>,
}

impl MySqlGtidSet {
    /// Adds one transaction.
    pub fn add(&mut self, uuid: &str, tag: &str, number: u64) {
        self.add_interval(uuid, tag, number, number);
    }

    fn add_interval(&mut self, uuid: &str, tag: &str, from: u64, to: u64) {
        let list = self.intervals.entry((uuid.to_ascii_lowercase(), tag.to_ascii_lowercase())).or_default();
        // The stream adds in order nearly always: the last interval grows.
        if let Some(last) = list.last_mut()
            && from == last.1 + 1
        {
            last.1 = to;
            return;
        }
        list.push((from, to));
        list.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(list.len());
        for &(from, to) in list.iter() {
            match merged.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        *list = merged;
    }

    /// Whether every transaction of `other` is in this set.
    pub fn covers(&self, other: &Self) -> bool {
        other.intervals.iter().all(|(key, list)| {
            let mine = self.intervals.get(key).map_or(&[][..], Vec::as_slice);
            list.iter().all(|&(from, to)| mine.iter().any(|&(a, b)| a <= from && to <= b))
        })
    }

    /// Adds every transaction of `other`.
    pub fn join(&mut self, other: &Self) {
        for (uuid, tag, intervals) in other.iter() {
            intervals.iter().for_each(|&(from, to)| self.add_interval(uuid, tag, from, to));
        }
    }

    /// UUID, tag and inclusive intervals of each member, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &[(u64, u64)])> {
        self.intervals.iter().map(|((uuid, tag), list)| (uuid.as_str(), tag.as_str(), list.as_slice()))
    }

    /// Whether the set has no member.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }
}

impl fmt::Display for MySqlGtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, ((uuid, tag), list)) in self.intervals.iter().enumerate() {
            f.write_str(if i > 0 { "," } else { "" })?;
            f.write_str(uuid)?;
            if !tag.is_empty() {
                write!(f, ":{tag}")?;
            }
            for &(from, to) in list {
                if from == to { write!(f, ":{from}")? } else { write!(f, ":{from}-{to}")? }
            }
        }
        Ok(())
    }
}

impl FromStr for MySqlGtidSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::BadPosition { text: text.into(), why: why.into() };
        let mut set = Self::default();
        for member in text.split(',').map(str::trim).filter(|m| !m.is_empty()) {
            let mut parts = member.split(':').map(str::trim);
            let uuid = parts.next().unwrap_or("");
            if uuid.len() != 36 || !uuid.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()) {
                return Err(bad("a member does not begin with a server UUID"));
            }
            let mut tag = "";
            let mut any = false;
            for part in parts {
                if part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    tag = part;
                    continue;
                }
                let (from, to) = part.split_once('-').unwrap_or((part, part));
                let number = |t: &str| t.parse::<u64>().ok().filter(|n| *n > 0);
                match (number(from), number(to)) {
                    (Some(from), Some(to)) if from <= to => set.add_interval(uuid, tag, from, to),
                    _ => return Err(bad("an interval is not N or N-M")),
                }
                any = true;
            }
            if !any {
                return Err(bad("a member has no interval"));
            }
        }
        Ok(set)
    }
}

/// A MariaDB GTID position, such as `0-1-270,1-1-25`: per domain the last transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct MariaDbGtidPosition {
    domains: BTreeMap<u32, (u32, u64)>,
}

impl MariaDbGtidPosition {
    /// Moves a domain to a transaction.
    pub fn advance(&mut self, domain: u32, server: u32, number: u64) {
        self.domains.insert(domain, (server, number));
    }

    /// Each domain with the server and the number of its last transaction.
    pub fn numbers(&self) -> impl Iterator<Item = ((u32, u32), u64)> {
        self.domains.iter().map(|(domain, (server, number))| ((*domain, *server), *number))
    }

    /// Moves each domain to where `other` is, if that is farther.
    pub fn join(&mut self, other: &Self) {
        for (domain, (server, number)) in &other.domains {
            if self.domains.get(domain).is_none_or(|(_, mine)| mine < number) {
                self.advance(*domain, *server, *number);
            }
        }
    }

    /// Whether, in each domain that `other` names, this position is as far or farther.
    ///
    /// MariaDB numbers the transactions of a domain in order over all servers, so numbers compare.
    pub fn covers(&self, other: &Self) -> bool {
        other
            .domains
            .iter()
            .all(|(domain, (_, number))| self.domains.get(domain).is_some_and(|(_, mine)| mine >= number))
    }
}

impl fmt::Display for MariaDbGtidPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (domain, (server, number))) in self.domains.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{domain}-{server}-{number}")?;
        }
        Ok(())
    }
}

impl FromStr for MariaDbGtidPosition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut position = Self::default();
        for member in text.split(',').map(str::trim).filter(|m| !m.is_empty()) {
            let numbers: Option<Vec<u64>> = member.split('-').map(|n| n.parse().ok()).collect();
            match numbers.as_deref() {
                Some(&[domain, server, number]) if domain <= u32::MAX as u64 && server <= u32::MAX as u64 => {
                    position.advance(domain as u32, server as u32, number);
                }
                _ => {
                    let why = "a member is not DOMAIN-SERVER-NUMBER".into();
                    return Err(Error::BadPosition { text: text.into(), why });
                }
            }
        }
        Ok(position)
    }
}

/// The last transaction's number of each server in each of MariaDB's domains: what a position does not have, and
/// `gtid_binlog_state` does. Of several numbers the highest counts.
pub fn last_numbers(gtids: &str) -> Result<BTreeMap<(u32, u32), u64>, Error> {
    let mut last = BTreeMap::new();
    for gtid in gtids.split(',').filter(|gtid| !gtid.trim().is_empty()) {
        for (id, number) in gtid.parse::<MariaDbGtidPosition>()?.numbers() {
            let seen: &mut u64 = last.entry(id).or_default();
            *seen = number.max(*seen);
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn text_forms_round_trip() {
        for text in [format!("{A}:1-5:7"), format!("{A}:1-5,{A}:backup:3"), String::new()] {
            assert_eq!(text.parse::<MySqlGtidSet>().unwrap().to_string(), text);
        }
        assert_eq!("0-1-270,1-1-25".parse::<MariaDbGtidPosition>().unwrap().to_string(), "0-1-270,1-1-25");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["x:1", A, &format!("{A}:5-1"), &format!("{A}:0")] {
            assert!(text.parse::<MySqlGtidSet>().is_err(), "{text}");
        }
        assert!("0-1".parse::<MariaDbGtidPosition>().is_err());
    }

    #[test]
    fn a_missing_domain_or_tag_is_not_covered() {
        let set: MySqlGtidSet = format!("{A}:1-9").parse().unwrap();
        assert!(!set.covers(&format!("{A}:t:1").parse().unwrap()));
        let position: MariaDbGtidPosition = "0-1-9".parse().unwrap();
        assert!(position.covers(&"0-2-9".parse().unwrap()) && !position.covers(&"1-1-1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn intervals_behave_like_sets_of_numbers(
            a in prop::collection::vec(1u64..40, 0..30),
            b in prop::collection::vec(1u64..40, 0..30),
        ) {
            let build = |numbers: &[u64]| {
                let mut set = MySqlGtidSet::default();
                numbers.iter().for_each(|n| set.add(A, "", *n));
                set
            };
            let sets = (a.iter().collect::<BTreeSet<_>>(), b.iter().collect::<BTreeSet<_>>());
            prop_assert_eq!(build(&a).covers(&build(&b)), sets.0.is_superset(&sets.1));
            prop_assert_eq!(build(&a).to_string().parse::<MySqlGtidSet>().unwrap(), build(&a));
            let mut joined = build(&a);
            joined.join(&build(&b));
            prop_assert_eq!(joined, build(&[a, b].concat()));
        }
    }
}
