//! How much of the servers a comparison may take, as it is asked for.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A counter of `SHOW GLOBAL STATUS` and the most that it may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxLoad {
    /// As in `Threads_running`.
    pub variable: String,
    /// No chunk begins while a server shows more.
    pub most: u64,
}

impl FromStr for MaxLoad {
    type Err = Error;

    /// `Threads_running=25`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || {
            Error::BadLoad(format!(
                "--max-load {text}: write a counter and its limit, as in Threads_running=25"
            ))
        };
        let (variable, most) = text.split_once('=').ok_or_else(bad)?;
        let is_name =
            !variable.is_empty() && variable.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let most = most.trim().parse().ok().filter(|_| is_name).ok_or_else(bad)?;
        Ok(Self { variable: variable.into(), most })
    }
}

impl fmt::Display for MaxLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.variable, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_names_a_counter() {
        let limit: MaxLoad = "Threads_running=25".parse().unwrap();
        assert_eq!(
            (limit.variable.as_str(), limit.most, limit.to_string().as_str()),
            ("Threads_running", 25, "Threads_running=25")
        );
        for bad in ["", "25", "=25", "a b=1", "a=", "a=-1", "a=x"] {
            assert!(bad.parse::<MaxLoad>().is_err(), "{bad}");
        }
    }
}
