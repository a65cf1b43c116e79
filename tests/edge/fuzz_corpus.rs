//! The corpus of the fuzz targets (tests/fuzz), replayed on the stable toolchain.

use std::path::{Path, PathBuf};

#[path = "../fuzz/targets.rs"]
mod targets;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz");

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    files.sort();
    files
}

/// Also shorter and changed inputs, of which every `step`th is tried.
fn replay(name: &str, step: usize, target: fn(&[u8])) {
    let files = files(&Path::new(FUZZ).join("corpus").join(name));
    assert!(files.len() >= 10, "the corpus of {name} is gone");
    for file in files {
        let data = std::fs::read(&file).expect("it can be read");
        // So that a failure says which file it was.
        eprintln!("{}", file.display());
        target(&data);
        // What a fuzzer would try first: every shorter input, and every byte changed, of small files.
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
fn config() {
    replay("config", 8, targets::config);
}

/// The example configurations and those of the tests are as good a corpus.
#[test]
fn configurations() {
    for folder in ["../../conf", "../fixtures/config/good", "../fixtures/config/bad"] {
        for file in files(&Path::new(FUZZ).join(folder)) {
            if file.extension().is_some_and(|extension| extension == "yaml") {
                targets::check_config(&file);
            }
        }
    }
}
