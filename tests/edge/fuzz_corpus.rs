//! Replays the corpus of the fuzz targets (tests/fuzz) on the stable toolchain.

use std::path::{Path, PathBuf};

#[path = "../fuzz/requests.rs"]
mod requests;
#[path = "../fuzz/targets.rs"]
mod targets;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz");

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder exists");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("the entry can be read").path()).collect();
    files.sort();
    files
}

/// Calls `target` with every file of the corpus `name`, and with every `step`th of the shorter and changed inputs.
fn replay(name: &str, step: usize, target: fn(&[u8])) {
    let files = files(&Path::new(FUZZ).join("corpus").join(name));
    assert!(files.len() >= 10, "the corpus of {name} has fewer than 10 files");
    for file in files {
        let data = std::fs::read(&file).expect("the file can be read");
        // If the test fails, this shows which file caused it.
        eprintln!("{}", file.display());
        target(&data);
        // A fuzzer would try these first: the input cut off before a byte, and the input with that byte changed. Only
        // the first 512 bytes are used.
        for end in (0..data.len().min(512)).step_by(step) {
            target(&data[..end]);
            let mut changed = data.clone();
            changed[end] ^= 0x20;
            target(&changed);
        }
    }
}

#[test]
fn bearer() {
    replay("bearer", 1, targets::bearer);
}

#[test]
fn message() {
    replay("message", 1, targets::message);
}

#[test]
fn path() {
    replay("path", 1, targets::path);
}

#[test]
fn request() {
    replay("request", 4, requests::request);
}

#[test]
fn config() {
    replay("config", 8, targets::config);
}

/// The example configurations and the test fixtures serve as a corpus, too.
#[test]
fn example_and_fixture_configurations() {
    for folder in ["../../conf", "../fixtures/config/good", "../fixtures/config/bad"] {
        for file in files(&Path::new(FUZZ).join(folder)) {
            if file.extension().is_some_and(|extension| extension == "yaml") {
                targets::check_config(&file);
            }
        }
    }
}
