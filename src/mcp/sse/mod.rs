//! Event streams (WHATWG HTML section 9.2, "Server-sent events"), read while they pass through the edge.

mod lines;
mod rewrite;
mod scan;

pub use rewrite::{EventRewrite, EventTooLong, Verdict};
pub use scan::EventScan;

#[cfg(test)]
mod reference {
    //! A simple reader of whole streams. The incremental readers are compared with it.

    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Event {
        pub kind: String,
        pub data: String,
    }

    /// The events that a client reads from the stream.
    pub fn events(stream: &str) -> Vec<Event> {
        let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream).replace("\r\n", "\n").replace('\r', "\n");
        let mut events = Vec::new();
        let (mut kind, mut data) = (String::new(), None::<String>);
        let lines: Vec<&str> = stream.split('\n').collect();
        for line in &lines[..lines.len() - 1] {
            if line.is_empty() {
                let kind = std::mem::take(&mut kind);
                let kind = if kind.is_empty() { "message".to_owned() } else { kind };
                events.extend(data.take().map(|data| Event { kind, data }));
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "event" => kind = value.to_owned(),
                "data" => data = Some(data.map_or(value.to_owned(), |data| data + "\n" + value)),
                _ => {}
            }
        }
        events
    }

    /// Streams with everything that a stream may contain, and with some invalid content.
    pub fn stream() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            6 => Just(String::new()),
            2 => "data: ?[a-c:]{0,3}",
            2 => Just(r#"data: {"result":{}}"#.to_owned()),
            1 => "event: ?(endpoint|message|x)?",
            1 => "(id|retry|da|dataa|data|event|eventt| data): ?[0-9]{0,2}",
            1 => "(id|retry|da|dataa|data|event|eventt|\u{feff})",
            1 => ":[a-c ]{0,4}",
        ];
        let ending = prop_oneof![4 => Just("\n"), 4 => Just("\r\n"), 1 => Just("\r")];
        let one = prop_oneof![Just(Some("\n")), Just(Some("\r\n")), Just(Some("\r")), Just(None)];
        let lines = proptest::collection::vec((line, ending), 0..16);
        (prop_oneof![4 => Just(""), 1 => Just("\u{feff}")], lines, one).prop_map(|(mark, lines, one)| {
            lines.into_iter().fold(mark.to_owned(), |stream, (line, ending)| stream + &line + one.unwrap_or(ending))
        })
    }

    /// `bytes`, divided into pieces at `cuts`.
    pub fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        cuts.windows(2).map(|piece| &bytes[piece[0]..piece[1]]).collect()
    }

    pub fn cuts() -> impl Strategy<Value = Vec<usize>> {
        prop_oneof![proptest::collection::vec(any::<usize>(), 0..6), Just((0..1_000).collect())]
    }
}
