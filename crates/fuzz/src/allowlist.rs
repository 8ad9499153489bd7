use clawgate_core::exec_policy::{
    AllowedBy, Executable, Request, Verdict, evaluate, glob, remember, runs_others, unanswered,
};
use clawgate_protocol::exec_policy::File;
use serde_json::Value;

/// What is appended to a command: nobody has listed it.
const MORE: &str = "; canary-9f1c";

/// A command with the operator's file, as JSON.
struct Case {
    file: File,
    agent: String,
    argv: Vec<String>,
    env: Vec<String>,
    cwd: Option<String>,
    found: Option<String>,
    real: Option<String>,
    sha256: Option<String>,
    operand: Option<String>,
    home: Option<String>,
    skill: bool,
}

impl Case {
    fn read(data: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(data).ok()?;
        let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
        let texts = |key: &str| -> Vec<String> {
            let list = value.get(key).and_then(Value::as_array);
            let texts = list.into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        Some(Self {
            file: serde_json::from_value(value.get("file")?.clone()).ok()?,
            agent: text("agent").unwrap_or_else(|| "main".to_owned()),
            argv: texts("argv"),
            env: texts("env"),
            cwd: text("cwd"),
            found: text("found"),
            real: text("real"),
            sha256: text("sha256"),
            operand: text("operand"),
            home: text("home"),
            skill: value.get("skill") == Some(&Value::Bool(true)),
        })
    }

    fn request<'a>(&'a self, argv: &'a [String]) -> Request<'a> {
        let real = self.real.as_deref();
        Request {
            argv,
            cwd: self.cwd.as_deref(),
            env: &self.env,
            executable: real.map(|real| Executable {
                found: self.found.as_deref().unwrap_or(real),
                real,
                sha256: self.sha256.as_deref(),
            }),
            operand_sha256: self.operand.as_deref(),
            skill: self.skill,
            home: self.home.as_deref(),
        }
    }

    /// The command with something behind its last word, and with one word more.
    fn longer(&self) -> [Vec<String>; 2] {
        let (mut word, mut words) = (self.argv.clone(), self.argv.clone());
        // The program stays what it is: it is named apart from its arguments.
        match word.as_mut_slice() {
            [_, .., last] => last.push_str(MORE),
            _ => word.push(MORE.to_owned()),
        }
        words.push(MORE.to_owned());
        [word, words]
    }
}

fn allows(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Allow { .. })
}

/// A command and the operator's file of what may be run (JSON, see the corpus): what is refused is not
/// allowed with something appended, a program that runs others is allowed as it is listed and no
/// longer, silence allows no more than the file says, and what is remembered is what was decided.
///
/// # Panics
/// When one of these does not hold.
pub fn allowlist(data: &[u8]) {
    let Some(mut case) = Case::read(data) else {
        return;
    };
    let written = serde_json::to_value(&case.file).expect("a file is JSON");
    let again: File = serde_json::from_value(written).expect("what is written can be read");
    assert_eq!(again, case.file);

    let verdict = evaluate(&case.file, &case.agent, &case.request(&case.argv));
    let silent = unanswered(&case.file, &case.agent, &case.request(&case.argv));
    assert!(!matches!(silent, Verdict::Ask { .. }), "silence asks");
    if !matches!(verdict, Verdict::Ask { .. }) {
        assert_eq!(silent, verdict, "nobody was to be asked");
    }
    let program = case
        .real
        .as_deref()
        .and_then(|real| real.rsplit('/').next());
    let runs_others = program.is_some_and(|name| runs_others(&name.to_lowercase()));
    for argv in case.longer() {
        let longer = evaluate(&case.file, &case.agent, &case.request(&argv));
        if !case.argv.is_empty() && !case.argv[0].is_empty() && allows(&longer) {
            assert!(allows(&verdict), "{argv:?} is allowed, and less is not");
        }
        if let Verdict::Allow {
            by: AllowedBy::Entry { pattern, .. },
        } = longer
        {
            assert!(!runs_others, "{pattern} lets {program:?} run {argv:?}");
        }
    }
    is_remembered(&mut case, &verdict);
    if let Some(real) = &case.real {
        patterns_mean_what_they_say(&case.file, real);
    }
}

/// Kept for the next time: this passes then, and nothing that would not have passed before.
fn is_remembered(case: &mut Case, before: &Verdict) {
    let others: Vec<(Vec<String>, bool)> = case
        .longer()
        .into_iter()
        .map(|argv| {
            let passed = allows(&evaluate(&case.file, &case.agent, &case.request(&argv)));
            (argv, passed)
        })
        .collect();
    let mut file = case.file.clone();
    let kept = remember(
        &mut file,
        &case.agent,
        &case.request(&case.argv),
        "id".to_owned(),
        "shown",
        1,
    );
    if kept.is_err() {
        assert_eq!(file, case.file, "not kept, and changed");
        return;
    }
    let after = evaluate(&file, &case.agent, &case.request(&case.argv));
    assert!(allows(&after) || !allows(before), "it passed before");
    let program = case
        .real
        .as_deref()
        .and_then(|real| real.rsplit('/').next());
    let whole =
        program.is_some_and(|name| runs_others(&name.to_lowercase())) || case.operand.is_some();
    for (argv, passed) in others {
        let passes = allows(&evaluate(&file, &case.agent, &case.request(&argv)));
        assert!(!passes || passed || !whole, "{argv:?} passes as well now");
    }
    let real = case.real.take().expect("it was kept by its program");
    let found = case.found.take();
    case.real = Some(format!("{real}-canary"));
    let other = |file: &File| allows(&evaluate(file, &case.agent, &case.request(&case.argv)));
    assert!(
        !other(&file) || other(&case.file),
        "another program passes as well now"
    );
    (case.real, case.found) = (Some(real), found);
}

/// Longest pattern and path that are also tried the naive way.
const NAIVE_CHARS_MAX: usize = 12;

fn patterns_mean_what_they_say(file: &File, path: &str) {
    let lists = file.agents.values().map(|agent| &agent.allowlist);
    for pattern in lists.flatten().map(|entry| &entry.pattern) {
        let (wanted, chars): (Vec<char>, Vec<char>) =
            (pattern.chars().collect(), path.chars().collect());
        if wanted.len() <= NAIVE_CHARS_MAX && chars.len() <= NAIVE_CHARS_MAX {
            assert_eq!(
                glob(pattern, path),
                naive(&wanted, &chars),
                "{pattern:?} of {path:?}"
            );
        }
    }
}

/// The same as [`glob`], as one would say it.
fn naive(pattern: &[char], path: &[char]) -> bool {
    match pattern {
        [] => path.is_empty(),
        ['*', '*', rest @ ..] => {
            let rest = &rest[rest.iter().take_while(|c| **c == '*').count()..];
            (0..=path.len()).any(|taken| naive(rest, &path[taken..]))
        }
        ['*', rest @ ..] => {
            let part = path.iter().take_while(|c| **c != '/').count();
            (0..=part).any(|taken| naive(rest, &path[taken..]))
        }
        ['?', rest @ ..] => path.first().is_some_and(|c| *c != '/') && naive(rest, &path[1..]),
        ['\\', same, rest @ ..] => path.first() == Some(same) && naive(rest, &path[1..]),
        [same, rest @ ..] => path.first() == Some(same) && naive(rest, &path[1..]),
    }
}
