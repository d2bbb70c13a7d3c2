//! Column values as SQL literals: every common type, with the values that tools get wrong.

use converge_mysql::quote;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Dice. The generator is pinned (ChaCha with 8 rounds): a seed means the same load in years.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Dice that depend on four numbers only.
    pub fn new(seed: u64, purpose: u64, a: u64, b: u64) -> Self {
        let mut key = [0; 32];
        for (part, number) in key.chunks_exact_mut(8).zip([seed, purpose, a, b]) {
            part.copy_from_slice(&number.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number below `n`; 0 if `n` is 0. The bias of the remainder is far below what a load could show, and the
    /// rule cannot change under us.
    pub fn below(&mut self, n: u64) -> u64 {
        let drawn = self.0.next_u64();
        if n == 0 { 0 } else { drawn % n }
    }

    /// A number in `from..=to`.
    pub fn between(&mut self, from: i64, to: i64) -> i64 {
        from.wrapping_add(self.below((to.wrapping_sub(from) as u64).wrapping_add(1)) as i64)
    }

    /// True with the given probability.
    pub fn chance(&mut self, share: f64) -> bool {
        ((self.0.next_u64() >> 11) as f64) < share * (1u64 << 53) as f64
    }

    /// A number below `n` after Zipf's law with exponent 1: 0 is drawn twice as often as 1 and thrice as often as 2. An
    /// octave is drawn evenly, then a number in it is kept with the odds that make it exact; whole numbers only, so that
    /// every machine draws the same.
    pub fn zipf(&mut self, n: u64) -> u64 {
        let octaves = u64::from(n.checked_ilog2().map_or(1, |log| log + 1));
        // Each turn is kept with odds of a quarter at the least.
        for _ in 0..64 {
            let first = 1 << self.below(octaves);
            let drawn = first + self.below(first);
            if self.below(drawn) < first && drawn <= n {
                return drawn - 1;
            }
        }
        0
    }

    /// One of `list`.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len() as u64) as usize]
    }

    pub(super) fn bytes(&mut self, n: u64) -> Vec<u8> {
        let mut bytes = vec![0; n as usize];
        self.0.fill(&mut bytes[..]);
        bytes
    }
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Words with everything from quotes to emoji, up to 60 characters.
    Words,
    /// One of the members.
    Enum(&'static [&'static str]),
    /// Any of the members.
    Set(&'static [&'static str]),
    /// A whole number in this range; both ends are drawn often.
    Int(i64, i64),
    /// `BIGINT UNSIGNED`.
    BigUnsigned,
    /// A decimal number with this many digits before and after the point.
    Decimal(u32, u32),
    /// `FLOAT`.
    Float,
    /// `DOUBLE`.
    Double,
    /// `BIT(n)`.
    Bits(u32),
    /// Up to this many bytes, zeros at either end among them.
    Bytes(u64),
    /// `DATE`.
    Date,
    /// `DATETIME(6)`.
    DateTime,
    /// `TIMESTAMP(3)`.
    Timestamp,
    /// `TIME(3)`, negative ones too.
    Time,
    /// `YEAR`.
    Year,
    /// `JSON`.
    Json,
    /// A longer text.
    Text,
}

const WORDS: [&str; 16] = [
    "Ada",
    "Zoë",
    "李雷",
    "😀🎉",
    "O'Neil",
    "back\\slash",
    "100%",
    "naïve",
    "ŁÓDŹ",
    "\"quoted\"",
    "tab\there",
    "мир",
    "x",
    "_under_",
    "straße",
    "👩‍👩‍👧",
];

impl Value {
    /// Draws a value as an SQL literal for a session in UTC and `utf8mb4`.
    pub fn draw(self, dice: &mut Dice) -> String {
        match self {
            Self::Words => quote::text(&words(dice, 4, 60)),
            Self::Enum(members) => quote::text(dice.pick::<&str>(members)),
            Self::Set(members) => {
                let chosen: Vec<&str> = members.iter().copied().filter(|_| dice.chance(0.4)).collect();
                quote::text(&chosen.join(","))
            }
            Self::Int(from, to) => match dice.below(12) {
                0 => from.to_string(),
                1 => to.to_string(),
                _ => dice.between(from, to).to_string(),
            },
            Self::BigUnsigned => match dice.below(8) {
                0 => u64::MAX.to_string(),
                1 => (i64::MAX as u64 + 1).to_string(),
                _ => dice.below(u64::MAX).to_string(),
            },
            Self::Decimal(whole, fraction) => decimal(dice, whole, fraction),
            Self::Float => format!("{}e{}", dice.between(-16_777_216, 16_777_216), dice.between(-12, 20)),
            Self::Double => {
                let (digits, exponent) =
                    (dice.between(-99_999_999_999_999_999, 99_999_999_999_999_999), dice.between(-200, 200));
                format!("{digits}e{exponent}")
            }
            Self::Bits(n) => format!("b'{:b}'", dice.below(1 << n)),
            Self::Bytes(most) => bytes(dice, most),
            Self::Date => format!("'{}'", date(dice, 1000, 9999)),
            Self::DateTime => {
                let (date, time) = (date(dice, 1000, 9999), clock(dice));
                format!("'{date} {time}.{:06}'", dice.below(1_000_000))
            }
            Self::Timestamp => match dice.below(20) {
                0 => "'1970-01-01 00:00:01.000'".into(),
                1 => "'2038-01-19 03:14:07.999'".into(),
                _ => {
                    let (date, time) = (date(dice, 1971, 2037), clock(dice));
                    format!("'{date} {time}.{:03}'", dice.below(1000))
                }
            },
            Self::Time => time(dice),
            Self::Year => match dice.below(12) {
                0 => "0".into(),
                1 => "1901".into(),
                2 => "2155".into(),
                _ => dice.between(1950, 2050).to_string(),
            },
            Self::Json => quote::text(&json(dice)),
            Self::Text => {
                let most = if dice.chance(0.05) { 400 } else { 12 };
                quote::text(&words(dice, most, 8000))
            }
        }
    }
}

pub(super) fn words(dice: &mut Dice, most: u64, limit: usize) -> String {
    let mut text = String::new();
    for n in 0..dice.below(most + 1) {
        let word = dice.pick(&WORDS);
        if text.chars().count() + word.chars().count() + 1 > limit {
            break;
        }
        if n > 0 {
            text.push(' ');
        }
        text.push_str(word);
    }
    if dice.chance(0.05) && text.chars().count() < limit {
        // Collations ignore it; a copy must not.
        text.push(' ');
    }
    text
}

fn decimal(dice: &mut Dice, whole: u32, fraction: u32) -> String {
    let limit = 10u64.pow(whole);
    let number = match dice.below(10) {
        0 => 0,
        1 => limit - 1,
        _ => dice.below(limit),
    };
    let sign = if dice.chance(0.3) { "-" } else { "" };
    let width = fraction as usize;
    format!("{sign}{number}.{:0width$}", dice.below(10u64.pow(fraction)))
}

fn bytes(dice: &mut Dice, most: u64) -> String {
    let length = dice.below(most + 1);
    let mut bytes = dice.bytes(length);
    let n = bytes.len();
    if n > 0 && dice.chance(0.3) {
        bytes[n - 1] = 0;
    }
    if n > 0 && dice.chance(0.15) {
        bytes[0] = 0;
    }
    quote::hex(&bytes)
}

fn date(dice: &mut Dice, from: i64, to: i64) -> String {
    format!("{:04}-{:02}-{:02}", dice.between(from, to), dice.between(1, 12), dice.between(1, 28))
}

fn clock(dice: &mut Dice) -> String {
    format!("{:02}:{:02}:{:02}", dice.below(24), dice.below(60), dice.below(60))
}

fn time(dice: &mut Dice) -> String {
    let sign = if dice.chance(0.3) { "-" } else { "" };
    let hours = if dice.chance(0.1) { 838 } else { dice.below(100) };
    // The largest TIME is 838:59:59 without a fraction; anything above it is refused.
    let seconds = if hours == 838 { 59 } else { 60 };
    format!("'{sign}{hours}:{:02}:{:02}.{:03}'", dice.below(60), dice.below(seconds), dice.below(1000))
}

fn json(dice: &mut Dice) -> String {
    let mut object = serde_json::Map::new();
    for key in ["n", "text", "list", "deep", "flag"].iter().filter(|_| dice.chance(0.6)).collect::<Vec<_>>() {
        let value = match *key {
            "n" => serde_json::json!(dice.between(i64::MIN / 2, i64::MAX / 2)),
            "text" => serde_json::json!(words(dice, 3, 60)),
            "list" => serde_json::json!([dice.below(100), dice.below(1000) as f64 / 8.0, null, "😀"]),
            "deep" => serde_json::json!({"a": {"b": [dice.below(10), {}]}, "": []}),
            _ => serde_json::json!(dice.chance(0.5)),
        };
        object.insert((*key).into(), value);
    }
    serde_json::Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_dice_are_those_of_the_first_release() {
        let mut dice = Dice::new(7, 1, 2, 3);
        let drawn: Vec<u64> = (0..4).map(|_| dice.below(1_000_000)).collect();
        assert_eq!(drawn, [667_786, 924_041, 618_409, 38_044]);
    }

    #[test]
    fn the_nth_key_is_drawn_a_nth_as_often_as_the_first() {
        let mut dice = Dice::new(7, 1, 2, 3);
        let mut counts = [0u32; 12];
        (0..120_000).for_each(|_| counts[dice.zipf(12) as usize] += 1);
        for (n, count) in (1u32..).zip(counts) {
            let share = f64::from(count * n) / f64::from(counts[0]);
            assert!((0.9..1.1).contains(&share), "{n}: {counts:?}");
        }
    }

    proptest! {
        #[test]
        fn ranges_are_kept(seed: u64, from in -1000i64..1000, width in 0i64..1000) {
            let mut dice = Dice::new(seed, 0, 0, 0);
            let drawn = dice.between(from, from + width);
            prop_assert!((from..=from + width).contains(&drawn));
            prop_assert!(!dice.chance(0.0) && dice.chance(1.0));
        }

        #[test]
        fn zipf_stays_below_its_end(seed: u64, n in 1u64..100_000) {
            prop_assert!(Dice::new(seed, 0, 0, 0).zipf(n) < n);
        }

        #[test]
        fn words_fit_their_column(seed: u64) {
            prop_assert!(words(&mut Dice::new(seed, 0, 0, 0), 9, 60).chars().count() <= 60);
        }
    }
}
