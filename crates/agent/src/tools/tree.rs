//! A program with everything that it started, and the end of all of it.
//!
//! The group is ended first; then, on Linux, whatever carries the program's mark in its environment
//! and has left the group.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The variable by which the processes of a tool's program are known.
pub(crate) const MARK: &str = "CLAWGATE_EXEC_ID";

/// Ends a program's processes when it goes out of scope, by whatever way.
#[derive(Debug)]
pub struct Tree {
    group: Option<Pid>,
    variable: &'static str,
    mark: String,
}

impl Tree {
    /// Of a child that leads a group of its own, and has the mark in this variable of its environment.
    pub fn new(child: Option<u32>, variable: &'static str, mark: String) -> Self {
        Self {
            group: child.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)),
            variable,
            mark,
        }
    }

    /// Asks the group to end.
    pub fn ask(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // Nobody left is what is wanted.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Ends all of it.
    pub fn end(&self) {
        self.signal(Signal::KILL);
        end_marked(self.variable, |mark| mark == self.mark.as_bytes());
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
    end_marked(MARK, |mark| {
        mark.starts_with(begins.as_bytes()) && !mark.starts_with(own.as_bytes())
    })
}

/// Ends every process whose mark in this variable is meant; says how many. Looked at again until nothing is
/// found twice in a row: a process may have forked meanwhile, and one that is just becoming another
/// program shows no environment for a moment.
pub fn end_marked(variable: &str, is_meant: impl Fn(&[u8]) -> bool) -> usize {
    let (mut ended, mut quiet) = (0, 0);
    for _ in 0..16 {
        let found = marked(variable, &is_meant);
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
fn marked(variable: &str, is_meant: &impl Fn(&[u8]) -> bool) -> Vec<Pid> {
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
            let is_marked = environment.split(|byte| *byte == 0).any(|entry| {
                entry
                    .strip_prefix(variable.as_bytes())
                    .and_then(|rest| rest.strip_prefix(b"="))
                    .is_some_and(is_meant)
            });
            (is_marked && pid != own).then_some(pid)
        })
        .collect()
}
