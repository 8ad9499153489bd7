//! A disk that fails and a clock that jumps, under a real gateway: `fixtures/faults.c` in front of its
//! C library, told by a file what to do.

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use clawgate_testkit::Home;
use tempfile::TempDir;

/// No byte can be written.
pub(crate) const FULL: i64 = 1;
/// No sync succeeds.
pub(crate) const NO_SYNC: i64 = 2;
/// Nothing can be written, made, moved or removed.
pub(crate) const READ_ONLY: i64 = 4;

/// Where the library lies, built once for all tests of a file.
fn library() -> &'static Path {
    static BUILT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    &BUILT
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let at = dir.path().join("faults.so");
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/faults.c");
            let built = Command::new("cc")
                .args(["-O1", "-Wall", "-shared", "-fPIC", "-o"])
                .args([&at, &source])
                .arg("-ldl")
                .status()
                .expect("a C compiler, which the database needs too");
            assert!(built.success());
            (dir, at)
        })
        .1
}

/// What is wrong with the disk and the clock of one gateway, at first nothing.
pub(crate) struct Faults {
    dir: TempDir,
    control: File,
}

impl Faults {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let control = File::create(dir.path().join("control")).unwrap();
        control.set_len(16).unwrap();
        Self { dir, control }
    }

    /// Puts them under a gateway's home: its state directory and its configuration.
    pub(crate) fn under(&self, home: Home) -> Home {
        let below = home.config().parent().unwrap().display().to_string();
        let control = self.dir.path().join("control").display().to_string();
        home.env("LD_PRELOAD", &library().display().to_string())
            .env("FAULTS", &control)
            .env("FAULTS_BELOW", &below)
    }

    fn put(&mut self, at: u64, number: i64) {
        self.control.seek(SeekFrom::Start(at)).unwrap();
        self.control.write_all(&number.to_ne_bytes()).unwrap();
    }

    /// From now on this fails; 0 for nothing.
    pub(crate) fn disk(&mut self, what: i64) {
        self.put(8, what);
    }

    /// The clock stands so many seconds after the true time.
    pub(crate) fn clock(&mut self, seconds: i64) {
        self.put(0, seconds);
    }
}

/// The bytes of a file.
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}
