//! Finds the word that a misspelt word was probably meant to be.

/// Returns the name in `names` that is most similar to the misspelt word `wrong`, if any is similar enough.
pub(crate) fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong: Vec<char> = wrong.chars().take(65).collect();
    let most = (wrong.len() / 3).clamp(1, 3);
    names
        .filter(|name| !wrong.is_empty() && name.len().abs_diff(wrong.len()) <= most && name.len() <= 64)
        .map(|name| (distance(&wrong, &name.chars().collect::<Vec<_>>()), name))
        .filter(|(distance, name)| *distance <= most && *distance < name.len())
        .min()
        .map(|(_, name)| name)
}

/// How many single changes turn `a` into `b`: a character is replaced, added or removed, or two neighbours are swapped.
/// Replacing a letter by the same letter in the other case costs nothing.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(!a[i].eq_ignore_ascii_case(&b[j]));
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Joins words, each in backticks: with `conjunction` "or", the result is "`a`, `b` or `c`".
pub(crate) fn listing(words: &[&str], conjunction: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} {conjunction} {last}", others.join(", ")),
    }
}

/// A hint for the name `wrong`, which is not defined: the most similar one of `names`, or else a list of `names`.
pub(crate) fn instead<'a>(wrong: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(wrong, names.clone()) {
        return format!("did you mean `{near}`?");
    }
    let mut some: Vec<&str> = names.take(9).collect();
    some.sort_unstable();
    match some.len() {
        0 => "none is defined".to_owned(),
        9 => format!("defined: `{}` and more", some[..8].join("`, `")),
        _ => format!("defined: {}", listing(&some, "and")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings() {
        let keys = ["tcp", "http", "interval", "timeout", "providers", "weight"];
        let near = |wrong| nearest(wrong, keys.iter().copied());
        assert_eq!(near("tpc"), Some("tcp"));
        assert_eq!(near("intervall"), Some("interval"));
        assert_eq!(near("provider"), Some("providers"));
        assert_eq!(near("wieght"), Some("weight"));
        assert_eq!(near("Timeout"), Some("timeout"));
        for wrong in ["", "x", "strip_prefix", "udp4"] {
            assert_eq!(near(wrong), None, "{wrong}");
        }
    }
}
