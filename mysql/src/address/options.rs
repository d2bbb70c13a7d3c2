//! The options after a URL's `?`: their names, once, and what they say.

use std::collections::BTreeMap;

use super::text::decoded;

/// See [`crate::tls::TlsMode`].
pub const MODE: &str = "ssl-mode";
/// The authority to trust.
pub const CA: &str = "ssl-ca";
/// This client's certificate.
pub const CERT: &str = "ssl-cert";
/// This client's key.
pub const KEY: &str = "ssl-key";
/// The Unix socket.
pub const SOCKET: &str = "socket";
/// The variable of the environment that holds the password.
pub const PASSWORD_ENV: &str = "password-env";
/// The option file.
pub const DEFAULTS_FILE: &str = "defaults-file";

/// Every option's name.
pub const OPTIONS: [&str; 7] = [MODE, CA, CERT, KEY, SOCKET, PASSWORD_ENV, DEFAULTS_FILE];

/// Where a password stands that is not in the URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PasswordFrom {
    /// In this variable of the environment.
    Environment(String),
    /// In the option file at this path.
    File(String),
}

/// The options by name, percent-decoded. The error names an option, never its value.
pub fn parse(query: &str) -> Result<BTreeMap<&'static str, String>, String> {
    let mut options = BTreeMap::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let Some(known) = OPTIONS.iter().find(|known| **known == name) else {
            return Err(unknown(name));
        };
        let value = decoded(value).filter(|value| !value.is_empty());
        let value =
            value.ok_or_else(|| format!("the option {known} has no value, or a bad percent-encoding"))?;
        if options.insert(*known, value).is_some() {
            return Err(format!("the option {known} is given twice"));
        }
    }
    Ok(options)
}

/// What is no name of an option at all may be the rest of a password with a `?` in it: it is not repeated.
fn unknown(name: &str) -> String {
    let known = OPTIONS.join(", ");
    match name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
        true => format!("unknown option {name}: there are {known}"),
        false => format!("what follows the ? is no option (a ? in a password is %3F): there are {known}"),
    }
}
