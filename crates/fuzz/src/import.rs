use std::{
    fs,
    path::{Path, PathBuf},
};

use clawgate_gateway::{ImportError, ImportOptions, ImportReport};

/// Files of a state directory, each behind a line `=== NAME`: everything in them comes or is named
/// with the reason why not, a dry run writes nothing and tells what then comes, and running it again
/// brings nothing twice. The configuration is left out, because it can name files of this machine.
///
/// # Panics
/// When one of these does not hold, or the database refuses what was decided.
pub fn import(data: &[u8]) {
    let home = tempfile::tempdir().expect("a directory for the files");
    let source = home.path().join("source");
    for (place, bytes) in files(data) {
        let path = source.join(place);
        fs::create_dir_all(path.parent().expect("a place has a directory"))
            .and_then(|()| fs::write(&path, bytes))
            .expect("the files can be written");
    }
    let state_dir = home.path().join("state");
    let run = |dry_run| {
        told(clawgate_gateway::import(&ImportOptions {
            source: source.clone(),
            config_path: state_dir.join("clawgate.json"),
            state_dir: state_dir.clone(),
            dry_run,
        }))
    };
    let Some(dry) = run(true) else { return };
    assert!(!state_dir.exists(), "a dry run writes");
    if taken(&dry) == 0 {
        return;
    }
    let done = run(false).expect("it was read before");
    assert_eq!(counts(&done), counts(&dry), "otherwise than the dry run");
    let again = run(false).expect("it was read before");
    assert_eq!(taken(&again), 0, "twice: {:?}", again.kinds);
}

/// The files that are in an input, by their places in a state directory.
fn files(data: &[u8]) -> Vec<(PathBuf, &[u8])> {
    let mut files = Vec::new();
    let mut rest = data.strip_prefix(b"=== ");
    while let Some(file) = rest {
        let end = file.windows(5).position(|bytes| bytes == b"\n=== ");
        let (this, more) = match end {
            Some(end) => (&file[..end], Some(&file[end + 5..])),
            None => (file, None),
        };
        rest = more;
        let line = this.iter().position(|byte| *byte == b'\n');
        let (name, bytes) =
            line.map_or((this, &b""[..]), |line| (&this[..line], &this[line + 1..]));
        if let Some(place) = std::str::from_utf8(name).ok().and_then(place) {
            files.push((place, bytes));
        }
    }
    files
}

/// Where a file of that name belongs.
fn place(name: &str) -> Option<PathBuf> {
    let plain = |name: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        (1..=64).contains(&name.len()) && name.chars().all(good)
    };
    let place = match name {
        "jobs.json" => "cron/jobs.json".to_owned(),
        "paired.json" => "devices/paired.json".to_owned(),
        "device.json" => "identity/device.json".to_owned(),
        "sessions.json" => "agents/main/sessions/sessions.json".to_owned(),
        other => {
            let (kind, name) = other.split_once('/')?;
            if !plain(name) {
                return None;
            }
            match kind {
                "runs" => format!("cron/runs/{name}.jsonl"),
                "transcript" => format!("agents/main/sessions/{name}.jsonl"),
                _ => return None,
            }
        }
    };
    Some(Path::new(&place).to_owned())
}

/// The report, if the files can be read.
fn told(outcome: Result<ImportReport, ImportError>) -> Option<ImportReport> {
    let report = match outcome {
        Ok(report) => report,
        Err(
            ImportError::NoSource { .. }
            | ImportError::NothingThere { .. }
            | ImportError::Unreadable { .. },
        ) => return None,
        Err(error) => panic!("what was read cannot be brought: {error}"),
    };
    for tally in &report.kinds {
        assert_eq!(tally.read, tally.taken + tally.skipped, "{tally:?}");
    }
    Some(report)
}

fn counts(report: &ImportReport) -> Vec<(&'static str, usize, usize)> {
    let counts = report.kinds.iter();
    counts
        .map(|tally| (tally.kind, tally.read, tally.taken))
        .collect()
}

/// Rows that come. The key is a file: once it is there it is another one's.
fn taken(report: &ImportReport) -> usize {
    let rows = report.kinds.iter().filter(|tally| tally.kind != "keys");
    rows.map(|tally| tally.taken).sum()
}
