//! Changes how DNS names resolve, in an edge that runs as a separate process.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// The addresses to which all names below `.test` resolve in one process.
pub struct Names {
    folder: TempDir,
}

impl Names {
    /// This needs a C compiler, which the build of the edge needs as well.
    pub fn new(addresses: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let names = Self { folder };
        names.set(addresses);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/edge/harness/names.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(names.library()).arg(source).arg("-ldl");
        assert!(compiler.status().expect("a C compiler is installed").success());
        names
    }

    /// The environment variables that a process must be started with.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library()), ("NAMES_FILE", self.file())]
    }

    /// Sets the addresses, separated by spaces, in the order in which the edge should try them.
    pub fn set(&self, addresses: &str) {
        let beside = self.folder.path().join("names.tmp");
        // Rename the file into place, so that the process never reads an incomplete file.
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
