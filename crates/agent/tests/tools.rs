//! Files and programs as a model meets them, on a real disk and with real processes.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use clawgate_agent::{
    Output, Tool,
    sandbox::{self, Bounds, Spec},
    tools::{
        ApplyPatch, Edit, Exec, ExecCommand, ExecSettings, Files, Launcher, Permit, Permitting,
        Process, Processes, Read, Refusal, SandboxMode, Write,
    },
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// A workspace beside a secret that nothing may reach.
struct Place {
    dir: PathBuf,
    workspace: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("clawgate-tools-{}", uuid::Uuid::new_v4()));
        let workspace = dir.join("ws");
        fs::create_dir_all(&workspace).expect("it works in tests");
        fs::write(dir.join("secret"), "canary").expect("it works in tests");
        Self { dir, workspace }
    }

    fn files(&self) -> Files {
        Files::open(&self.workspace, &[]).expect("it works in tests")
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.workspace.join(name), text).expect("it works in tests");
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.workspace.join(name)).expect("it works in tests")
    }

    /// Names in the workspace.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.workspace)
            .expect("it works in tests")
            .map(|entry| {
                entry
                    .expect("it works in tests")
                    .file_name()
                    .into_string()
                    .expect("it works in tests")
            })
            .collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

async fn call(tool: &dyn Tool, arguments: Value) -> Output {
    let stop = CancellationToken::new();
    let called = tool.call(&arguments, &stop);
    tokio::time::timeout(Duration::from_secs(30), called)
        .await
        .expect("within 30 s")
}

async fn fails(tool: &dyn Tool, arguments: Value, why: &str) {
    let output = call(tool, arguments.clone()).await;
    assert!(output.is_error, "{arguments}: {output:?}");
    assert!(output.text.contains(why), "{arguments}: {}", output.text);
    assert!(!output.text.contains("canary"), "{}", output.text);
}

#[tokio::test]
async fn a_file_is_read_by_its_lines() {
    let place = Place::new();
    place.put("a.txt", "one\ntwo\nthree\n");
    let read = Read::new(&place.files());
    let whole = call(&read, json!({"path": "a.txt"})).await;
    assert_eq!(whole.text, "one\ntwo\nthree\n");
    let absolute = place.workspace.join("a.txt").display().to_string();
    let part = call(
        &read,
        json!({"file_path": absolute, "offset": 2, "limit": 1}),
    )
    .await;
    assert!(part.text.starts_with("two\n["), "{}", part.text);
    assert!(part.text.contains("offset 3"), "{}", part.text);
    fails(&read, json!({"path": "a.txt", "offset": 9}), "has 3 lines").await;
    fails(&read, json!({"path": "none.txt"}), "not there").await;
    fails(&read, json!({}), "missing").await;
    fails(&read, json!("a.txt"), "no JSON object").await;
    fails(&read, json!({"path": "."}), "a.txt").await;
}

#[tokio::test]
async fn huge_and_binary_files_do_not_come_whole() {
    let place = Place::new();
    place.put("long.txt", "0123456789\n".repeat(100_000));
    place.put("line.txt", "x".repeat(1_000_000));
    place.put("image.png", [137, 80, 78, 71, 0, 0, 0, 1]);
    let read = Read::new(&place.files());
    let mut offset = 1;
    for _ in 0..3 {
        let page = call(&read, json!({"path": "long.txt", "offset": offset})).await;
        assert!(page.text.len() < 52 * 1024, "{}", page.text.len());
        offset += page.details.unwrap()["lines"].as_u64().unwrap();
        assert!(page.text.contains(&format!("offset {offset}")));
    }
    assert_eq!(offset, 6_001);
    let line = call(&read, json!({"path": "line.txt"})).await;
    assert!(line.text.len() < 52 * 1024);
    assert!(line.text.contains("was cut"));
    fails(&read, json!({"path": "image.png"}), "no text").await;
}

#[tokio::test]
async fn nothing_outside_the_workspace_is_reached() {
    let place = Place::new();
    let outside = place.dir.join("secret");
    symlink(&outside, place.workspace.join("absolute")).unwrap();
    symlink("../secret", place.workspace.join("relative")).unwrap();
    symlink("..", place.workspace.join("up")).unwrap();
    symlink("/proc/self/root", place.workspace.join("magic")).unwrap();
    symlink("/", place.workspace.join("root")).unwrap();
    fs::create_dir(place.workspace.join("sub")).unwrap();
    let files = place.files();
    let (read, write, edit) = (Read::new(&files), Write::new(&files), Edit::new(&files));
    let patch = ApplyPatch::new(&files);
    let absolute = outside.display().to_string();
    let magic = format!("magic{absolute}");
    for path in [
        "../secret",
        "sub/../../secret",
        absolute.as_str(),
        "absolute",
        "relative",
        "up/secret",
        magic.as_str(),
        "root/etc/passwd",
        "/etc/passwd",
        "/proc/self/environ",
        "a\0b",
        "",
    ] {
        fails(&read, json!({"path": path}), "").await;
        fails(&write, json!({"path": path, "content": "x"}), "").await;
        let change = json!({"path": path, "oldText": "canary", "newText": "x"});
        fails(&edit, change, "").await;
        for act in ["Add File", "Delete File"] {
            let input = format!("*** Begin Patch\n*** {act}: {path}\n*** End Patch");
            fails(&patch, json!({"input": input}), "nothing was changed").await;
        }
    }
    // A link that stays inside is followed for reading.
    place.put("real.txt", "here");
    symlink("real.txt", place.workspace.join("alias")).unwrap();
    assert_eq!(call(&read, json!({"path": "alias"})).await.text, "here");
    fails(
        &write,
        json!({"path": "alias", "content": "x"}),
        "is a link",
    )
    .await;
    assert_eq!(fs::read_to_string(&outside).unwrap(), "canary");
    assert!(!place.names().iter().any(|name| name.ends_with(".new")));
}

#[tokio::test]
async fn pipes_and_devices_are_neither_waited_for_nor_replaced() {
    let place = Place::new();
    let fifo = place.workspace.join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let files = place.files();
    fails(
        &Read::new(&files),
        json!({"path": "fifo"}),
        "no regular file",
    )
    .await;
    let write = json!({"path": "fifo", "content": "x"});
    fails(&Write::new(&files), write, "no regular file").await;
}

#[tokio::test]
async fn further_directories_can_be_read_and_not_written() {
    let place = Place::new();
    let skills = place.dir.join("skills");
    fs::create_dir(&skills).unwrap();
    fs::write(skills.join("SKILL.md"), "how").unwrap();
    symlink("../secret", skills.join("out")).unwrap();
    let files = Files::open(&place.workspace, std::slice::from_ref(&skills)).unwrap();
    let path = |name: &str| skills.join(name).display().to_string();
    let read = Read::new(&files);
    let known = call(&read, json!({"path": path("SKILL.md")})).await;
    assert_eq!(known.text, "how");
    fails(&read, json!({"path": path("out")}), "leads out").await;
    let change = json!({"path": path("SKILL.md"), "content": "x"});
    fails(&Write::new(&files), change, "can be read and not changed").await;
}

#[tokio::test]
async fn a_file_is_written_whole_with_its_directories_and_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let write = Write::new(&place.files());
    let new = json!({"path": "a/b/c.txt", "content": "text"});
    assert!(!call(&write, new).await.is_error);
    assert_eq!(place.text("a/b/c.txt"), "text");
    place.put("run.sh", "old");
    let script = place.workspace.join("run.sh");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let changed = json!({"path": "./run.sh", "content": "new"});
    assert!(!call(&write, changed).await.is_error);
    assert_eq!(place.text("run.sh"), "new");
    assert_eq!(
        script.metadata().unwrap().permissions().mode() & 0o777,
        0o755
    );
    assert_eq!(place.names(), ["a", "run.sh"]);
    fails(
        &write,
        json!({"path": "a", "content": "x"}),
        "is a directory",
    )
    .await;
    fails(
        &write,
        json!({"path": "run.sh/x", "content": "x"}),
        "no directory",
    )
    .await;
}

#[tokio::test]
async fn a_passage_is_replaced_only_where_it_stands_once() {
    let place = Place::new();
    place.put("a.txt", "one\r\ntwo\r\ntwo\r\nthree\r\n");
    place.put("b.bin", [0xff, 0xfe]);
    let edit = Edit::new(&place.files());
    let change = |old: &str, new: &str| json!({"path": "a.txt", "oldText": old, "newText": new});
    fails(&edit, change("two", "x"), "2 times").await;
    fails(&edit, change("four", "x"), "does not stand there").await;
    fails(&edit, change("one", "one"), "the same").await;
    fails(&edit, change("", "x"), "empty").await;
    let output = call(&edit, change("one\ntwo", "1\n2")).await;
    assert!(!output.is_error, "{}", output.text);
    assert_eq!(place.text("a.txt"), "1\r\n2\r\ntwo\r\nthree\r\n");
    let binary = json!({"path": "b.bin", "old_string": "a", "new_string": "b"});
    fails(&edit, binary, "no UTF-8").await;
    let missing = json!({"path": "c", "oldText": "a", "newText": "b"});
    fails(&edit, missing, "write makes").await;
}

#[tokio::test]
async fn a_patch_changes_all_of_its_files_or_none() {
    let place = Place::new();
    place.put("old.txt", "a\nb\nc\n");
    place.put("gone.txt", "x\n");
    let patch = ApplyPatch::new(&place.files());
    let half = "*** Begin Patch\n*** Add File: new.txt\n+n\n*** Delete File: gone.txt\n*** Update \
                File: old.txt\n@@\n-nowhere\n+x\n*** End Patch";
    fails(&patch, json!({"input": half}), "old.txt does not fit").await;
    assert_eq!(place.names(), ["gone.txt", "old.txt"]);
    assert_eq!(place.text("old.txt"), "a\nb\nc\n");
    for (input, why) in [
        ("*** Add File: old.txt\n+x", "there already"),
        ("*** Delete File: none", "not there"),
        ("*** Update File: none\n@@\n-x", "not there"),
        (
            "*** Update File: old.txt\n*** Move to: gone.txt\n@@\n-b",
            "there already",
        ),
        (
            "*** Update File: old.txt\n*** Move to: ../out\n@@\n-b",
            "leads out",
        ),
    ] {
        let input = format!("*** Begin Patch\n{input}\n*** End Patch");
        fails(&patch, json!({"input": input}), why).await;
        assert_eq!(place.names(), ["gone.txt", "old.txt"]);
    }
    let whole = "*** Begin Patch\n*** Add File: d/new.txt\n+n\n*** Delete File: gone.txt\n*** \
                 Update File: old.txt\n*** Move to: moved.txt\n@@\n a\n-b\n+B\n*** End Patch";
    let output = call(&patch, json!({"input": whole})).await;
    assert!(!output.is_error, "{}", output.text);
    assert_eq!(place.names(), ["d", "moved.txt"]);
    assert_eq!(place.text("moved.txt"), "a\nB\nc\n");
    assert_eq!(place.text("d/new.txt"), "n\n");
}

/// Lets everything run, or nothing, and keeps what it was asked.
#[derive(Default)]
struct Asked {
    refusal: Option<Refusal>,
    commands: Mutex<Vec<ExecCommand>>,
}

impl Permit for Asked {
    fn permit<'a>(&'a self, command: &'a ExecCommand) -> Permitting<'a> {
        self.commands
            .lock()
            .expect("it works in tests")
            .push(command.clone());
        Box::pin(async move { self.refusal.clone().map_or(Ok(()), Err) })
    }
}

struct Shell {
    place: Place,
    processes: Processes,
    exec: Exec,
    process: Process,
    asked: Arc<Asked>,
    marks: String,
}

impl Shell {
    fn new() -> Self {
        Self::with(None, Duration::from_secs(20))
    }

    fn with(refusal: Option<Refusal>, timeout: Duration) -> Self {
        Self::launched(None, refusal, timeout)
    }

    fn launched(launcher: Option<Launcher>, refusal: Option<Refusal>, timeout: Duration) -> Self {
        let place = Place::new();
        let marks = format!("test-{}", uuid::Uuid::new_v4().simple());
        let processes = Processes::new(launcher, &marks);
        let asked = Arc::new(Asked {
            refusal,
            ..Asked::default()
        });
        let settings = ExecSettings {
            owner: "agent:main:main".to_owned(),
            run_id: "run".to_owned(),
            workspace: place.workspace.clone(),
            path: "/usr/bin:/bin".to_owned(),
            temp: None,
            sandbox: SandboxMode::Off,
            bounds: Bounds::default(),
            timeout,
        };
        Self {
            exec: Exec::new(settings, &processes, Arc::clone(&asked) as Arc<dyn Permit>),
            process: Process::new("agent:main:main", &processes),
            place,
            processes,
            asked,
            marks,
        }
    }

    async fn run(&self, command: &str) -> Output {
        call(&self.exec, json!({"command": command})).await
    }

    async fn attend(&self, action: &str, id: &str, more: Value) -> Output {
        let mut arguments = json!({"action": action, "sessionId": id});
        let members = more.as_object().expect("it works in tests").clone();
        arguments
            .as_object_mut()
            .expect("it works in tests")
            .extend(members);
        call(&self.process, arguments).await
    }

    /// Living processes that this test started.
    fn left(&self) -> usize {
        fs::read_dir("/proc")
            .expect("it works in tests")
            .flatten()
            .filter_map(|entry| fs::read(entry.path().join("environ")).ok())
            .filter(|environ| {
                String::from_utf8_lossy(environ)
                    .contains(&format!("CLAWGATE_EXEC_ID={}", self.marks))
            })
            .count()
    }

    async fn until_left(&self, wanted: impl Fn(usize) -> bool) {
        let began = Instant::now();
        while !wanted(self.left()) {
            assert!(began.elapsed() < Duration::from_secs(10), "{}", self.left());
            tokio::task::yield_now().await;
        }
    }
}

fn id_of(output: &Output) -> String {
    output.details.as_ref().expect("it works in tests")["sessionId"]
        .as_str()
        .expect("it works in tests")
        .to_owned()
}

#[tokio::test]
async fn a_program_says_what_it_says_and_how_it_ended() {
    let shell = Shell::new();
    let output = shell.run("echo out; echo err >&2; pwd").await;
    let real = shell.place.workspace.canonicalize().unwrap();
    for line in ["out", "err", &real.display().to_string()] {
        assert!(output.text.contains(line), "{}", output.text);
    }
    let details = output.details.unwrap();
    assert_eq!(details["status"], "completed");
    assert_eq!(details["exitCode"], 0);
    assert_eq!(details["sandbox"]["files"], false);
    assert!(output.text.contains("without a sandbox"), "{}", output.text);
    let failed = shell.run("echo partly; exit 3").await;
    assert!(failed.is_error);
    assert!(failed.text.contains("partly") && failed.text.contains("exit code 3"));
    assert_eq!(failed.details.unwrap()["exitCode"], 3);
    let missing = shell.run("no-such-program-here").await;
    assert!(
        missing.is_error && missing.text.contains("not found"),
        "{}",
        missing.text
    );
    assert_eq!(shell.processes.running(), 0);
}

#[tokio::test]
async fn what_is_judged_is_what_runs() {
    let shell = Shell::new();
    shell.run("ls -la .").await;
    shell.run("ls | wc -l").await;
    let asked = shell.asked.commands.lock().unwrap().clone();
    assert_eq!(asked[0].argv, ["ls", "-la", "."]);
    assert!(asked[0].found.ends_with("ls"));
    assert_eq!(asked[1].argv, ["/bin/sh", "-c", "ls | wc -l"]);
    assert_eq!(asked[1].found, Path::new("/bin/sh"));
}

#[tokio::test]
async fn a_refused_command_does_not_run_and_says_why() {
    let refusal = Refusal {
        reason: "unattended".to_owned(),
        text: "nobody is there to allow it".to_owned(),
    };
    let shell = Shell::with(Some(refusal), Duration::from_secs(5));
    let output = shell.run("touch made").await;
    assert!(output.is_error);
    assert_eq!(output.text, "nobody is there to allow it");
    let details = output.details.unwrap();
    assert_eq!(details["status"], "denied");
    assert_eq!(details["reason"], "unattended");
    assert!(shell.place.names().is_empty());
}

#[tokio::test]
async fn programs_do_not_see_secrets_nor_variables_that_choose_what_runs() {
    let shell = Shell::new();
    let output = call(
        &shell.exec,
        json!({"command": "env", "env": {"GREETING": "hi"}}),
    )
    .await;
    let known = [
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "TZ",
        "PATH",
        "TERM",
        "GREETING",
        "PWD",
        "SHLVL",
        "_",
        "CLAWGATE_RUN_ID",
        "CLAWGATE_EXEC_ID",
    ];
    assert!(output.text.contains("GREETING=hi"));
    for line in output.text.lines().filter(|line| line.contains('=')) {
        let name = line.split('=').next().unwrap();
        assert!(known.contains(&name) || name.starts_with("LC_"), "{line}");
    }
    for name in ["LD_PRELOAD", "PATH", "BASH_ENV", "CLAWGATE_EXEC_ID"] {
        let mut arguments = json!({"command": "env"});
        arguments["env"][name] = "x".into();
        fails(&shell.exec, arguments, "cannot be set").await;
    }
}

#[tokio::test]
async fn output_is_bounded_and_its_end_is_kept() {
    let shell = Shell::new();
    let output = shell
        .run("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); echo line $i; done")
        .await;
    assert!(output.text.chars().count() < 31_000);
    assert!(output.text.contains("line 100000\n"), "the end");
    assert!(output.text.contains("left out"));
    assert!(!output.text.contains("line 1\n"));
}

#[tokio::test]
async fn its_time_is_bounded_and_its_whole_tree_ends() {
    let shell = Shell::with(None, Duration::from_millis(300));
    let output = shell
        .run("trap '' TERM; setsid sleep 300 & sleep 300")
        .await;
    assert!(
        output.is_error && output.text.contains("were over"),
        "{}",
        output.text
    );
    assert_eq!(output.details.unwrap()["timedOut"], true);
    assert_eq!(shell.left(), 0);
    // One that ends by itself leaves nothing behind either.
    let output = shell
        .run("setsid sleep 300 & sleep 300 & echo started")
        .await;
    assert!(output.text.contains("started"), "{}", output.text);
    assert_eq!(shell.left(), 0);
}

#[tokio::test]
async fn a_turn_that_stops_ends_its_program() {
    let shell = Shell::new();
    let stop = CancellationToken::new();
    let arguments = json!({"command": "setsid sleep 300 & sleep 300; true"});
    let called = shell.exec.call(&arguments, &stop);
    let begun = async {
        shell.until_left(|left| left >= 2).await;
        stop.cancel();
    };
    let (output, ()) = tokio::join!(called, begun);
    assert!(output.is_error && output.text.contains("stopped"));
    assert_eq!(shell.left(), 0);
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_nothing() {
    let shell = Shell::new();
    let stop = CancellationToken::new();
    let arguments = json!({"command": "sleep 300; true"});
    tokio::select! {
        _ = shell.exec.call(&arguments, &stop) => panic!("it ended"),
        () = shell.until_left(|left| left > 0) => {}
    }
    shell.until_left(|left| left == 0).await;
}

#[tokio::test]
async fn what_takes_long_goes_on_in_the_background_and_can_be_attended_to() {
    let shell = Shell::new();
    let arguments = json!({"command": "echo begun; sleep 300; true", "yieldMs": 200});
    let output = call(&shell.exec, arguments).await;
    assert!(
        !output.is_error && output.text.contains("begun"),
        "{}",
        output.text
    );
    assert_eq!(output.details.as_ref().unwrap()["status"], "running");
    let id = id_of(&output);
    let list = call(&shell.process, json!({"action": "list"})).await;
    assert!(list.text.contains(&id) && list.text.contains("running"));
    let stranger = Process::new("agent:other:main", &shell.processes);
    fails(
        &stranger,
        json!({"action": "poll", "sessionId": id}),
        "no session",
    )
    .await;
    let killed = shell.attend("kill", &id, json!({})).await;
    assert!(killed.text.contains("ended"), "{}", killed.text);
    assert_eq!(shell.left(), 0);
    assert!(
        shell
            .attend("log", &id, json!({}))
            .await
            .text
            .contains("begun")
    );
    assert!(!shell.attend("remove", &id, json!({})).await.is_error);
    let list = call(&shell.process, json!({"action": "list"})).await;
    assert_eq!(list.text, "nothing runs");
}

#[tokio::test]
async fn a_background_program_reads_what_is_written_to_it() {
    let shell = Shell::new();
    let arguments = json!({"command": "while read line; do echo got $line; done; echo bye; true",
                           "background": true});
    let id = id_of(&call(&shell.exec, arguments).await);
    assert!(
        !shell
            .attend("submit", &id, json!({"data": "one"}))
            .await
            .is_error
    );
    let news = shell.attend("poll", &id, json!({"timeout": 10_000})).await;
    assert!(news.text.contains("got one"), "{}", news.text);
    let written = shell
        .attend("write", &id, json!({"data": "two\n", "eof": true}))
        .await;
    assert!(!written.is_error, "{}", written.text);
    let mut said = String::new();
    while !said.contains("it is done") {
        said += &shell
            .attend("poll", &id, json!({"timeout": 10_000}))
            .await
            .text;
    }
    assert!(said.contains("got two") && said.contains("bye"), "{said}");
    assert!(!said.contains("got one"), "told twice: {said}");
}

#[tokio::test]
async fn the_end_of_a_run_and_of_the_gateway_end_what_is_left() {
    let shell = Shell::new();
    for _ in 0..2 {
        let arguments =
            json!({"command": "setsid sleep 300 & sleep 300; true", "background": true});
        assert!(!call(&shell.exec, arguments).await.is_error);
    }
    shell.until_left(|left| left >= 4).await;
    shell.processes.end_run("another").await;
    assert_eq!(shell.processes.running(), 2);
    shell.processes.end_run("run").await;
    assert_eq!((shell.processes.running(), shell.left()), (0, 0));
    let again = json!({"command": "sleep 300", "background": true});
    assert!(!call(&shell.exec, again.clone()).await.is_error);
    shell.processes.stop().await;
    assert_eq!((shell.processes.running(), shell.left()), (0, 0));
    fails(&shell.exec, again, "stopping").await;
}

#[tokio::test]
async fn no_more_programs_run_at_once_than_may() {
    let shell = Shell::new();
    let arguments = json!({"command": "sleep 300", "background": true});
    for _ in 0..32 {
        assert!(!call(&shell.exec, arguments.clone()).await.is_error);
    }
    fails(&shell.exec, arguments, "32 programs").await;
    shell.processes.stop().await;
    assert_eq!(shell.left(), 0);
}

#[test]
fn a_runtime_that_ends_takes_its_programs_with_it() {
    let shell = Shell::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let arguments =
            json!({"command": "setsid sleep 300 & sleep 300; true", "background": true});
        assert!(!call(&shell.exec, arguments).await.is_error);
        shell.until_left(|left| left >= 2).await;
    });
    drop(runtime);
    let began = Instant::now();
    while shell.left() > 0 {
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
}

/// Not a test of its own: started again with a spec, this binary becomes the program.
#[test]
fn become_a_program() {
    let last = std::env::args().next_back().unwrap_or_default();
    if let Ok(spec) = serde_json::from_str::<Spec>(&last) {
        panic!("{}", sandbox::enter(&spec));
    }
}

#[tokio::test]
async fn a_program_with_a_terminal_can_be_typed_to() {
    let arguments = [
        "--exact",
        "become_a_program",
        "--nocapture",
        "--test-threads=1",
    ];
    let launcher = Launcher {
        program: std::env::current_exe().unwrap(),
        arguments: arguments.map(str::to_owned).to_vec(),
    };
    let shell = Shell::launched(Some(launcher), None, Duration::from_secs(20));
    let arguments = json!({"command": "tty; stty size; cat; echo bye", "pty": true,
                           "background": true});
    let id = id_of(&call(&shell.exec, arguments).await);
    let mut said = String::new();
    while !said.contains("40 120") {
        said += &shell
            .attend("poll", &id, json!({"timeout": 10_000}))
            .await
            .text;
    }
    assert!(said.contains("/dev/pts/"), "{said}");
    shell.attend("submit", &id, json!({"data": "hello"})).await;
    // What the terminal echoes, and what the program says.
    while said.matches("hello").count() < 2 {
        said += &shell
            .attend("poll", &id, json!({"timeout": 10_000}))
            .await
            .text;
    }
    let keys = json!({"keys": ["C-d"]});
    assert!(!shell.attend("send-keys", &id, keys).await.is_error);
    while !said.contains("it is done") {
        said += &shell
            .attend("poll", &id, json!({"timeout": 10_000}))
            .await
            .text;
    }
    assert!(said.contains("bye"), "{said}");
    assert_eq!(shell.left(), 0);
}
