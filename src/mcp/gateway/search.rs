//! Finds tools by words, where a gateway has too many to list them.
//!
//! Words are compared in lower case and without a plural `s`. A tool counts for each word of the query that its name, title, server
//! or description has; words that few tools have count more, and a word in a name counts more than one in a description. (Such
//! sums are known as BM25; the saturation of repeated words is the same.)

use serde::Deserialize;

use super::items::ListItem;

/// How often a word counts that stands in a name, a title, the name of the server, and a description.
const NAME: f32 = 4.0;
const TITLE: f32 = 3.0;
const SERVER: f32 = 2.0;
const DESCRIPTION: f32 = 1.0;
/// A word of the query that begins a word of the tool counts this much of it.
const BEGINS: f32 = 0.5;
/// How fast repetitions stop to matter.
const SATURATION: f32 = 1.2;
/// How many words of one tool, and of one query, are looked at.
const WORDS: usize = 400;

/// Words that say nothing about a tool.
const EMPTY_WORDS: [&str; 20] = [
    "a", "an", "and", "are", "as", "by", "for", "from", "in", "is", "it", "of", "on", "or", "that", "the", "to", "was",
    "what", "with",
];

/// The words of a tool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolText {
    /// Sorted, each word once, with its weight.
    words: Vec<(String, f32)>,
}

/// What a list says about a tool, as far as people read it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Described {
    title: Option<String>,
    description: Option<String>,
}

impl ToolText {
    /// The words of `tool`, which the server called `server` has.
    pub fn new(server: &str, tool: &ListItem) -> Self {
        let described: Described = serde_json::from_str(tool.json()).unwrap_or_default();
        let parts = [
            (tool.name.as_str(), NAME),
            (described.title.as_deref().unwrap_or_default(), TITLE),
            (server, SERVER),
            (described.description.as_deref().unwrap_or_default(), DESCRIPTION),
        ];
        let mut words: Vec<(String, f32)> = Vec::new();
        for (text, weight) in parts {
            for word in words_of(text) {
                match words.iter().position(|(known, _)| *known == word) {
                    Some(at) => words[at].1 += weight,
                    None if words.len() < WORDS => words.push((word, weight)),
                    None => {}
                }
            }
        }
        words.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self { words }
    }

    /// How much the tool has of `word`.
    fn weight(&self, word: &str) -> f32 {
        let from = self.words.partition_point(|(known, _)| known.as_str() < word);
        let mut weight: f32 = 0.0;
        for (known, own) in self.words[from..].iter().take_while(|(known, _)| known.starts_with(word)) {
            weight = weight.max(if known == word { *own } else { own * BEGINS });
        }
        weight
    }
}

/// The words of a text: runs of letters and digits, divided also where a capital letter follows a small one.
fn words_of(text: &str) -> impl Iterator<Item = String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut last_is_small = false;
    for char in text.chars().chain([' ']) {
        let ends = !char.is_alphanumeric() || (last_is_small && char.is_uppercase());
        if ends && !word.is_empty() {
            let plural = word.len() > 3 && word.ends_with('s') && !word.ends_with("ss");
            if plural {
                word.pop();
            }
            words.push(std::mem::take(&mut word));
            if words.len() == WORDS {
                break;
            }
        }
        if char.is_alphanumeric() {
            word.extend(char.to_lowercase());
        }
        last_is_small = char.is_lowercase() || char.is_ascii_digit();
    }
    words.into_iter()
}

/// The positions of the tools that fit `query` best, the best first, at most `most`. Among equals the earlier one comes first.
pub fn best_tools(query: &str, tools: &[&ToolText], most: usize) -> Vec<usize> {
    let mut asked: Vec<String> = words_of(query).filter(|word| !EMPTY_WORDS.contains(&word.as_str())).collect();
    asked.sort();
    asked.dedup();
    let mut scores = vec![0.0_f32; tools.len()];
    for word in &asked {
        let weights: Vec<f32> = tools.iter().map(|tool| tool.weight(word)).collect();
        let with_it = weights.iter().filter(|weight| **weight > 0.0).count() as f32;
        let rarity = (1.0 + (tools.len() as f32 - with_it + 0.5) / (with_it + 0.5)).ln();
        for (score, weight) in scores.iter_mut().zip(weights) {
            *score += rarity * weight * (SATURATION + 1.0) / (weight + SATURATION);
        }
    }
    let mut found: Vec<usize> = (0..tools.len()).filter(|index| scores[*index] > 0.0).collect();
    found.sort_by(|one, other| scores[*other].total_cmp(&scores[*one]).then(one.cmp(other)));
    found.truncate(most);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::gateway::items::ListPage;
    use crate::mcp::list::ListKind;

    fn found(query: &str) -> Vec<String> {
        let tools = r#"{"tools":[
            {"name":"get_stock_aggregates","description":"Daily prices of a share."},
            {"name":"placeOrder","title":"Order shares","description":"Buys or sells."},
            {"name":"get_time","description":"The current time in a city. Prices are not shown."},
            {"name":"cancel_order","description":"Cancels an order that was placed."}
        ]}"#;
        let page = ListPage::read(tools, ListKind::Tools).expect("a list");
        let texts: Vec<ToolText> = page.items.iter().map(|item| ToolText::new("fininfo", item)).collect();
        let best = best_tools(query, &texts.iter().collect::<Vec<_>>(), 3);
        best.into_iter().map(|index| page.items[index].name.clone()).collect()
    }

    #[test]
    fn tools_are_found_by_the_words_of_their_names_titles_and_descriptions() {
        for (query, best) in [
            ("stock prices", "get_stock_aggregates"),
            ("what time is it", "get_time"),
            ("place an order", "placeOrder"),
            ("cancel orders", "cancel_order"),
            ("STOCKS", "get_stock_aggregates"),
            ("agg", "get_stock_aggregates"),
        ] {
            assert_eq!(found(query).first().map(String::as_str), Some(best), "{query}");
        }
        assert_eq!(found("order"), ["placeOrder", "cancel_order"], "a word in name and title counts most");
        assert!(found("").is_empty() && found("weather forecast").is_empty());
        assert_eq!(found("fininfo").len(), 3, "at most three");
    }
}
