//! Moves the clocks of an edge that is a process of its own.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// The clocks of one process, or of several.
pub struct Clock {
    folder: TempDir,
}

impl Clock {
    /// Clocks that are right, until they are moved. A C compiler must be there; the build of the edge needs one too.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let clock = Self { folder };
        clock.set(0, 0);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/edge/harness/clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(clock.library()).arg(source);
        assert!(compiler.status().expect("there is a C compiler").success());
        clock
    }

    /// What a process must be started with.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library()), ("CLOCK_FILE", self.file())]
    }

    /// The wall clock is `wall` seconds ahead of the right one, and the monotonic one `monotonic`.
    pub fn set(&self, wall: i64, monotonic: i64) {
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(self.file());
        let bytes = [wall.to_ne_bytes(), monotonic.to_ne_bytes()].concat();
        file.and_then(|file| file.write_all_at(&bytes, 0)).expect("the folder is writable");
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("clock.so")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }
}
