//! Server addresses: `mysql://user:password@host:port/database`, percent-encoded.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::error::Error;

/// Where a server is and as whom to log in. `Display` never shows the password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Account name.
    pub user: String,
    /// Password, empty for none.
    pub password: String,
    /// Default database, empty for none.
    pub database: String,
}

impl Address {
    /// The same server and account with another default database.
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.into(), ..self.clone() }
    }

    /// The same account and database behind another host and port, as when a proxy is put in between.
    pub fn with_endpoint(&self, host: &str, port: u16) -> Self {
        Self { host: host.into(), port, ..self.clone() }
    }

    /// The whole URL, **password included**: only for handing to a child process.
    pub fn to_url(&self) -> String {
        self.render(&encoded(&self.password))
    }

    /// The address, or an error that names the missing database.
    pub fn require_database(&self) -> Result<&str, Error> {
        if self.database.is_empty() {
            return Err(Error::BadAddress { url: self.to_string(), why: "no database is named".into() });
        }
        Ok(&self.database)
    }

    fn render(&self, password: &str) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let password = if password.is_empty() { String::new() } else { format!(":{password}") };
        let (user, port, database) = (encoded(&self.user), self.port, encoded(&self.database));
        format!("mysql://{user}{password}@{host}:{port}/{database}")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(if self.password.is_empty() { "" } else { "***" }))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Hides whatever stands between the first `:` after `//` (or at all, without one) and the last `@`, for URLs that do
/// not parse.
fn redacted(text: &str) -> String {
    let Some(at) = text.rfind('@') else { return text.into() };
    let user = text[..at].find("//").map_or(0, |slashes| slashes + 2);
    match text[user..at].find(':') {
        Some(colon) => format!("{}:***{}", &text[..user + colon], &text[at..]),
        None => text.into(),
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(b as char);
        } else {
            let _ = write!(out, "%{b:02X}");
        }
        out
    })
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        if b == b'%' {
            let (hi, lo) = (rest.next()?, rest.next()?);
            let digit = |d: u8| (d as char).to_digit(16);
            bytes.push((digit(hi)? * 16 + digit(lo)?) as u8);
        } else {
            bytes.push(b);
        }
    }
    String::from_utf8(bytes).ok()
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::BadAddress { url: redacted(text), why: why.into() };
        let url = Url::parse(text).map_err(|e| bad(&e.to_string()))?;
        if url.scheme() != "mysql" {
            return Err(bad("the scheme is not mysql://"));
        }
        let host = url.host_str().filter(|h| !h.is_empty()).ok_or_else(|| bad("no host is named"))?;
        if url.username().is_empty() {
            return Err(bad("no user is named"));
        }
        if let Some(query) = url.query() {
            return Err(bad(&format!("unknown option ?{query}")));
        }
        let part = |text: &str| decoded(text).ok_or_else(|| bad("bad percent-encoding"));
        let database = url.path().strip_prefix('/').unwrap_or("");
        if database.contains('/') {
            return Err(bad("the database name has a / in it"));
        }
        Ok(Self {
            host: part(host.trim_start_matches('[').trim_end_matches(']'))?,
            port: url.port().unwrap_or(3306),
            user: part(url.username())?,
            password: part(url.password().unwrap_or(""))?,
            database: part(database)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_percent_decoded() {
        let a: Address = "mysql://r%40t:p%3A%2Fw@db.example:3307/my%20shop".parse().unwrap();
        assert_eq!((a.user.as_str(), a.password.as_str()), ("r@t", "p:/w"));
        assert_eq!((a.host.as_str(), a.port, a.database.as_str()), ("db.example", 3307, "my shop"));
    }

    #[test]
    fn the_password_is_never_shown() {
        let a: Address = "mysql://root:secret@127.0.0.1/db".parse().unwrap();
        assert_eq!(a.to_string(), "mysql://root:***@127.0.0.1:3306/db");
        assert!(!format!("{a:?}").contains("secret"));
        for bad in
            ["mysql//root:secret@h/db", "http://root:secret@h/db", "root:secret@h/db", "root:secret@h//db"]
        {
            let error = bad.parse::<Address>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (url, word) in [
            ("mysql://127.0.0.1/db", "user"),
            ("postgres://u@h/db", "scheme"),
            ("mysql://u@h/a/b", "/"),
            ("mysql://u:%zz@h/a", "percent"),
            ("mysql://u@h/a?x=1", "x=1"),
        ] {
            let error = url.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    proptest! {
        #[test]
        fn urls_round_trip(user in "[^\\x00]{1,8}", password in "[^\\x00]{0,8}", database in "[^\\x00/.]{0,8}", port in 1u16..) {
            let a = Address { host: "127.0.0.1".into(), port, user, password, database };
            prop_assert_eq!(a.to_url().parse::<Address>().unwrap(), a);
        }
    }
}
