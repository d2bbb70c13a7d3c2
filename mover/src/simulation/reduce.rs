//! Delta debugging: from a list whose whole fails, parts are left out, large ones first, until no single one can be left
//! out. Pure: whether a candidate fails is asked of the caller, who may run a world, or a rehearsal of minutes, for it.

use std::ops::Range;

/// A search for a smallest list that still fails. Ask for a [`candidate`](Self::candidate), [`answer`](Self::answer)
/// whether it fails, until there are no more.
///
/// If answers depend on the candidate alone, what is left fails, and fails no more without any one of its items. With
/// `n` items at most `n² + 3n + 1` candidates are asked about, whatever the answers.
#[derive(Debug, Clone)]
pub struct Reduction<T> {
    kept: Vec<T>,
    /// Equal parts that `kept` is cut into, one of which a candidate lacks.
    pieces: usize,
    next: usize,
    /// Candidates since the last one that failed, or since parts became smaller.
    fruitless: usize,
    done: bool,
}

impl<T: Clone> Reduction<T> {
    /// Begins with a list that fails.
    pub fn new(items: Vec<T>) -> Self {
        let done = items.is_empty();
        Self { kept: items, pieces: 1, next: 0, fruitless: 0, done }
    }

    /// The smallest list so far that fails.
    pub fn smallest(&self) -> &[T] {
        &self.kept
    }

    /// The next list to be tried; nothing if the search is over. The first one is empty.
    pub fn candidate(&self) -> Option<Vec<T>> {
        let without = self.piece();
        (!self.done).then(|| [&self.kept[..without.start], &self.kept[without.end..]].concat())
    }

    fn piece(&self) -> Range<usize> {
        let at = |piece: usize| piece * self.kept.len() / self.pieces;
        at(self.next)..at(self.next + 1)
    }

    /// Tells whether the candidate fails.
    pub fn answer(&mut self, fails: bool) {
        let Some(candidate) = self.candidate() else { return };
        if fails {
            self.kept = candidate;
            // That nothing at all does not fail is known from the first candidate.
            self.done = self.kept.len() <= 1;
            self.pieces = (self.pieces - 1).max(2).min(self.kept.len()).max(1);
            self.next = if self.next < self.pieces { self.next } else { 0 };
            self.fruitless = 0;
            return;
        }
        self.fruitless += 1;
        self.next = (self.next + 1) % self.pieces;
        if self.fruitless == self.pieces {
            self.done = self.pieces >= self.kept.len();
            self.pieces = (2 * self.pieces).min(self.kept.len());
            (self.next, self.fruitless) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is left, and how many candidates that took.
    fn reduced(items: Vec<usize>, mut fails: impl FnMut(&[usize]) -> bool) -> (Vec<usize>, usize) {
        let mut search = Reduction::new(items);
        let mut tries = 0;
        while let Some(candidate) = search.candidate() {
            tries += 1;
            let answer = fails(&candidate);
            search.answer(answer);
        }
        (search.smallest().to_vec(), tries)
    }

    fn bound(items: usize) -> usize {
        items * items + 3 * items + 1
    }

    /// A number from a list and a salt, as a predicate without any order in it.
    fn scrambled(list: &[usize], salt: u64) -> u64 {
        list.iter()
            .fold(salt, |sum, n| (sum ^ (*n as u64 + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23))
    }

    fn check(items: usize, fails: impl Fn(&[usize]) -> bool) -> Result<Vec<usize>, TestCaseError> {
        let whole: Vec<usize> = (0..items).collect();
        let (left, tries) = reduced(whole, &fails);
        prop_assert!(fails(&left), "{left:?} does not fail");
        for without in 0..left.len() {
            let less = [&left[..without], &left[without + 1..]].concat();
            prop_assert!(!fails(&less), "{left:?} is not the smallest: {less:?} fails");
        }
        prop_assert!(tries <= bound(items), "{tries} tries for {items}");
        Ok(left)
    }

    proptest! {
        #[test]
        fn exactly_what_is_needed_is_left(items in 1usize..60, needed in prop::collection::btree_set(0usize..60, 0..8)) {
            let needed: Vec<usize> = needed.into_iter().filter(|n| *n < items).collect();
            let left = check(items, |list| needed.iter().all(|n| list.contains(n)))?;
            prop_assert_eq!(left, needed);
        }

        #[test]
        fn what_is_left_fails_and_can_lose_nothing(items in 0usize..30, salt: u64, one_in in 1u64..6) {
            check(items, |list| list.len() == items || scrambled(list, salt).is_multiple_of(one_in))?;
        }

        #[test]
        fn it_ends_whatever_the_answers(items in 0usize..40, salt: u64, one_in in 1u64..12) {
            let mut asked = 0;
            let (_, tries) = reduced((0..items).collect(), |_| {
                asked += 1;
                scrambled(&[asked], salt).is_multiple_of(one_in)
            });
            prop_assert!(tries <= bound(items), "{} tries for {}", tries, items);
        }
    }

    #[test]
    fn a_few_needed_among_many_are_found_quickly() {
        let (left, tries) = reduced((0..1024).collect(), |list| list.contains(&7) && list.contains(&900));
        assert_eq!(left, [7, 900]);
        assert!(tries < 80, "{tries}");
    }
}
