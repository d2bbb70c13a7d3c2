//! Row locks of the simulated source, by key and by unique value.

use std::collections::BTreeMap;

/// What can be locked in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lock {
    /// The row of a key, whether it is there or not.
    Key(usize, i64),
    /// A unique value.
    Unique(usize, i64),
}

/// Who holds what.
#[derive(Debug, Default)]
pub struct Locks {
    held: BTreeMap<Lock, u64>,
}

impl Locks {
    /// Takes all of `wanted` for `owner`, or none.
    pub fn take(&mut self, owner: u64, wanted: &[Lock]) -> bool {
        let free = wanted.iter().all(|lock| self.held.get(lock).is_none_or(|holder| *holder == owner));
        if free {
            self.held.extend(wanted.iter().map(|lock| (*lock, owner)));
        }
        free
    }

    /// Whether somebody else holds a key of `table` that is in the range.
    pub fn others_in(&self, owner: u64, table: usize, keys: impl Fn(i64) -> bool) -> bool {
        self.held.iter().any(|(lock, holder)| match lock {
            Lock::Key(t, key) => *holder != owner && *t == table && keys(*key),
            Lock::Unique(..) => false,
        })
    }

    /// Lets everything of `owner` go.
    pub fn release(&mut self, owner: u64) {
        self.held.retain(|_, holder| *holder != owner);
    }

    /// Lets everything go.
    pub fn clear(&mut self) {
        self.held.clear();
    }
}
