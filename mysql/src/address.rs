//! Server addresses: `mysql://user:password@host:port/database?options`, percent-encoded.
//!
//! Reading one also reads what it points to: an option file, a variable of the environment. What came from there is
//! never written into a URL again, which a child process gets on its command line.

mod option_file;
mod options;
mod parse;
mod text;

use std::fmt;

use text::{encoded, encoded_path};

use crate::error::Error;
use crate::tls::{Tls, TlsMode};

pub use options::{OPTIONS, PasswordFrom};

/// Where a server is and as whom to log in. `Display` never shows the password.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Address {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Account name.
    pub user: String,
    /// Password, empty for none.
    pub password: String,
    /// Where the password was read, if it did not stand in the URL.
    pub password_from: Option<PasswordFrom>,
    /// Default database, empty for none.
    pub database: String,
    /// How connections are encrypted.
    pub tls: Tls,
    /// The Unix socket to use instead of host and port. Never used without having been asked for.
    pub socket: Option<String>,
}

impl Address {
    /// The same server and account with another default database.
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.into(), ..self.clone() }
    }

    /// The same account and database behind another host and port, as when a proxy is put in between.
    pub fn with_endpoint(&self, host: &str, port: u16) -> Self {
        Self { host: host.into(), port, socket: None, ..self.clone() }
    }

    /// The whole URL, **password included** unless it came from elsewhere: only for handing to a child process, which
    /// finds the same environment and files.
    pub fn to_url(&self) -> String {
        self.render(&encoded(&self.password))
    }

    /// The URL without the password, for people to run something again.
    pub fn without_password(&self) -> String {
        self.render("")
    }

    /// The address, or an error that names the missing database.
    pub fn require_database(&self) -> Result<&str, Error> {
        if self.database.is_empty() {
            return Err(Error::BadAddress { url: self.to_string(), why: "no database is named".into() });
        }
        Ok(&self.database)
    }

    fn render(&self, password: &str) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { encoded(&self.host) };
        let hidden = password.is_empty() || self.password_from.is_some();
        let password = if hidden { String::new() } else { format!(":{password}") };
        let (user, port, database) = (encoded(&self.user), self.port, encoded(&self.database));
        format!("mysql://{user}{password}@{host}:{port}/{database}{}", self.query())
    }

    /// The options, `?` included; empty for none. Whatever an option file said is spelled out, so that reading the URL
    /// again takes nothing but the password from there.
    fn query(&self) -> String {
        let tls = &self.tls;
        let from_file = matches!(self.password_from, Some(PasswordFrom::File(_)));
        let mode =
            (tls.mode != TlsMode::Disabled || tls.ca.is_some() || from_file).then(|| tls.mode.to_string());
        let (variable, file) = match &self.password_from {
            Some(PasswordFrom::Environment(name)) => (Some(name), None),
            Some(PasswordFrom::File(path)) => (None, Some(path)),
            None => (None, None),
        };
        let options = [
            (options::MODE, mode.as_ref()),
            (options::CA, tls.ca.as_ref()),
            (options::CERT, tls.cert.as_ref()),
            (options::KEY, tls.key.as_ref()),
            (options::SOCKET, self.socket.as_ref()),
            (options::PASSWORD_ENV, variable),
            (options::DEFAULTS_FILE, file),
        ];
        let given =
            options.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded_path((*value)?))));
        let text = given.collect::<Vec<_>>().join("&");
        if text.is_empty() { text } else { format!("?{text}") }
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
        assert_eq!(a.without_password(), "mysql://root@127.0.0.1:3306/db");
        assert!(!format!("{a:?}").contains("secret"));
        for bad in [
            "mysql//root:secret@h/db",
            "http://root:secret@h/db",
            "root:secret@h/db",
            "root:secret@h//db",
            "mysql://root:1?secret@h/db",
            "mysql://root@h/db?password=secret",
            "mysql://root@h/db?ssl-mode=secret%",
        ] {
            let error = bad.parse::<Address>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (url, word) in [
            ("mysql://127.0.0.1/db", "user"),
            ("mysql:///db", "host"),
            ("postgres://u@h/db", "begin with mysql://"),
            ("u@h:3306/db", "begin with mysql://"),
            ("mysql://u@h/a/b", "/"),
            ("mysql://u:%zz@h/a", "percent"),
            ("mysql://u@h/a?sslmode=REQUIRED", "unknown option sslmode: there are ssl-mode, ssl-ca"),
            ("mysql://u@h/a?ssl-mode=STRICT", "unknown ssl-mode \"STRICT\""),
            ("mysql://u@h/a?ssl-mode=", "ssl-mode has no value"),
            ("mysql://u@h/a?socket=/a&socket=/b", "given twice"),
            ("mysql://u@h/a?ssl-mode=VERIFY_CA", "ssl-ca"),
            ("mysql://u@h/a?ssl-cert=a&ssl-mode=REQUIRED", "ssl-key"),
            ("mysql://u@h/a?ssl-mode=REQUIRED&socket=/a", "not encrypted"),
            ("mysql://u@h/a?password-env=CONVERGE_NO_SUCH_VARIABLE", "CONVERGE_NO_SUCH_VARIABLE"),
            ("mysql://u:p@h/a?password-env=CARGO_PKG_NAME", "leave one out"),
            ("mysql://u@h/a?defaults-file=no/such.cnf", "no/such.cnf"),
        ] {
            let error = url.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(word), "{url}: {error}");
        }
    }

    #[test]
    fn a_password_from_the_environment_stays_there() {
        let a: Address = "mysql://u@h/db?password-env=CARGO_PKG_NAME".parse().unwrap();
        assert_eq!(a.password, "converge-mysql");
        assert_eq!(a.to_url(), "mysql://u@h:3306/db?password-env=CARGO_PKG_NAME");
        assert_eq!(a.to_url().parse::<Address>().unwrap(), a);
    }

    fn option_file(text: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b.cnf");
        std::fs::write(&path, format!("[client]\n{text}")).unwrap();
        let path = path.to_str().unwrap().replace(' ', "%20");
        (folder, path)
    }

    #[test]
    fn an_option_file_fills_what_the_url_leaves_open() {
        let (_folder, path) = option_file(
            "user=reader\npassword=secret\nport=3307\nsocket=/s\nssl-ca=ca.pem\nssl-mode=disabled\n",
        );
        let a: Address = format!("mysql:///shop?defaults-file={path}").parse().unwrap();
        assert_eq!((a.user.as_str(), a.password.as_str(), a.port), ("reader", "secret", 3307));
        assert_eq!((a.host.as_str(), a.socket.as_deref()), ("localhost", Some("/s")));
        assert!(!a.to_url().contains("secret"), "{}", a.to_url());
        assert_eq!(a.to_url().parse::<Address>().unwrap(), a);
        // A socket stands for this machine only, and a password in the URL is the one that is meant.
        let url = format!("mysql://u:p@db2:1/shop?ssl-mode=VERIFY_IDENTITY&defaults-file={path}");
        let a: Address = url.parse().unwrap();
        assert_eq!((a.user.as_str(), a.password.as_str(), a.port, a.socket.as_deref()), ("u", "p", 1, None));
        assert_eq!((a.tls.mode, a.tls.ca.as_deref()), (TlsMode::VerifyIdentity, Some("ca.pem")));
        assert_eq!(a.to_url().parse::<Address>().unwrap(), a);
    }

    #[test]
    fn an_authority_is_named_to_be_checked() {
        let a: Address = "mysql://u@h/db?ssl-ca=/etc/ca.pem".parse().unwrap();
        assert_eq!(a.tls.mode, TlsMode::VerifyCa);
        assert_eq!("mysql://u@h/db".parse::<Address>().unwrap().tls.mode, TlsMode::Disabled);
    }

    prop_compose! {
        fn tls()(mode in 0usize..5, ca in "[^\\x00]{1,8}", pair in prop::option::of(("[^\\x00]{1,8}", "[^\\x00]{1,8}")), has_ca: bool) -> Tls {
            use TlsMode::*;
            let mode = [Disabled, Preferred, Required, VerifyCa, VerifyIdentity][mode];
            let (cert, key) = pair.unzip();
            Tls { mode, ca: (has_ca || mode >= VerifyCa).then_some(ca), cert, key }
        }
    }

    proptest! {
        #[test]
        fn urls_round_trip(
            user in "[^\\x00]{1,8}", password in "[^\\x00]{0,8}", database in "[^\\x00/.]{0,8}", port in 1u16..,
            tls in tls(), socket in prop::option::of("[^\\x00]{1,8}"),
        ) {
            let socket = socket.filter(|_| !tls.is_demanded());
            let host = "127.0.0.1".into();
            let a = Address { host, port, user, password, database, tls, socket, password_from: None };
            prop_assert_eq!(a.to_url().parse::<Address>().unwrap(), a);
        }
    }
}
