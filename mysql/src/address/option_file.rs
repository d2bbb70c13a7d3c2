//! Option files (`my.cnf`), in the grammar of the servers' own clients: what their group `[client]` says about a
//! connection. A file that cannot be read as a whole is an error: half of it may be another account.

use std::path::{Path, PathBuf};

use crate::tls::TlsMode;

/// The groups that count: every client reads the first, MariaDB's also the second.
const GROUPS: [&str; 2] = ["client", "client-server"];

/// How deep files may include each other, as in the servers' clients.
const DEEPEST: usize = 10;

/// What a file says; later words override earlier ones.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OptionFile {
    pub user: Option<String>,
    pub password: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub socket: Option<String>,
    pub database: Option<String>,
    pub mode: Option<TlsMode>,
    pub ca: Option<String>,
    pub cert: Option<String>,
    pub key: Option<String>,
}

impl OptionFile {
    /// Reads a file and those it includes. The error says what is wrong and where; it never quotes a value.
    pub fn read(path: &Path) -> Result<Self, String> {
        let mut found = Self::default();
        found.read_into(path, 0)?;
        Ok(found)
    }

    fn read_into(&mut self, path: &Path, depth: usize) -> Result<(), String> {
        let shown = path.display();
        if depth > DEEPEST {
            return Err(format!("{shown}: files include each other more than {DEEPEST} deep"));
        }
        if is_writable_by_all(path) {
            return Err(format!("{shown}: everybody may write to it: run chmod o-w"));
        }
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
        let mut group = None;
        for (line, number) in text.lines().map(str::trim).zip(1..) {
            let place = |why: String| format!("{shown}, line {number}: {why}");
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            match line.strip_prefix('!') {
                Some(directive) => self.include(directive, path, depth, place)?,
                None => self.line(line, &mut group).map_err(place)?,
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str, group: &mut Option<String>) -> Result<(), String> {
        if let Some(rest) = line.strip_prefix('[') {
            let (name, _) = rest.split_once(']').ok_or("a group without ]")?;
            *group = Some(name.trim().to_owned());
            return Ok(());
        }
        let name = group.as_deref().ok_or("an option before any [group]")?;
        if !GROUPS.contains(&name) {
            return Ok(());
        }
        let line = without_comment(line);
        match line.split_once('=') {
            Some((name, value)) => self.option(name.trim(), Some(unescaped(unquoted(value.trim())))),
            None => self.option(line.trim(), None),
        }
    }

    /// `place` adds where the directive stands; what is wrong in an included file says so itself.
    fn include(
        &mut self,
        directive: &str,
        path: &Path,
        depth: usize,
        place: impl Fn(String) -> String,
    ) -> Result<(), String> {
        let base = path.parent().unwrap_or(Path::new(""));
        // The longer word first: it begins with the other one.
        if let Some(folder) = directive.strip_prefix("includedir") {
            let folder = base.join(folder.trim());
            let listed = std::fs::read_dir(&folder)
                .map_err(|e| place(format!("cannot read the directory {}: {e}", folder.display())))?;
            let mut files: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.retain(|file| file.extension().is_some_and(|e| e == "cnf"));
            files.sort();
            return files.iter().try_for_each(|file| self.read_into(file, depth + 1));
        }
        match directive.strip_prefix("include") {
            Some(file) => self.read_into(&base.join(file.trim()), depth + 1),
            None => Err(place(format!("unknown directive !{directive}"))),
        }
    }

    fn option(&mut self, name: &str, value: Option<String>) -> Result<(), String> {
        let name = name.replace('_', "-").to_lowercase();
        let name = name.strip_prefix("loose-").unwrap_or(&name);
        let needed = || value.clone().ok_or_else(|| format!("{name} has no value"));
        let on = value.as_deref().is_none_or(|v| !["0", "off", "false"].contains(&v.to_lowercase().as_str()));
        match name {
            "user" => self.user = Some(needed()?),
            "password" => self.password = Some(needed()?),
            "host" => self.host = Some(needed()?),
            "port" => self.port = Some(needed()?.parse().map_err(|_| "the port is no number")?),
            "socket" => self.socket = Some(needed()?),
            "database" => self.database = Some(needed()?),
            "ssl-mode" => self.mode = Some(needed()?.parse()?),
            "ssl-ca" => self.ca = Some(needed()?),
            "ssl-cert" => self.cert = Some(needed()?),
            "ssl-key" => self.key = Some(needed()?),
            // MariaDB's words for the modes.
            "ssl" if on => self.mode = self.mode.max(Some(TlsMode::Required)),
            "ssl" | "skip-ssl" | "disable-ssl" => self.mode = Some(TlsMode::Disabled),
            "ssl-verify-server-cert" if on => self.mode = Some(TlsMode::VerifyIdentity),
            "ssl-verify-server-cert" | "skip-ssl-verify-server-cert" => {}
            // To pass over what restricts whom to trust would be to trust more.
            other if other.starts_with("ssl-") || other.starts_with("tls-") => {
                return Err(format!("{other} is not supported: remove it, or use a file of its own"));
            }
            // Character sets, prompts and the like say nothing about the way to the server.
            _ => {}
        }
        Ok(())
    }
}

/// The servers' own clients pass over such a file with a warning.
fn is_writable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o002 != 0)
}

/// Cuts a comment off: from a `#` outside of quotes.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (at, letter) in line.char_indices() {
        if (letter == '\'' || letter == '"') && !escaped {
            quote = match quote {
                None => Some(letter),
                Some(open) if open == letter => None,
                other => other,
            };
        }
        if letter == '#' && quote.is_none() {
            return &line[..at];
        }
        escaped = quote.is_some() && letter == '\\' && !escaped;
    }
    line
}

fn unquoted(value: &str) -> &str {
    for quote in ['\'', '"'] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}

fn unescaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('b') => out.push('\u{8}'),
            Some('s') => out.push(' '),
            Some(same @ ('\\' | '\'' | '"')) => out.push(same),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<OptionFile, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.cnf");
        std::fs::write(&path, text).unwrap();
        OptionFile::read(&path)
    }

    #[test]
    fn the_client_group_counts() {
        let file = parse(
            "# comment\n; another\n[mysqld]\nport=1\n\n[client]\n user = reader  # who\npassword=\"s # x\\\"y\\s\" # z\n\
             port=3307\nhost = db1\nssl_mode=verify_ca\nssl-ca = 'a b.pem'\nno-beep\nloose-socket=s\\qk\n[mysql]\nuser=other\n",
        );
        let wanted = OptionFile {
            user: Some("reader".into()),
            password: Some("s # x\"y ".into()),
            host: Some("db1".into()),
            port: Some(3307),
            socket: Some("s\\qk".into()),
            mode: Some(TlsMode::VerifyCa),
            ca: Some("a b.pem".into()),
            ..OptionFile::default()
        };
        assert!(file.unwrap() == wanted);
    }

    #[test]
    fn later_words_win_and_groups_may_come_again() {
        let file = parse("[client]\nuser=a\nssl\n[x]\nuser=b\n[client-server]\nuser=c\n").unwrap();
        assert_eq!((file.user.as_deref(), file.mode), (Some("c"), Some(TlsMode::Required)));
        assert_eq!(parse("[client]\nssl=1\nskip-ssl\n").unwrap().mode, Some(TlsMode::Disabled));
    }

    #[test]
    fn errors_name_the_line_and_no_value() {
        for (text, words) in [
            ("user=a\n", ["line 1", "before any [group]"]),
            ("[client\n", ["line 1", "without ]"]),
            ("[client]\npassword\n", ["line 2", "password has no value"]),
            ("[client]\nport=s3cret\n", ["line 2", "port is no number"]),
            ("[client]\nssl-crl=x\n", ["line 2", "ssl-crl is not supported"]),
            ("!exclude x\n", ["line 1", "unknown directive"]),
            ("!include nosuch.cnf\n", ["cannot read", "nosuch.cnf"]),
            ("!include my.cnf\n", ["include each other", "10 deep"]),
        ] {
            let error = parse(text).map(|_| ()).unwrap_err();
            assert!(words.iter().all(|w| error.contains(w)) && !error.contains("s3cret"), "{error}");
        }
        assert!(OptionFile::read(Path::new("no/such.cnf")).map(|_| ()).unwrap_err().contains("no/such.cnf"));
    }

    #[test]
    fn files_include_files_and_directories() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        write("my.cnf", "[client]\nuser=a\nhost=h\n!include one.cnf\n!includedir d\n[client]\nport=7\n");
        write("one.cnf", "[client]\nuser=b\n");
        write("d/2.cnf", "[client]\npassword=second\n");
        write("d/1.cnf", "[client]\npassword=first\n");
        write("d/3.txt", "[client]\npassword=third\n");
        let path = folder.path().join("my.cnf");
        let file = OptionFile::read(&path).unwrap();
        let texts = (file.user.as_deref(), file.password.as_deref(), file.host.as_deref(), file.port);
        assert_eq!(texts, (Some("b"), Some("second"), Some("h"), Some(7)));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(OptionFile::read(&path).map(|_| ()).unwrap_err().contains("chmod o-w"));
    }
}
