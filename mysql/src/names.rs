//! Names of tables and columns in lists that people write: `a,b=c`. A name that has one of the signs between names in it
//! stands in backquotes, as in SQL.

use crate::quote;

/// The parts of a text between separators; none is seen within backquotes.
pub fn split(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c| {
        quoted ^= c == '`';
        c == separator && !quoted
    })
    .map(str::trim)
    .collect()
}

/// A name as it is meant: without the backquotes around it. `None`: it is empty, or a backquote is left open.
pub fn plain(text: &str) -> Option<String> {
    let name = match text.strip_prefix('`') {
        // Both must be there, and every one between them doubled.
        Some(rest) => {
            let name = rest.strip_suffix('`')?.replace("``", "\0");
            if name.contains('`') {
                return None;
            }
            name.replace('\0', "`")
        }
        None => text.to_owned(),
    };
    (!name.is_empty()).then_some(name)
}

/// A name as these lists have it: in backquotes only where it could be read otherwise.
pub fn spelled(name: &str) -> String {
    let unclear = name.contains([',', '=', '`']) || name.trim() != name;
    if unclear { quote::ident(name) } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn signs_in_backquotes_separate_nothing() {
        assert_eq!(split("a, b=c,`d,e`=`f``,`", ','), ["a", "b=c", "`d,e`=`f``,`"]);
        assert_eq!(split("`a=`=b", '='), ["`a=`", "b"]);
        assert_eq!(plain("`f``,`").as_deref(), Some("f`,"));
        assert_eq!(plain("a.b").as_deref(), Some("a.b"));
        for open in ["", "`", "``", "`a", "`a`b`"] {
            assert_eq!(plain(open), None, "{open}");
        }
    }

    proptest! {
        #[test]
        fn what_is_spelled_is_read_back(names in prop::collection::vec("[ a,=`.'é]{1,6}", 1..5)) {
            let list = names.iter().map(|name| spelled(name)).collect::<Vec<_>>().join(",");
            let read: Vec<_> = split(&list, ',').into_iter().map(plain).collect();
            prop_assert_eq!(read, names.into_iter().map(Some).collect::<Vec<_>>());
        }
    }
}
