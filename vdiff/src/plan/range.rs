//! Predicates over ranges of composite keys, in the form that both families' optimizers read as index ranges: an OR of
//! prefixes with a plain bound on the first column in front.

/// A condition on columns, as a tree so that it can be both rendered and tested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// `column OPERATOR literal`; the column by its index.
    Compare(usize, Operator, String),
    /// All of them.
    And(Vec<Condition>),
    /// Any of them.
    Or(Vec<Condition>),
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `>`
    Greater,
}

impl Operator {
    fn sql(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Equal => "=",
            Self::AtLeast => ">=",
            Self::Greater => ">",
        }
    }

    /// The comparison that also lets equal values pass.
    fn or_equal(self) -> Self {
        match self {
            Self::Less => Self::AtMost,
            Self::Greater => Self::AtLeast,
            other => other,
        }
    }

    /// The comparison that lets no equal values pass.
    fn strict(self) -> Self {
        match self {
            Self::AtMost => Self::Less,
            Self::AtLeast => Self::Greater,
            other => other,
        }
    }
}

/// `(columns…) OPERATOR (literals…)` in the order of the columns.
pub fn bound(operator: Operator, literals: &[String]) -> Condition {
    fn tail(operator: Operator, literals: &[String], at: usize) -> Condition {
        let literal = literals[at].clone();
        if at + 1 == literals.len() {
            return Condition::Compare(at, operator, literal);
        }
        Condition::Or(vec![
            Condition::Compare(at, operator.strict(), literal.clone()),
            Condition::And(vec![
                Condition::Compare(at, Operator::Equal, literal),
                tail(operator, literals, at + 1),
            ]),
        ])
    }
    let whole = tail(operator, literals, 0);
    if literals.len() == 1 {
        return whole;
    }
    Condition::And(vec![Condition::Compare(0, operator.or_equal(), literals[0].clone()), whole])
}

/// All columns equal to their literals.
pub fn equal(literals: &[String]) -> Condition {
    Condition::And(
        literals
            .iter()
            .enumerate()
            .map(|(i, literal)| Condition::Compare(i, Operator::Equal, literal.clone()))
            .collect(),
    )
}

impl Condition {
    /// SQL over the given column names, already quoted.
    pub fn sql(&self, columns: &[String]) -> String {
        let list = |parts: &[Self], word: &str| {
            let parts: Vec<String> = parts.iter().map(|p| p.sql(columns)).collect();
            format!("({})", parts.join(word))
        };
        match self {
            Self::Compare(column, operator, literal) => {
                format!("{} {} {literal}", columns[*column], operator.sql())
            }
            Self::And(parts) => list(parts, " AND "),
            Self::Or(parts) => list(parts, " OR "),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(condition: &Condition, row: &[u8]) -> bool {
        match condition {
            Condition::Compare(column, operator, literal) => {
                let (value, literal) = (row[*column], literal.parse::<u8>().unwrap());
                match operator {
                    Operator::Less => value < literal,
                    Operator::AtMost => value <= literal,
                    Operator::Equal => value == literal,
                    Operator::AtLeast => value >= literal,
                    Operator::Greater => value > literal,
                }
            }
            Condition::And(parts) => parts.iter().all(|p| holds(p, row)),
            Condition::Or(parts) => parts.iter().any(|p| holds(p, row)),
        }
    }

    #[test]
    fn a_composite_bound_starts_with_its_first_column() {
        let condition = bound(Operator::AtLeast, &["1".into(), "2".into()]);
        assert_eq!(condition.sql(&["a".into(), "b".into()]), "(a >= 1 AND (a > 1 OR (a = 1 AND b >= 2)))");
    }

    proptest! {
        #[test]
        fn bounds_are_tuple_comparisons(
            (row, key) in (1usize..5).prop_flat_map(|n| (
                prop::collection::vec(0u8..4, n),
                prop::collection::vec(0u8..4, n),
            )),
        ) {
            let literals: Vec<String> = key.iter().map(u8::to_string).collect();
            let test = |operator| holds(&bound(operator, &literals), &row);
            prop_assert_eq!(test(Operator::AtLeast), row >= key);
            prop_assert_eq!(test(Operator::Greater), row > key);
            prop_assert_eq!(test(Operator::Less), row < key);
            prop_assert_eq!(test(Operator::AtMost), row <= key);
            prop_assert_eq!(holds(&equal(&literals), &row), row == key);
        }
    }
}
