//! From a URL to an address: what stands in the URL wins, then what its option file says, then the defaults.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use url::Url;

use super::Address;
use super::option_file::OptionFile;
use super::options::{self, PasswordFrom};
use super::text::{decoded, redacted};
use crate::error::Error;
use crate::tls::Tls;

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|why| Error::BadAddress { url: redacted(text), why })
    }
}

fn parse(text: &str) -> Result<Address, String> {
    const SCHEME: &str = "mysql://";
    if !text.get(..SCHEME.len()).is_some_and(|start| start.eq_ignore_ascii_case(SCHEME)) {
        return Err("it does not begin with mysql://, which MariaDB has too".into());
    }
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    let options = options::parse(url.query().unwrap_or(""))?;
    let file = match options.get(options::DEFAULTS_FILE) {
        Some(path) => OptionFile::read(Path::new(path))?,
        None => OptionFile::default(),
    };
    let part = |text: &str| decoded(text).ok_or("bad percent-encoding");
    let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(part).transpose();

    let database = url.path().strip_prefix('/').unwrap_or("");
    if database.contains('/') {
        return Err("the database name has a / in it".into());
    }
    let host = given(url.host_str().map(|h| h.trim_start_matches('[').trim_end_matches(']')))?;
    let socket = socket(&options, &file, host.is_some());
    let default_host = (socket.is_some() || file.user.is_some()).then(|| "localhost".to_owned());
    let host = host.or(file.host.clone()).or(default_host).ok_or("no host is named")?;
    let user = given(Some(url.username()))?.or(file.user.clone()).ok_or("no user is named")?;
    let (password, password_from) = password(given(url.password())?, &options, &file)?;
    Ok(Address {
        host,
        port: url.port().or(file.port).unwrap_or(3306),
        user,
        password,
        password_from,
        database: given(Some(database))?.or(file.database.clone()).unwrap_or_default(),
        tls: tls(&options, &file, socket.is_some())?,
        socket,
    })
}

type Options = BTreeMap<&'static str, String>;

/// A file's socket counts as for the servers' own clients: where no other host is meant.
fn socket(options: &Options, file: &OptionFile, host_in_url: bool) -> Option<String> {
    let local = !host_in_url && file.host.as_deref().is_none_or(|host| host == "localhost");
    options.get(options::SOCKET).or(file.socket.as_ref().filter(|_| local)).cloned()
}

fn password(
    in_url: Option<String>,
    options: &Options,
    file: &OptionFile,
) -> Result<(String, Option<PasswordFrom>), String> {
    if let Some(variable) = options.get(options::PASSWORD_ENV) {
        if in_url.is_some() {
            return Err(format!("a password and {} are given: leave one out", options::PASSWORD_ENV));
        }
        let found = std::env::var(variable).map_err(|_| {
            format!("the environment has no variable {variable}, or it is no text: export it first")
        })?;
        return Ok((found, Some(PasswordFrom::Environment(variable.clone()))));
    }
    match (in_url, &file.password, options.get(options::DEFAULTS_FILE)) {
        (None, Some(found), Some(path)) => Ok((found.clone(), Some(PasswordFrom::File(path.clone())))),
        (in_url, _, _) => Ok((in_url.unwrap_or_default(), None)),
    }
}

fn tls(options: &Options, file: &OptionFile, over_socket: bool) -> Result<Tls, String> {
    let pick = |name, in_file: &Option<String>| options.get(name).or(in_file.as_ref()).cloned();
    let mode = options.get(options::MODE).map(|mode| mode.parse()).transpose()?.or(file.mode);
    let ca = pick(options::CA, &file.ca);
    let (cert, key) = (pick(options::CERT, &file.cert), pick(options::KEY, &file.key));
    // As the servers' own clients have it: who names an authority wants it checked.
    let default = if ca.is_some() { crate::tls::TlsMode::VerifyCa } else { crate::tls::TlsMode::default() };
    let tls = Tls { mode: mode.unwrap_or(default), ca, cert, key };
    tls.check()?;
    if over_socket && tls.is_demanded() {
        return Err(format!(
            "a Unix socket is not encrypted, and ssl-mode={} asks for it: leave out one of them",
            tls.mode
        ));
    }
    Ok(tls)
}
