//! What may be run on a machine: the operator's list, and what is asked where it is silent.
//!
//! A command is judged by the program that would really run (its path with every link followed,
//! and what is in it) and never by a name that somebody's `PATH` or `argv[0]` says. Shell text is
//! not parsed. A program whose purpose is to run others or code in its arguments (shells, `env`,
//! `xargs`, interpreters) passes by no entry that names it: what it would do is in its arguments,
//! so the whole command line has to stand listed, for that directory. Variables other than a few
//! harmless ones can make any program do anything, so they are always asked about.
//!
//! A word of the file that nobody knows counts as the strictest one.

use clawgate_protocol::exec_policy::{Agent, Entry, File, Rules};

/// Variables that nobody sets for a program: they choose what runs, whatever was approved.
const NEVER_SET: &[&str] = &[
    "PATH",
    "BASH_ENV",
    "ENV",
    "IFS",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "NODE_OPTIONS",
    "PYTHONSTARTUP",
    "PYTHONPATH",
    "PYTHONHOME",
    "PERL5OPT",
    "PERL5LIB",
    "RUBYOPT",
    "RUBYLIB",
    "GCONV_PATH",
];

/// How much runs without being asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Security {
    /// Nothing runs.
    Deny,
    /// What is listed.
    Allowlist,
    /// Everything.
    Full,
}

impl Security {
    /// The file's word. An unknown one denies.
    pub fn parse(word: &str) -> Self {
        match word {
            "full" => Self::Full,
            "allowlist" => Self::Allowlist,
            _ => Self::Deny,
        }
    }
}

impl Security {
    /// The file's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Allowlist => "allowlist",
            Self::Full => "full",
        }
    }
}

/// When somebody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AskWhen {
    /// Never: what is not listed is denied.
    Off,
    /// Where the list is silent.
    OnMiss,
    /// Always.
    Always,
}

impl AskWhen {
    /// The file's word. An unknown one asks always.
    pub fn parse(word: &str) -> Self {
        match word {
            "off" => Self::Off,
            "on-miss" => Self::OnMiss,
            _ => Self::Always,
        }
    }
}

impl AskWhen {
    /// The file's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::OnMiss => "on-miss",
            Self::Always => "always",
        }
    }
}

/// The rules that hold for one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How much runs without being asked about.
    pub security: Security,
    /// When somebody is asked.
    pub ask: AskWhen,
    /// What holds when nobody answers. Never more than `security`.
    pub fallback: Security,
    /// Whether programs that a skill brings pass as if they were listed.
    pub skills: bool,
}

/// The program that would run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executable<'a> {
    /// Where it was found, absolute; links not followed.
    pub found: &'a str,
    /// What that is with every link followed.
    pub real: &'a str,
    /// SHA-256 of it, hex, where it is known.
    pub sha256: Option<&'a str>,
}

/// A command that somebody wants to run.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The command line, program first.
    pub argv: &'a [String],
    /// Where it would run, with every link followed.
    pub cwd: Option<&'a str>,
    /// Names of the variables that the caller sets.
    pub env: &'a [String],
    /// What `argv[0]` is, if it is anything.
    pub executable: Option<Executable<'a>>,
    /// SHA-256 of the script that the command line hands to the program, hex.
    pub operand_sha256: Option<&'a str>,
    /// Whether a skill brings the program.
    pub skill: bool,
    /// What `~` is.
    pub home: Option<&'a str>,
}

/// What lets a command pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedBy {
    /// Everything passes.
    Full,
    /// An entry of the list, by its pattern.
    Entry {
        /// Its id, where it has one.
        id: Option<String>,
        /// Its pattern.
        pattern: String,
    },
    /// A skill brings the program.
    Skill,
}

/// Why a command does not simply pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing may run.
    Denied,
    /// No command line, or bytes in it that none can have.
    Malformed,
    /// Everything is asked about.
    Always,
    /// There is no such program.
    NotFound,
    /// No entry names the program.
    NotListed,
    /// It runs what its arguments say, and this command line is not listed.
    RunsOthers {
        /// Its name.
        program: String,
    },
    /// The caller sets a variable that can change what the program does.
    Environment {
        /// Its name.
        name: String,
    },
    /// It is listed, and is not the program that was approved any more.
    Changed,
    /// Nobody answered.
    Unanswered,
}

impl Why {
    /// A stable word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Malformed => "malformed",
            Self::Always => "always",
            Self::NotFound => "not_found",
            Self::NotListed => "not_listed",
            Self::RunsOthers { .. } => "runs_others",
            Self::Environment { .. } => "environment",
            Self::Changed => "changed",
            Self::Unanswered => "unanswered",
        }
    }
}

/// What becomes of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It runs.
    Allow {
        /// What lets it.
        by: AllowedBy,
    },
    /// Somebody has to say so first.
    Ask {
        /// Why.
        why: Why,
    },
    /// It does not run.
    Deny {
        /// Why.
        why: Why,
    },
}

/// The rules that hold for an agent: its own, else those of `*`, else the file's defaults, else
/// the list, and questions where it is silent.
pub fn policy(file: &File, agent: &str) -> Policy {
    let levels: Vec<&Rules> = agents(file, agent)
        .map(|agent| &agent.rules)
        .chain([&file.defaults])
        .collect();
    let word = |pick: fn(&Rules) -> Option<&String>| levels.iter().copied().find_map(pick);
    let security = word(|rules| rules.security.as_ref())
        .map_or(Security::Allowlist, |word| Security::parse(word));
    let fallback = word(|rules| rules.ask_fallback.as_ref())
        .map_or(Security::Deny, |word| Security::parse(word));
    Policy {
        security,
        ask: word(|rules| rules.ask.as_ref()).map_or(AskWhen::OnMiss, |word| AskWhen::parse(word)),
        fallback: fallback.min(security),
        skills: levels
            .iter()
            .find_map(|rules| rules.auto_allow_skills)
            .unwrap_or(false),
    }
}

/// An agent's places in the file, the most exact first. `default` is what old files call `main`.
fn agents<'a>(file: &'a File, agent: &str) -> impl Iterator<Item = &'a Agent> {
    let legacy = (agent == "main").then_some("default");
    [Some(agent).filter(|agent| *agent != "*"), legacy, Some("*")]
        .into_iter()
        .flatten()
        .filter_map(|key| file.agents.get(key))
}

/// What becomes of a command of an agent.
pub fn evaluate(file: &File, agent: &str, request: &Request<'_>) -> Verdict {
    let policy = policy(file, agent);
    if policy.security == Security::Deny {
        return Verdict::Deny { why: Why::Denied };
    }
    if !is_well_formed(request) {
        return Verdict::Deny {
            why: Why::Malformed,
        };
    }
    if policy.ask == AskWhen::Always {
        return Verdict::Ask { why: Why::Always };
    }
    if policy.security == Security::Full {
        return Verdict::Allow {
            by: AllowedBy::Full,
        };
    }
    match (listed(file, agent, policy, request), policy.ask) {
        (Ok(by), _) => Verdict::Allow { by },
        (Err(why), AskWhen::Off) => Verdict::Deny { why },
        (Err(why), _) => Verdict::Ask { why },
    }
}

/// What becomes of it when somebody would have to be asked and nobody answers. Never a question,
/// and never more than would pass if questions were off.
pub fn unanswered(file: &File, agent: &str, request: &Request<'_>) -> Verdict {
    let verdict = evaluate(file, agent, request);
    if !matches!(verdict, Verdict::Ask { .. }) {
        return verdict;
    }
    let policy = policy(file, agent);
    match policy.fallback {
        Security::Full => Verdict::Allow {
            by: AllowedBy::Full,
        },
        Security::Allowlist => match listed(file, agent, policy, request) {
            Ok(by) => Verdict::Allow { by },
            Err(why) => Verdict::Deny { why },
        },
        Security::Deny => Verdict::Deny {
            why: Why::Unanswered,
        },
    }
}

/// No system takes a NUL in any of these, so whoever puts one there wants to be read in two ways.
fn is_well_formed(request: &Request<'_>) -> bool {
    let whole = |text: &str| !text.contains('\0');
    request
        .argv
        .first()
        .is_some_and(|program| !program.is_empty())
        && request.argv.iter().all(|part| whole(part))
        && request.cwd.is_none_or(whole)
        && request
            .env
            .iter()
            .all(|name| whole(name) && !name.is_empty() && !name.contains('='))
}

/// Whether the list lets it pass, or why not.
fn listed(
    file: &File,
    agent: &str,
    policy: Policy,
    request: &Request<'_>,
) -> Result<AllowedBy, Why> {
    if let Some(name) = request.env.iter().find(|name| !is_harmless(name)) {
        return Err(Why::Environment { name: name.clone() });
    }
    let executable = request.executable.ok_or(Why::NotFound)?;
    let runs_others = runner(request);
    let mut changed = false;
    for entry in agents(file, agent).flat_map(|agent| &agent.allowlist) {
        // An expression that is not understood here narrows to nothing.
        if entry.arg_pattern.is_some() || !names(entry, &executable, request.home) {
            continue;
        }
        let covers = match &entry.argv {
            Some(argv) => argv == request.argv && entry.cwd.as_deref() == request.cwd,
            None => runs_others.is_none(),
        };
        if !covers {
            continue;
        }
        // A command line that names a script means that script, so one that was noted without it
        // does not do for one that has it.
        let operand = match entry.operand_sha256.as_deref() {
            None => entry.argv.is_none() || request.operand_sha256.is_none(),
            noted => is_same(noted, request.operand_sha256),
        };
        if !operand || !is_same(entry.sha256.as_deref(), executable.sha256) {
            changed = true;
            continue;
        }
        return Ok(AllowedBy::Entry {
            id: entry.id.clone(),
            pattern: entry.pattern.clone(),
        });
    }
    if changed {
        return Err(Why::Changed);
    }
    match runs_others {
        Some(program) => Err(Why::RunsOthers { program }),
        None if policy.skills && request.skill => Ok(AllowedBy::Skill),
        None => Err(Why::NotListed),
    }
}

/// Whether something is what it was when it was approved, where that was noted.
fn is_same(then: Option<&str>, now: Option<&str>) -> bool {
    then.is_none_or(|then| now.is_some_and(|now| now.eq_ignore_ascii_case(then)))
}

/// Whether an entry's pattern names the program.
fn names(entry: &Entry, executable: &Executable<'_>, home: Option<&str>) -> bool {
    let pattern = entry.pattern.trim();
    if pattern == "*" {
        return true;
    }
    let expanded;
    let pattern = match pattern.strip_prefix('~') {
        Some(below) if below.starts_with('/') => match home {
            Some(home) if home.starts_with('/') => {
                expanded = format!("{}{below}", escaped(home.trim_end_matches('/')));
                expanded.as_str()
            }
            _ => return false,
        },
        _ => pattern,
    };
    // A bare name would be whatever somebody's PATH makes of it.
    pattern.starts_with('/')
        && (glob(pattern, executable.real)
            || (is_plain(executable.found) && glob(pattern, executable.found)))
}

/// Whether a path goes straight to where it says.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && !path.split('/').any(|part| part == ".." || part == ".")
}

/// A home directory may hold characters that mean something in a pattern; it means itself.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Whether a path fits a pattern: `*` is anything within one part of the path, `**` anything,
/// `?` one character within a part, a backslash takes the meaning of what follows it away. Steps
/// are bounded by the product of the lengths.
pub fn glob(pattern: &str, path: &str) -> bool {
    #[derive(Clone, Copy)]
    enum Step {
        Is(char),
        One,
        Part,
        Any,
    }
    let mut steps = Vec::new();
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        steps.push(match character {
            '*' if characters.peek() == Some(&'*') => {
                while characters.next_if_eq(&'*').is_some() {}
                Step::Any
            }
            '*' => Step::Part,
            '?' => Step::One,
            '\\' => Step::Is(characters.next().unwrap_or('\\')),
            other => Step::Is(other),
        });
    }
    // Which numbers of steps the path so far can be made of.
    let mut at = vec![false; steps.len() + 1];
    at[0] = true;
    let skip = |at: &mut Vec<bool>| {
        for (index, step) in steps.iter().enumerate() {
            if at[index] && matches!(step, Step::Part | Step::Any) {
                at[index + 1] = true;
            }
        }
    };
    skip(&mut at);
    for character in path.chars() {
        let mut next = vec![false; at.len()];
        for (index, step) in steps.iter().enumerate().filter(|(index, _)| at[*index]) {
            match step {
                Step::Is(same) => next[index + 1] |= *same == character,
                Step::One => next[index + 1] |= character != '/',
                Step::Part => next[index] |= character != '/',
                Step::Any => next[index] = true,
            }
        }
        at = next;
        skip(&mut at);
    }
    at[steps.len()]
}

/// The name of the program, if it runs others: by what it is, by where it was found, and by what
/// it is told that it is called, because one program can be many.
fn runner(request: &Request<'_>) -> Option<String> {
    let executable = request.executable?;
    let called = request.argv.first().map_or("", String::as_str);
    [executable.real, executable.found, called]
        .into_iter()
        .map(base_name)
        .find(|name| runs_others(name))
}

fn base_name(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    // A login shell is told so by a dash before its name.
    let name = name.trim_start_matches('-').to_lowercase();
    name.strip_suffix(".exe")
        .map_or(name.clone(), str::to_owned)
}

/// Whether the purpose of a program of that name is to run other programs, or code that its
/// arguments hold or name.
pub fn runs_others(name: &str) -> bool {
    // The loader runs whatever it is given, and its name says for which machine.
    if RUNNERS.contains(&name) || name.starts_with("ld-linux") || name.starts_with("ld-musl") {
        return true;
    }
    // `python3.12`, `lua5.4`, `ruby3.3`, `bash-5.2`.
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '_'));
    stem != name && RUNNERS.contains(&stem)
}

/// Sorted by what they are. A program that can be made to start others by an option, but has
/// another purpose (`git`, `tar`, `make`), is not here: listing it is the operator's decision.
#[rustfmt::skip]
const RUNNERS: &[&str] = &[
    // shells
    "ash", "bash", "busybox", "cmd", "csh", "dash", "elvish", "fish", "hush", "ksh", "ksh93",
    "lksh", "mksh", "nu", "oksh", "osh", "pdksh", "posh", "powershell", "pwsh", "rbash", "rc",
    "rksh", "rzsh", "sash", "sh", "tcsh", "toybox", "xonsh", "yash", "ysh", "zsh",
    // programs that run what follows
    "arch", "bwrap", "caffeinate", "capsh", "catchsegv", "chpst", "chroot", "chrt", "command",
    "coreutils", "cpulimit", "daemonize", "dbus-run-session", "direnv", "doas", "dotenv",
    "dumb-init", "entr", "env", "envdir", "eval", "exec", "fakeroot", "faketime", "fd", "fdfind",
    "find", "firejail", "flock", "gdb", "gosu", "gtimeout", "hyperfine", "ionice", "ld.so",
    "linux32", "linux64", "lldb", "logsave", "ltrace", "memusage", "mosh", "nice", "nohup",
    "nsenter", "numactl", "parallel", "perf", "pipexec", "pkexec", "prlimit", "proxychains",
    "proxychains4", "rsh", "run-parts", "runcon", "runuser", "screen", "script", "scriptreplay",
    "setarch", "setlock", "setpriv", "setsid", "setuidgid", "sg", "softlimit", "ssh",
    "start-stop-daemon", "stdbuf", "strace", "su", "su-exec", "sudo", "sudoedit", "sudo-rs",
    "systemd-inhibit", "systemd-run", "taskset", "tcpserver", "time", "timeout", "tini", "tmux",
    "torify", "torsocks", "trickle", "truss", "tsocks", "unbuffer", "uname26", "unshare",
    "valgrind", "viddy", "watch", "watchexec", "winpty", "wsl", "xargs", "xvfb-run", "at", "batch",
    "crontab", "socat", "nc", "ncat", "netcat", "nix-shell", "npx", "bunx", "pnpx", "uvx", "pipx",
    "i386", "x86_64",
    // interpreters of code in their arguments or in a file that these name
    "awk", "bc", "bun", "clojure", "cscript", "deno", "ed", "elixir", "emacs", "erl", "escript",
    "ex", "expect", "gawk", "gforth", "ghci", "groovy", "guile", "ipython", "iex", "irb", "java",
    "janet", "jjs", "jrunscript", "jshell", "julia", "kotlin", "lua", "luajit", "m4", "mawk",
    "mshta", "nawk", "node", "nodejs", "nvim", "ocaml", "octave", "original-awk", "osascript",
    "perl", "php", "php-cgi", "pypy", "python", "pythonw", "qjs", "quickjs", "r", "racket", "raku",
    "rlwrap", "rscript", "ruby", "runghc", "runhaskell", "sbcl", "scala", "sed", "gsed", "ssed",
    "sqlite", "swipl", "tclsh", "tsx", "ts-node", "vi", "vim", "view", "vimdiff", "wish", "wscript",
];

/// Variables that change how output looks, and nothing else.
fn is_harmless(name: &str) -> bool {
    matches!(
        name,
        "TERM"
            | "COLORTERM"
            | "NO_COLOR"
            | "FORCE_COLOR"
            | "CLICOLOR"
            | "COLUMNS"
            | "LINES"
            | "LANG"
    ) || matches!(
        name.strip_prefix("LC_"),
        Some(
            "ALL"
                | "COLLATE"
                | "CTYPE"
                | "MESSAGES"
                | "MONETARY"
                | "NUMERIC"
                | "TIME"
                | "PAPER"
                | "NAME"
                | "ADDRESS"
                | "TELEPHONE"
                | "MEASUREMENT"
                | "IDENTIFICATION"
        )
    )
}

/// Why an approval is not kept for the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// Which program it was is not known.
    NoProgram,
    /// Its path would mean something else as a pattern.
    PathIsPattern,
    /// The caller set variables that are asked about each time.
    Environment,
}

/// Keeps an approval for the next time, as narrow as it was: the program as it is now, and for one
/// that runs others this command line in this directory with this script. `command` is what people
/// read. Old entries for the same thing are replaced.
///
/// # Errors
/// What cannot be kept without letting more pass than was approved.
pub fn remember(
    file: &mut File,
    agent: &str,
    request: &Request<'_>,
    id: String,
    command: &str,
    at_ms: i64,
) -> Result<(), NotKept> {
    let executable = request.executable.ok_or(NotKept::NoProgram)?;
    let real = executable.real;
    if !is_plain(real) || real.trim() != real || real.contains(['*', '?', '\\', '\0']) {
        return Err(NotKept::PathIsPattern);
    }
    if !request.env.iter().all(|name| is_harmless(name)) {
        return Err(NotKept::Environment);
    }
    let whole = runner(request).is_some() || request.operand_sha256.is_some();
    let mut entry = Entry {
        id: Some(id),
        pattern: real.to_owned(),
        argv: whole.then(|| request.argv.to_vec()),
        cwd: request.cwd.filter(|_| whole).map(str::to_owned),
        sha256: executable.sha256.map(str::to_owned),
        operand_sha256: request.operand_sha256.map(str::to_owned),
        ..Entry::default()
    };
    entry.used(at_ms, command, real);
    let list = &mut file.agents.entry(agent.to_owned()).or_default().allowlist;
    list.retain(|old| {
        let same = old.pattern == entry.pattern && old.argv == entry.argv && old.cwd == entry.cwd;
        // One that the operator wrote without a program's hash is not made narrower.
        !(same && old.arg_pattern.is_none() && old.sha256.is_some())
    });
    list.push(entry);
    Ok(())
}

/// Whether somebody who asks for a program may set this variable of it.
pub fn may_set(name: &str) -> bool {
    let is_name = name
        .chars()
        .enumerate()
        .all(|(at, c)| c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit()));
    let upper = name.to_ascii_uppercase();
    is_name
        && !name.is_empty()
        && !NEVER_SET.contains(&upper.as_str())
        && !["LD_", "DYLD_", "CLAWGATE_", "OPENCLAW_", "BASH_FUNC_"]
            .iter()
            .any(|prefix| upper.starts_with(prefix))
}
