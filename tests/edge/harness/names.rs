//! Changes what names stand for, in an edge that is a process of its own.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// What all names below `.test` stand for in one process.
pub struct Names {
    folder: TempDir,
}

impl Names {
    /// A C compiler must be there; the build of the edge needs one too.
    pub fn new(addresses: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let names = Self { folder };
        names.set(addresses);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/edge/harness/names.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(names.library()).arg(source).arg("-ldl");
        assert!(compiler.status().expect("there is a C compiler").success());
        names
    }

    /// What a process must be started with.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library()), ("NAMES_FILE", self.file())]
    }

    /// Addresses, separated by spaces, in the order in which they are to be tried.
    pub fn set(&self, addresses: &str) {
        let beside = self.folder.path().join("names.tmp");
        // Renamed into place, so that nobody reads half of it.
        let written = std::fs::write(&beside, addresses).and_then(|()| std::fs::rename(&beside, self.file()));
        written.expect("the folder is writable");
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("names.so")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("names")
    }
}
