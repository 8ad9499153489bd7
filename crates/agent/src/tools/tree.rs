//! A program with everything that it started, and the end of all of it.
//!
//! The group is ended first; then, on Linux, whatever carries the program's mark in its environment
//! and has left the group.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The variable by which the processes of a program are known.
pub(crate) const MARK: &str = "CLAWGATE_EXEC_ID";

/// Ends a program's processes when it goes out of scope, by whatever way.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) group: Option<Pid>,
    pub(crate) mark: String,
}

impl Tree {
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // Nobody left is what is wanted.
            let _ = kill_process_group(group, signal);
        }
    }

    pub(super) fn end(&self) {
        self.signal(Signal::KILL);
        end_marked(|mark| mark == self.mark.as_bytes());
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ends what programs of an earlier process left behind: everything whose mark begins so, but for
/// those of this process, whose marks begin with `own`.
pub fn end_leftovers(marks: &str, own: &str) -> usize {
    let (begins, own) = (format!("{marks}/"), format!("{own}/"));
    end_marked(|mark| mark.starts_with(begins.as_bytes()) && !mark.starts_with(own.as_bytes()))
}

/// Ends every process whose mark is one of these; says how many. Looked at again until nothing is
/// found twice in a row: a process may have forked meanwhile, and one that is just becoming another
/// program shows no environment for a moment.
fn end_marked(is_meant: impl Fn(&[u8]) -> bool) -> usize {
    let (mut ended, mut quiet) = (0, 0);
    for _ in 0..16 {
        let found = marked(&is_meant);
        if found.is_empty() {
            quiet += 1;
            if quiet == 2 {
                break;
            }
            std::thread::yield_now();
            continue;
        }
        quiet = 0;
        ended += found.len();
        for pid in found {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    ended
}

/// Living processes of this user with such a mark. There is no such list but on Linux.
fn marked(is_meant: &impl Fn(&[u8]) -> bool) -> Vec<Pid> {
    let own = rustix::process::getpid();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            // A zombie's environment is empty.
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            let is_marked = environment.split(|byte| *byte == 0).any(|variable| {
                variable
                    .strip_prefix(MARK.as_bytes())
                    .and_then(|rest| rest.strip_prefix(b"="))
                    .is_some_and(is_meant)
            });
            (is_marked && pid != own).then_some(pid)
        })
        .collect()
}
