//! Moves the clocks of an edge that runs as a separate process.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// The clocks of one or several processes.
pub struct Clock {
    folder: TempDir,
}

impl Clock {
    /// The clocks are correct until [`Clock::set`] moves them. This needs a C compiler, which the build of the edge
    /// needs as well.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let clock = Self { folder };
        clock.set(0, 0);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/edge/harness/clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(clock.library()).arg(source);
        assert!(compiler.status().expect("a C compiler is installed").success());
        clock
    }

    /// The environment variables that a process must be started with.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library()), ("CLOCK_FILE", self.file())]
    }

    /// Sets the wall clock `wall` seconds ahead of the correct time, and the monotonic clock `monotonic` seconds ahead.
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
