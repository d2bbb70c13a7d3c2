//! Forms of arguments that several commands share.

use std::time::Duration;

use converge_vdiff::TablePair;

/// A duration such as `500ms`, `30s`, `2m`, `1h`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}: use ms, s, m or h, as in 30s")),
    };
    let number: f64 = number.parse().map_err(|_| "not a number with a unit, as in 30s".to_owned())?;
    Duration::try_from_secs_f64(number * factor).map_err(|e| e.to_string())
}

/// One table, under the same name on both sides or as `source=target`.
pub fn table_pair(text: &str) -> Result<(String, String), String> {
    text.parse::<TablePair>().map(|pair| (pair.source, pair.target)).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for bad in ["", "s", "5 parsecs", "-1s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tables_may_change_their_name() {
        assert_eq!(table_pair("a"), Ok(("a".into(), "a".into())));
        assert_eq!(table_pair("a=b"), Ok(("a".into(), "b".into())));
        assert!(table_pair("a=").is_err());
    }
}
