//! Small forms of speech that several texts share.

/// `1 table`, `2 tables`.
pub fn counted(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}
