//! Commands as text that a shell takes as it was meant. Pure.

/// A command on one line, each word quoted if it must be.
pub fn command<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(word).collect::<Vec<_>>().join(" ")
}

/// A word as a shell must see it: quoted unless it is plain.
fn word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(command(["/usr/sbin/mariadbd", "--seed"]), "/usr/sbin/mariadbd --seed");
        let words = ["my plan.toml", "it's", "", "a;b", "$HOME", "é*"];
        let line = command(["printf", "%s\\n"].into_iter().chain(words));
        let echoed = std::process::Command::new("/bin/sh").args(["-c", &line]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&echoed.stdout), words.map(|w| format!("{w}\n")).concat());
    }
}
