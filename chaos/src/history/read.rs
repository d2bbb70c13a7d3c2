//! Reading a history back.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::Entry;
use crate::error::Error;

/// Opens a history file.
pub fn read(path: &Path) -> Result<Reader, Error> {
    let file = File::open(path).map_err(Error::io("opening", path))?;
    Ok(Reader { lines: BufReader::new(file), path: path.display().to_string(), line: 0, torn: None })
}

/// Reads entry after entry. A last line that a killed writer left unfinished ends the reading without an error;
/// [`Reader::torn`] tells of it. Any other line that is not an entry is an error.
#[derive(Debug)]
pub struct Reader {
    lines: BufReader<File>,
    path: String,
    line: u64,
    torn: Option<u64>,
}

impl Reader {
    /// The number of the unfinished last line, once it was reached.
    pub fn torn(&self) -> Option<u64> {
        self.torn
    }

    fn next_line(&mut self) -> std::io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.lines.read_until(b'\n', &mut line)?;
        self.line += 1;
        Ok(line)
    }
}

impl Iterator for Reader {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let bad = |reader: &Self, why: String| {
            Some(Err(Error::HistoryLine { path: reader.path.clone(), line: reader.line, why }))
        };
        let line = match self.next_line() {
            Ok(line) if line.is_empty() => return None,
            Ok(line) => line,
            Err(e) => return bad(self, e.to_string()),
        };
        match serde_json::from_slice(&line) {
            Ok(entry) => Some(Ok(entry)),
            Err(_) if line.last() != Some(&b'\n') => {
                tracing::warn!("{}:{}: the last line is unfinished and was left out", self.path, self.line);
                self.torn = Some(self.line);
                None
            }
            Err(e) => bad(self, e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "{\"at_us\":1,\"event\":\"note\",\"text\":\"a\"}\n";

    fn over(text: &str) -> (Vec<Result<Entry, Error>>, Option<u64>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut reader = read(file.path()).unwrap();
        let entries = reader.by_ref().collect();
        (entries, reader.torn())
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_said() {
        let (entries, torn) = over(&format!("{GOOD}{GOOD}{}", &GOOD[..20]));
        assert_eq!((entries.len(), torn), (2, Some(3)));
        assert!(entries.iter().all(Result::is_ok));
        assert_eq!(over(GOOD).1, None);
    }

    #[test]
    fn a_bad_line_before_the_end_is_an_error_with_its_number() {
        let (entries, torn) = over(&format!("{GOOD}nonsense\n{GOOD}"));
        assert_eq!((entries.len(), torn), (3, None));
        let error = entries[1].as_ref().unwrap_err().to_string();
        assert!(error.contains(":2:"), "{error}");
    }
}
