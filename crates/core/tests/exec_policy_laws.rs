//! What holds of every command, whatever the file says.

use clawgate_core::exec_policy::{
    AllowedBy, Executable, NotKept, Request, Verdict, Why, evaluate, glob, may_set, remember,
    runs_others, unanswered,
};
use clawgate_protocol::exec_policy::{Agent, Entry, File, Rules};
use proptest::{collection::vec, option, prelude::*, sample::select};

/// A command as plain text, to borrow a request from.
#[derive(Clone, Debug)]
struct Command {
    argv: Vec<String>,
    cwd: Option<String>,
    env: Vec<String>,
    found: String,
    real: String,
    sha256: Option<String>,
    operand: Option<String>,
    skill: bool,
}

impl Command {
    fn new(argv: &[&str], path: &str) -> Self {
        Self {
            argv: argv.iter().map(|part| (*part).to_owned()).collect(),
            cwd: Some("/work".to_owned()),
            env: Vec::new(),
            found: path.to_owned(),
            real: path.to_owned(),
            sha256: Some("aa".to_owned()),
            operand: None,
            skill: false,
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            argv: &self.argv,
            cwd: self.cwd.as_deref(),
            env: &self.env,
            executable: Some(Executable {
                found: &self.found,
                real: &self.real,
                sha256: self.sha256.as_deref(),
            }),
            operand_sha256: self.operand.as_deref(),
            skill: self.skill,
            home: Some("/home/me"),
        }
    }
}

fn rules(security: &str, ask: &str, fallback: &str) -> Rules {
    Rules {
        security: Some(security.to_owned()),
        ask: Some(ask.to_owned()),
        ask_fallback: Some(fallback.to_owned()),
        ..Rules::default()
    }
}

fn listing(patterns: &[&str]) -> File {
    let allowlist = patterns.iter().map(|pattern| Entry {
        pattern: (*pattern).to_owned(),
        ..Entry::default()
    });
    let agent = Agent {
        allowlist: allowlist.collect(),
        ..Agent::default()
    };
    File {
        agents: [("main".to_owned(), agent)].into(),
        ..File::default()
    }
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    option::of(select(words).prop_map(str::to_owned))
}

fn any_rules() -> impl Strategy<Value = Rules> {
    (
        word(&["deny", "allowlist", "full", "FULL", ""]),
        word(&["off", "on-miss", "always", "never"]),
        word(&["deny", "allowlist", "full", "yes"]),
        option::of(any::<bool>()),
    )
        .prop_map(|(security, ask, ask_fallback, auto_allow_skills)| Rules {
            security,
            ask,
            ask_fallback,
            auto_allow_skills,
            ..Rules::default()
        })
}

const PATHS: &[&str] = &[
    "/usr/bin/ls",
    "/usr/bin/git",
    "/bin/sh",
    "/usr/bin/env",
    "/usr/bin/python3.12",
    "/home/me/bin/tool",
    "/tmp/ls",
    "relative/ls",
    "/usr/bin/../bin/ls",
    "ls",
    "",
];
const PATTERNS: &[&str] = &[
    "*",
    "/**",
    "/usr/bin/*",
    "~/bin/*",
    "/usr/bin/ls",
    "ls",
    "**/ls",
    "/bin/sh",
    "/usr/bin/env",
    "/usr/bin/python3*",
    "",
    "~",
    "\\",
];

fn any_entry() -> impl Strategy<Value = Entry> {
    (
        select(PATTERNS),
        option::of(any_argv()),
        option::of(Just("/work".to_owned())),
        option::of(select(&["aa", "bb"][..])),
        option::of(Just("^.*$".to_owned())),
    )
        .prop_map(|(pattern, argv, cwd, sha256, arg_pattern)| Entry {
            pattern: pattern.to_owned(),
            argv,
            cwd,
            sha256: sha256.map(str::to_owned),
            arg_pattern,
            ..Entry::default()
        })
}

fn any_argv() -> impl Strategy<Value = Vec<String>> {
    vec(
        select(
            &[
                "ls", "sh", "-c", "/bin/sh", "env", "rm -rf /", "python3", "-bash", "x\0y", "",
            ][..],
        )
        .prop_map(str::to_owned),
        0..4,
    )
}

fn any_command() -> impl Strategy<Value = Command> {
    (
        any_argv(),
        option::of(select(&["/work", "/tmp"][..])),
        vec(
            select(&["LANG", "PATH", "LD_PRELOAD", "BASH_ENV", "TERM", "A=B", ""][..]),
            0..2,
        ),
        select(PATHS),
        select(PATHS),
        option::of(select(&["aa", "bb"][..])),
        option::of(select(&["cc", "dd"][..])),
        any::<bool>(),
    )
        .prop_map(
            |(argv, cwd, env, found, real, sha256, operand, skill)| Command {
                argv,
                cwd: cwd.map(str::to_owned),
                env: env.into_iter().map(str::to_owned).collect(),
                found: found.to_owned(),
                real: real.to_owned(),
                sha256: sha256.map(str::to_owned),
                operand: operand.map(str::to_owned),
                skill,
            },
        )
}

fn any_file() -> impl Strategy<Value = File> {
    let agent = (any_rules(), vec(any_entry(), 0..4))
        .prop_map(|(rules, allowlist)| Agent { allowlist, rules });
    (
        any_rules(),
        proptest::collection::btree_map(
            select(&["main", "*", "default", "other"][..]).prop_map(str::to_owned),
            agent,
            0..4,
        ),
    )
        .prop_map(|(defaults, agents)| File {
            defaults,
            agents,
            ..File::default()
        })
}

/// The same as [`glob`], as plainly as it can be said.
fn plainly(pattern: &[char], path: &[char]) -> bool {
    match pattern {
        [] => path.is_empty(),
        ['*', '*', rest @ ..] => (0..=path.len()).any(|at| plainly(rest, &path[at..])),
        ['*', rest @ ..] => (0..=path.len())
            .take_while(|at| !path[..*at].contains(&'/'))
            .any(|at| plainly(rest, &path[at..])),
        ['?', rest @ ..] => path.first().is_some_and(|c| *c != '/') && plainly(rest, &path[1..]),
        [same, rest @ ..] => path.first() == Some(same) && plainly(rest, &path[1..]),
    }
}

/// Whether the list would let it pass by an entry: spelled out once more, without any shortcut.
fn an_entry_lets_it_pass(file: &File, agent: &str, command: &Command) -> bool {
    let keys = if agent == "main" {
        vec!["main", "default", "*"]
    } else {
        vec![agent, "*"]
    };
    let base = |path: &str| {
        path.rsplit('/')
            .next()
            .unwrap_or("")
            .trim_start_matches('-')
            .to_lowercase()
    };
    let runs = [&command.real, &command.found, &command.argv[0]]
        .iter()
        .any(|path| runs_others(&base(path)));
    keys.iter()
        .filter_map(|key| file.agents.get(*key))
        .flat_map(|agent| &agent.allowlist)
        .any(|entry| {
            let pattern = entry.pattern.replace('~', "/home/me");
            let found = &command.found;
            let fits = entry.pattern == "*"
                || (pattern.starts_with('/')
                    && (glob(&pattern, &command.real)
                        || (found.starts_with('/')
                            && !found.contains("..")
                            && glob(&pattern, found))));
            let exact = entry.argv.as_ref() == Some(&command.argv) && entry.cwd == command.cwd;
            let pinned = entry.sha256.is_none() || entry.sha256 == command.sha256;
            fits && pinned
                && entry.arg_pattern.is_none()
                && if entry.argv.is_some() {
                    exact && command.operand.is_none()
                } else {
                    !runs
                }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn what_passes_by_an_entry_stands_listed_and_sets_nothing_odd(
        file in any_file(), agent in select(&["main", "other", "third"][..]), command in any_command(),
    ) {
        for verdict in [
            evaluate(&file, agent, &command.request()),
            unanswered(&file, agent, &command.request()),
        ] {
            if let Verdict::Allow { by: AllowedBy::Entry { .. } } = verdict {
                prop_assert!(an_entry_lets_it_pass(&file, agent, &command));
                prop_assert!(command.env.iter().all(|name| name == "LANG" || name == "TERM"));
            }
        }
    }

    #[test]
    fn what_nobody_answers_is_no_question_and_never_more_than_the_policy_allows(
        file in any_file(), command in any_command(),
    ) {
        let asked = evaluate(&file, "main", &command.request());
        let left = unanswered(&file, "main", &command.request());
        let is_question = matches!(left, Verdict::Ask { .. });
        prop_assert!(!is_question);
        let mut silent = file;
        // The same without questions: what passes unanswered passes here as well.
        silent.defaults.ask = Some("off".to_owned());
        for agent in silent.agents.values_mut() {
            agent.rules.ask = None;
        }
        if matches!(left, Verdict::Allow { .. }) {
            let verdict = evaluate(&silent, "main", &command.request());
            let passes = matches!(verdict, Verdict::Allow { .. });
            prop_assert!(passes, "{asked:?} {left:?} {verdict:?}");
        }
    }

    #[test]
    fn what_was_approved_for_good_passes_again_and_nothing_beside_it(
        path in select(&["/usr/bin/ls", "/bin/sh", "/usr/bin/python3.12", "/usr/bin/env"][..]),
        tail in vec("[a-z -]{1,6}", 0..3),
        operand in option::of(Just("cc".to_owned())),
    ) {
        let mut command = Command::new(&[path], path);
        command.argv.extend(tail);
        command.operand = operand;
        let mut file = File::default();
        remember(&mut file, "main", &command.request(), "1".to_owned(), "text", 7).unwrap();
        let passes = |command: &Command, agent: &str| {
            matches!(evaluate(&file, agent, &command.request()), Verdict::Allow { .. })
        };
        prop_assert!(passes(&command, "main"));
        prop_assert!(!passes(&command, "other"));
        let mut other = command.clone();
        other.sha256 = Some("bb".to_owned());
        prop_assert!(!passes(&other, "main"), "another program at that place");
        other.sha256 = None;
        prop_assert!(!passes(&other, "main"), "who knows which program");
        if command.operand.is_some() {
            let mut other = command.clone();
            other.operand = Some("dd".to_owned());
            prop_assert!(!passes(&other, "main"), "another script");
        }
        if path != "/usr/bin/ls" {
            let mut other = command.clone();
            other.argv.push("more".to_owned());
            prop_assert!(!passes(&other, "main"), "more arguments");
            let mut other = command.clone();
            other.cwd = Some("/tmp".to_owned());
            prop_assert!(!passes(&other, "main"), "elsewhere");
        }
    }

    #[test]
    fn a_pattern_means_what_it_says(pattern in "/?[ab/*?]{0,7}", path in "/?[ab/]{0,7}") {
        let runs = pattern.replace("***", "**").replace("***", "**");
        let (letters, there): (Vec<char>, Vec<char>) = (runs.chars().collect(), path.chars().collect());
        prop_assert_eq!(glob(&pattern, &path), plainly(&letters, &there));
    }

    #[test]
    fn any_text_has_an_answer(pattern in ".{0,40}", path in ".{0,40}", argv in vec(".{0,9}", 0..3)) {
        let mut command = Command::new(&[], &path);
        command.argv = argv;
        let _ = evaluate(&listing(&[&pattern]), "main", &command.request());
    }
}

#[test]
fn an_entry_for_a_program_that_runs_others_lets_nothing_pass() {
    let everything = listing(&["*", "/**", "/usr/bin/*", "/bin/*"]);
    for (argv, path) in [
        (&["sh", "-c", "rm -rf /"][..], "/bin/sh"),
        (&["/usr/bin/env", "rm"], "/usr/bin/env"),
        (&["nohup", "rm"], "/usr/bin/nohup"),
        (&["xargs", "rm"], "/usr/bin/xargs"),
        (&["python3", "-c", "x"], "/usr/bin/python3.12"),
        (&["node", "-e", "x"], "/usr/bin/node"),
        (&["perl5.38", "-e", "x"], "/usr/bin/perl5.38"),
        (&["find", "-exec", "rm"], "/usr/bin/find"),
        (&["ls"], "/bin/busybox"),
        (&["bash"], "/usr/bin/ls"),
        (&["-bash"], "/usr/bin/ls"),
        (&["x"], "/lib64/ld-linux-x86-64.so.2"),
        (&["POWERSHELL.EXE"], "/usr/bin/ls"),
    ] {
        let command = Command::new(argv, path);
        let verdict = evaluate(&everything, "main", &command.request());
        assert!(
            matches!(
                verdict,
                Verdict::Ask {
                    why: Why::RunsOthers { .. }
                }
            ),
            "{argv:?} {verdict:?}"
        );
    }
    let command = Command::new(&["ls", "-l"], "/usr/bin/ls");
    let verdict = evaluate(&everything, "main", &command.request());
    assert!(matches!(verdict, Verdict::Allow { .. }));
}

#[test]
fn a_link_is_judged_by_what_it_leads_to() {
    let mut command = Command::new(&["/srv/ls"], "/bin/sh");
    command.found = "/srv/ls".to_owned();
    let verdict = evaluate(&listing(&["/srv/*"]), "main", &command.request());
    assert!(matches!(
        verdict,
        Verdict::Ask {
            why: Why::RunsOthers { .. }
        }
    ));
}

#[test]
fn a_bare_name_lists_nothing_and_a_home_means_itself() {
    let ls = Command::new(&["ls"], "/usr/bin/ls");
    for pattern in ["ls", "**/ls", "./ls", "~me/ls", "", " "] {
        let verdict = evaluate(&listing(&[pattern]), "main", &ls.request());
        assert_eq!(
            verdict,
            Verdict::Ask {
                why: Why::NotListed
            },
            "{pattern}"
        );
    }
    let tool = Command::new(&["tool"], "/home/me/bin/tool");
    let verdict = evaluate(&listing(&["~/bin/*"]), "main", &tool.request());
    assert!(matches!(verdict, Verdict::Allow { .. }));
    let mut elsewhere = tool.request();
    elsewhere.home = Some("/home/*");
    let verdict = evaluate(&listing(&["~/bin/*"]), "main", &elsewhere);
    assert_eq!(
        verdict,
        Verdict::Ask {
            why: Why::NotListed
        }
    );
}

#[test]
fn the_words_of_the_file_decide_and_unknown_ones_are_the_strictest() {
    let ls = Command::new(&["ls"], "/usr/bin/ls");
    let judge = |security, ask, fallback| {
        let file = File {
            defaults: rules(security, ask, fallback),
            ..File::default()
        };
        let request = ls.request();
        (
            evaluate(&file, "main", &request),
            unanswered(&file, "main", &request),
        )
    };
    let full = Verdict::Allow {
        by: AllowedBy::Full,
    };
    let deny = |why| Verdict::Deny { why };
    let ask = |why| Verdict::Ask { why };
    for (security, when, fallback, want, left) in [
        ("deny", "off", "full", deny(Why::Denied), deny(Why::Denied)),
        (
            "nonsense",
            "off",
            "full",
            deny(Why::Denied),
            deny(Why::Denied),
        ),
        ("full", "off", "deny", full.clone(), full.clone()),
        ("full", "on-miss", "deny", full.clone(), full.clone()),
        (
            "full",
            "always",
            "deny",
            ask(Why::Always),
            deny(Why::Unanswered),
        ),
        ("full", "always", "full", ask(Why::Always), full.clone()),
        (
            "full",
            "nonsense",
            "nonsense",
            ask(Why::Always),
            deny(Why::Unanswered),
        ),
        (
            "allowlist",
            "off",
            "full",
            deny(Why::NotListed),
            deny(Why::NotListed),
        ),
        (
            "allowlist",
            "on-miss",
            "full",
            ask(Why::NotListed),
            deny(Why::NotListed),
        ),
        (
            "allowlist",
            "on-miss",
            "deny",
            ask(Why::NotListed),
            deny(Why::Unanswered),
        ),
    ] {
        assert_eq!(
            judge(security, when, fallback),
            (want, left),
            "{security} {when} {fallback}"
        );
    }
}

#[test]
fn an_agent_stands_before_everybody_and_everybody_before_the_defaults() {
    let ls = Command::new(&["ls"], "/usr/bin/ls");
    let mut file = File {
        defaults: rules("deny", "off", "deny"),
        ..File::default()
    };
    let star = Agent {
        rules: rules("full", "off", "deny"),
        ..Agent::default()
    };
    file.agents.insert("*".to_owned(), star);
    let own = Agent {
        rules: rules("allowlist", "off", "deny"),
        ..Agent::default()
    };
    file.agents.insert("main".to_owned(), own);
    let verdict = |agent: &str| evaluate(&file, agent, &ls.request());
    assert_eq!(
        verdict("main"),
        Verdict::Deny {
            why: Why::NotListed
        }
    );
    assert_eq!(
        verdict("other"),
        Verdict::Allow {
            by: AllowedBy::Full
        }
    );
}

#[test]
fn a_file_that_says_nothing_lets_nothing_pass_unasked() {
    let ls = Command::new(&["ls"], "/usr/bin/ls");
    let verdict = evaluate(&File::default(), "main", &ls.request());
    assert_eq!(
        verdict,
        Verdict::Ask {
            why: Why::NotListed
        }
    );
}

#[test]
fn a_skill_brings_programs_and_no_shell() {
    let mut file = File::default();
    file.defaults.auto_allow_skills = Some(true);
    let mut tool = Command::new(&["tool"], "/opt/tool");
    let verdict = |command: &Command| evaluate(&file, "main", &command.request());
    assert_eq!(
        verdict(&tool),
        Verdict::Ask {
            why: Why::NotListed
        }
    );
    tool.skill = true;
    assert_eq!(
        verdict(&tool),
        Verdict::Allow {
            by: AllowedBy::Skill
        }
    );
    let mut shell = Command::new(&["sh", "-c", "x"], "/bin/sh");
    shell.skill = true;
    assert!(matches!(verdict(&shell), Verdict::Ask { .. }));
}

#[test]
fn what_would_mean_more_than_was_approved_is_not_kept() {
    let mut file = File::default();
    let mut keep = |command: &Command| {
        remember(
            &mut file,
            "main",
            &command.request(),
            "1".to_owned(),
            "x",
            1,
        )
    };
    let star = Command::new(&["x"], "/tmp/*");
    assert_eq!(keep(&star), Err(NotKept::PathIsPattern));
    let space = Command::new(&["x"], "/tmp/x ");
    assert_eq!(keep(&space), Err(NotKept::PathIsPattern));
    let mut path = Command::new(&["x"], "/tmp/x");
    path.env = vec!["PATH".to_owned()];
    assert_eq!(keep(&path), Err(NotKept::Environment));
    assert_eq!(file, File::default());
}

#[test]
fn variables_that_choose_what_runs_are_not_set() {
    for name in ["FOO", "http_proxy", "GIT_DIR"] {
        assert!(may_set(name), "{name}");
    }
    for name in [
        "PATH",
        "ld_preload",
        "LD_AUDIT",
        "1A",
        "A-B",
        "",
        "CLAWGATE_EXEC_ID",
    ] {
        assert!(!may_set(name), "{name}");
    }
}
