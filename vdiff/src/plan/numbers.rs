//! Buckets of a key that is one whole number: equal parts of a range of numbers, so that a server finds the rows of one by
//! its index. Pure.

/// A range of numbers in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberBuckets {
    from: i128,
    to: i128,
    width: i128,
}

impl NumberBuckets {
    /// The numbers from `from` to `to` in at most `of` parts. `None`: a server could not subtract them in 64 bits.
    pub fn new(from: i128, to: i128, of: u64) -> Option<Self> {
        let numbers = (from <= to && to - from < i128::from(i64::MAX)).then_some(to - from + 1)?;
        let of = i128::from(of.max(1));
        Some(Self { from, to, width: (numbers + of - 1) / of })
    }

    /// SQL for the bucket of a number of the range.
    pub fn bucket(&self, column: &str) -> String {
        format!("(({column} - ({})) DIV {})", self.from, self.width)
    }

    /// SQL for being in one of these buckets.
    pub fn chosen(&self, column: &str, buckets: &[u64]) -> String {
        let parts: Vec<String> = buckets
            .iter()
            .map(|bucket| self.range(*bucket))
            .map(|(first, last)| format!("{column} BETWEEN {first} AND {last}"))
            .collect();
        format!("({})", parts.join(" OR "))
    }

    /// The first and the last number of a bucket.
    fn range(&self, bucket: u64) -> (i128, i128) {
        let first = self.from + i128::from(bucket) * self.width;
        (first, (first + self.width - 1).min(self.to))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_server_cannot_subtract_has_no_buckets() {
        assert!(NumberBuckets::new(i128::from(i64::MIN), i128::from(i64::MAX), 256).is_none());
        assert!(NumberBuckets::new(0, i128::from(u64::MAX), 256).is_none());
        assert!(NumberBuckets::new(i128::from(u64::MAX) - 5, i128::from(u64::MAX), 256).is_some());
    }

    proptest! {
        #[test]
        fn each_number_is_in_its_bucket_and_in_no_other(
            from in -1000i128..1000, length in 1i128..2000, of in 1u64..300, at in any::<prop::sample::Index>(),
        ) {
            let buckets = NumberBuckets::new(from, from + length - 1, of).unwrap();
            let number = from + at.index(length as usize) as i128;
            let own = ((number - from) / buckets.width) as u64;
            prop_assert!(own < of);
            for bucket in 0..of {
                let (first, last) = buckets.range(bucket);
                prop_assert_eq!((first..=last).contains(&number), bucket == own);
            }
        }
    }
}
