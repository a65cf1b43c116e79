use proptest::prelude::*;

use super::super::reference::{self, Event};
use super::*;

type Decide<'a> = &'a mut dyn FnMut(&str, &[u8]) -> Verdict;

/// The output, and whether the stream was passed on to its end.
fn run(mut rewrite: EventRewrite, pieces: &[&[u8]], decide: Decide<'_>) -> (String, bool) {
    let mut out = Vec::new();
    let whole = pieces.iter().all(|piece| rewrite.push(piece, &mut out, decide).is_ok());
    if whole {
        rewrite.finish(&mut out);
    } else {
        let before = out.len();
        rewrite.push(b"data: x\n\n", &mut out, decide).expect_err("every later piece fails too");
        assert_eq!(out.len(), before);
    }
    (String::from_utf8_lossy(&out).into_owned(), whole)
}

fn all(stream: &str, decide: Decide<'_>) -> String {
    run(EventRewrite::new(1_000), &[stream.as_bytes()], decide).0
}

#[test]
fn lines_other_than_data_stay() {
    let shout = &mut |kind: &str, data: &[u8]| Verdict::Replace(format!("{kind}!{}", data.len()).into_bytes());
    for (stream, expected) in [
        ("data: abc\n\n", "data: message!3\n\n"),
        ("data:abc\r\n\r\n", "data: message!3\r\n\r\n"),
        ("data\ndata\rid: 1\r\r", "data: message!1\nid: 1\r\r"),
        (
            "\u{feff}: c\n\nid:7\ndata: a\n: x\ndata:b\nevent: e\nretry\n\n:\n",
            "\u{feff}: c\n\nid:7\ndata: e!3\n: x\nevent: e\nretry\n\n:\n",
        ),
        ("event: e\nevent\ndata: a\n\n", "event: e\nevent\ndata: message!1\n\n"),
        ("id: 1\ndata:\n\nid: 2\n\n", "id: 1\ndata:\n\nid: 2\n\n"),
        ("id: 1\rdata: a\n\n", "id: 1\rdata: message!1\n\n"),
        ("data: a\rid: 1\rdata: a\n\n", "data: message!3\rid: 1\r\n\n"),
        ("data: a\rdata: a\n\n", "data: message!3\r\n\n"),
        ("data: a\n\ndata: b\n: c", "data: message!1\n\n"),
    ] {
        assert_eq!(all(stream, shout), expected, "{stream:?}");
    }
}

#[test]
fn data_in_several_lines() {
    for (data, expected) in [
        ("", "data: \n\n"),
        ("a\nb", "data: a\ndata: b\n\n"),
        ("a\r\n b\r", "data: a\ndata:  b\ndata: \n\n"),
        ("\n", "data: \ndata: \n\n"),
        ("a:b", "data: a:b\n\n"),
    ] {
        let replace = &mut |_: &str, _: &[u8]| Verdict::Replace(data.into());
        assert_eq!(all("data: x\n\n", replace), expected, "{data:?}");
    }
}

#[test]
fn after_a_stop_nothing_is_checked() {
    let mut count = 0;
    let stop = &mut |_: &str, _: &[u8]| {
        count += 1;
        if count == 1 { Verdict::Keep } else { Verdict::ReplaceAndStop(b"last".into()) }
    };
    let pieces: [&[u8]; 3] = [b"data: a\n\ndata: b\r\n\r", b"\nda", b"ta: c"];
    let (out, _) = run(EventRewrite::new(20), &pieces, stop);
    assert_eq!(out, "data: a\n\ndata: last\r\n\r\ndata: c");
    let keep = &mut |_: &str, _: &[u8]| Verdict::KeepAndStop;
    let pieces: [&[u8]; 3] = [b"data: a\n\n", b"data: longer than the limit", b"\n"];
    assert_eq!(
        run(EventRewrite::new(20), &pieces, keep).0,
        pieces.concat().escape_ascii().to_string().replace("\\n", "\n")
    );
}

#[test]
fn long_events_fail_and_long_comments_do_not() {
    let keep = &mut |_: &str, _: &[u8]| Verdict::Keep;
    for (stream, expected, whole) in [
        ("data: 12\n\n", "data: 12\n\n", true),
        ("data: 123\n\n", "", false),
        ("data: 12\n\r\n", "data: 12\n\r\n", true),
        (": a long comment\n\ndata: 1\n\nid:\nid:\nid:\ndata", ": a long comment\n\ndata: 1\n\n", false),
    ] {
        assert_eq!(run(EventRewrite::new(10), &[stream.as_bytes()], keep), (expected.to_owned(), whole), "{stream:?}");
    }
}

#[test]
fn only_the_first_event_of_a_type() {
    let prefix = &mut |kind: &str, data: &[u8]| {
        assert_eq!(kind, "endpoint");
        Verdict::Replace([b"/prefix", data].concat())
    };
    for (stream, expected) in [
        (
            "event: endpoint\ndata: /m\n\nevent: endpoint\ndata: /m\n\n",
            "event: endpoint\ndata: /prefix/m\n\nevent: endpoint\ndata: /m\n\n",
        ),
        (
            ": hi\n\nid: 1\nevent:endpoint\r\ndata:/m\r\n\r\nx",
            ": hi\n\nid: 1\nevent:endpoint\r\ndata: /prefix/m\r\n\r\nx",
        ),
        ("retry: 1\n\nevent: endpoint\ndata: /m\n\n", "retry: 1\n\nevent: endpoint\ndata: /prefix/m\n\n"),
        ("event: endpoint\n\nevent: endpoint\ndata: /m\n\n", "event: endpoint\n\nevent: endpoint\ndata: /prefix/m\n\n"),
        ("event: endpoint\ndata: /m\n", ""),
        ("event: endpoint\nevent: x", ""),
        // These events are not held.
        ("event: endpoint\nevent: x\ndata", "event: endpoint\nevent: x\ndata"),
        ("event: endpointt\n", "event: endpointt\n"),
        ("event: message\ndata: 1", "event: message\ndata: 1"),
        ("event\n", "event\n"),
        ("id: 1\ndata:", "id: 1\ndata:"),
        ("data\n", "data\n"),
        (
            "data:a line that is longer than the limit of forty bytes",
            "data:a line that is longer than the limit of forty bytes",
        ),
        ("data: x\nevent: endpoint\n\n", "data: x\nevent: endpoint\n\n"),
    ] {
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        for pieces in [vec![stream.as_bytes()], bytes] {
            let (out, whole) = run(EventRewrite::only_first("endpoint", 40), &pieces, prefix);
            assert_eq!((out.as_str(), whole), (expected, true), "{stream:?}");
        }
    }
}

/// What is passed on of a stream when all events are kept: everything up to the last complete event or comment.
fn complete(stream: &str) -> String {
    let mut done = 0;
    let mut under_way = false;
    let mark = if stream.starts_with('\u{feff}') { 3 } else { 0 };
    let mut at = mark;
    for line in lines(&stream.as_bytes()[mark..]) {
        at += line.whole.len();
        let is_blank = line.whole == line.ending;
        under_way = !is_blank && (under_way || !line.whole.starts_with(b":"));
        if !under_way || (line.ending.is_empty() && done + line.whole.len() == at && line.whole.starts_with(b":")) {
            done = at;
        }
    }
    stream[..done.max(mark)].to_owned()
}

proptest! {
    #[test]
    fn keeping_changes_nothing(stream in reference::stream(), cuts in reference::cuts()) {
        let mut seen = Vec::new();
        let keep = &mut |kind: &str, data: &[u8]| {
            seen.push(Event { kind: kind.into(), data: String::from_utf8_lossy(data).into_owned() });
            Verdict::Keep
        };
        let (out, _) = run(EventRewrite::new(10_000), &reference::pieces(stream.as_bytes(), &cuts), keep);
        prop_assert_eq!(out, complete(&stream));
        let expected: Vec<Event> = reference::events(&stream).into_iter().filter(|event| !event.data.is_empty()).collect();
        prop_assert_eq!(seen, expected);
    }

    /// Clients read the same events, but with the new data.
    #[test]
    fn replacing_changes_only_data(stream in reference::stream(), cuts in reference::cuts(), new in "[a-z\n]{0,8}") {
        let replace = &mut |_: &str, _: &[u8]| Verdict::Replace(new.clone().into_bytes());
        let (out, _) = run(EventRewrite::new(10_000), &reference::pieces(stream.as_bytes(), &cuts), replace);
        let expected: Vec<Event> = reference::events(&stream).into_iter().map(|event| {
            if event.data.is_empty() { event } else { Event { data: new.clone(), ..event } }
        }).collect();
        prop_assert_eq!(reference::events(&out), expected);
    }

    #[test]
    fn pieces_make_no_difference(
        stream in reference::stream(),
        cuts in reference::cuts(),
        limit in 1..40_usize,
        only in any::<bool>(),
        stop in any::<bool>(),
    ) {
        let new = || if only { EventRewrite::only_first("endpoint", limit) } else { EventRewrite::new(limit) };
        let decide = |_: &str, data: &[u8]| match data.len() {
            1 if stop => Verdict::ReplaceAndStop(b"new".into()),
            length if length % 2 == 0 => Verdict::Replace(b"new".into()),
            _ => Verdict::Keep,
        };
        let whole = run(new(), &[stream.as_bytes()], &mut decide.clone());
        prop_assert_eq!(run(new(), &reference::pieces(stream.as_bytes(), &cuts), &mut decide.clone()), whole);
    }

    #[test]
    fn any_bytes_are_accepted(bytes in proptest::collection::vec(any::<u8>(), 0..80), cuts in reference::cuts()) {
        let decide = &mut |_: &str, _: &[u8]| Verdict::Replace(b"new".into());
        let whole = run(EventRewrite::new(60), &[&bytes], decide);
        prop_assert_eq!(run(EventRewrite::new(60), &reference::pieces(&bytes, &cuts), decide), whole);
    }
}

#[test]
fn ids_of_events_are_marked() {
    let mut rewrite = EventRewrite::new(1_000).with_id_mark("m-");
    let mut out = Vec::new();
    let stream = b": id: 0\n\nid: 1\ndata: {\"id\":7}\n\nid:2\r\ndata:\r\nretry: 5\r\n\r\nid\n\ndata: x\n\n";
    for byte in stream {
        rewrite.push(&[*byte], &mut out, &mut |_, _| Verdict::Keep).expect("it is short");
    }
    let expected = ": id: 0\n\nid: m-1\ndata: {\"id\":7}\n\nid: m-2\r\ndata:\r\nretry: 5\r\n\r\nid\n\ndata: x\n\n";
    assert_eq!(String::from_utf8_lossy(&out), expected);
}
