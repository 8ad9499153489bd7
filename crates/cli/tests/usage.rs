//! The command line itself: help, wrong usage, where things are taken from.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "support/terminal.rs"]
mod terminal;

use serde_json::json;
use terminal::Terminal;

#[test]
fn every_command_explains_itself() {
    let terminal = Terminal::new();
    let tree: &[&[&str]] = &[
        &[],
        &["gateway"],
        &["gateway", "run"],
        &["gateway", "probe"],
        &["gateway", "status"],
        &["gateway", "health"],
        &["gateway", "call"],
        &["gateway", "install"],
        &["gateway", "uninstall"],
        &["gateway", "start"],
        &["gateway", "stop"],
        &["gateway", "restart"],
        &["status"],
        &["health"],
        &["logs"],
        &["cron"],
        &["cron", "add"],
        &["cron", "list"],
        &["cron", "show"],
        &["cron", "edit"],
        &["cron", "enable"],
        &["cron", "disable"],
        &["cron", "rm"],
        &["cron", "run"],
        &["cron", "runs"],
        &["cron", "status"],
        &["devices"],
        &["devices", "list"],
        &["devices", "approve"],
        &["devices", "reject"],
        &["devices", "remove"],
        &["devices", "rotate"],
        &["devices", "revoke"],
        &["nodes"],
        &["nodes", "status"],
        &["nodes", "describe"],
        &["nodes", "list"],
        &["nodes", "pending"],
        &["nodes", "approve"],
        &["nodes", "reject"],
        &["nodes", "remove"],
        &["nodes", "rename"],
        &["nodes", "invoke"],
        &["nodes", "run"],
        &["nodes", "notify"],
        &["node"],
        &["node", "run"],
        &["tokens"],
        &["tokens", "create"],
        &["tokens", "list"],
        &["tokens", "revoke"],
        &["approvals"],
        &["approvals", "get"],
        &["approvals", "set"],
        &["approvals", "allowlist"],
        &["approvals", "allowlist", "add"],
        &["approvals", "allowlist", "remove"],
        &["approvals", "pending"],
        &["approvals", "allow"],
        &["approvals", "deny"],
        &["approvals", "watch"],
        &["auth"],
        &["auth", "explain"],
        &["auth", "can-i"],
        &["system"],
        &["system", "presence"],
        &["system", "event"],
        &["system", "heartbeat"],
        &["system", "heartbeat", "last"],
        &["system", "heartbeat", "enable"],
        &["system", "heartbeat", "disable"],
        &["config"],
        &["config", "get"],
        &["config", "set"],
        &["config", "unset"],
        &["config", "patch"],
        &["config", "schema"],
        &["secrets"],
        &["secrets", "reload"],
        &["secrets", "audit"],
        &["config", "validate"],
        &["config", "file"],
        &["agents"],
        &["agents", "list"],
        &["agents", "bindings"],
        &["agents", "add"],
        &["agents", "set-identity"],
        &["agents", "delete"],
        &["models"],
        &["models", "list"],
        &["models", "status"],
        &["models", "set"],
        &["models", "probe"],
        &["skills"],
        &["skills", "list"],
        &["skills", "info"],
        &["skills", "check"],
        &["channels"],
        &["channels", "list"],
        &["channels", "status"],
        &["dashboard"],
        &["completion"],
        &["backup"],
        &["backup", "create"],
        &["backup", "verify"],
        &["backup", "restore"],
        &["backup", "list"],
        &["doctor"],
        &["bench"],
        &["bench", "connect"],
        &["bench", "rpc"],
        &["bench", "idle"],
        &["bench", "fanout"],
        &["bench", "cron-load"],
        &["bench", "cron-late"],
        &["bench", "start"],
        &["bench", "soak"],
        &["security"],
        &["security", "audit"],
    ];
    for path in tree {
        let mut args = path.to_vec();
        args.push("--help");
        let done = terminal.run(&args).exits(0).says("Usage: clawgate");
        if !path.is_empty() {
            drop(done.says("Examples:"));
        }
    }
    drop(
        terminal
            .run(&["--help"])
            .exits(0)
            .says("Exit codes:")
            .says("78  the configuration"),
    );
    drop(terminal.run(&["--version"]).exits(0).says("clawgate 0.1.0"));
}

#[test]
fn wrong_usage_exits_2_before_anything_is_sent() {
    let terminal = Terminal::new();
    for args in [
        &["nonsense"][..],
        &["gateway", "call"],
        &["gateway", "call", "status", "--params", "{x"],
        &["gateway", "probe", "--timeout", "soon"],
        &["gateway", "probe", "--timeout", "0"],
        &["gateway", "probe", "--token", ""],
        &["gateway", "probe", "--url", "ws://127.0.0.1:1"],
        &[
            "gateway",
            "probe",
            "--url",
            "http://127.0.0.1:1",
            "--token",
            "t",
        ],
        &[
            "gateway",
            "probe",
            "--url",
            "ws://example.org",
            "--token",
            "t",
        ],
        &[
            "gateway",
            "probe",
            "--url",
            "wss://u:canary@example.org",
            "--token",
            "t",
        ],
        &["gateway", "run", "--auth", "magic"],
        &["gateway", "run", "--bind", "bogus"],
        &["gateway", "run", "--token", "a", "--token-file", "b"],
        &["gateway", "--port", "1", "probe"],
        &["gateway", "probe", "--ssh", "me@host"],
        &["gateway", "probe", "--ssh-auto"],
        &["--dev", "status"],
        &["--log-level", "loud", "status"],
        &["completion", "--install"],
        &["completion", "-s", "bash", "--write-state", "-y"],
        &["gateway", "run", "--dev"],
        &["gateway", "run", "--tailscale", "serve"],
        &["cron", "add", "--name", "x"],
        &["cron", "add", "--name", "x", "--every", "10m"],
        &[
            "cron",
            "add",
            "--name",
            " ",
            "--every",
            "10m",
            "--message",
            "x",
        ],
        &[
            "cron",
            "add",
            "--name",
            "x",
            "--every",
            "10",
            "--message",
            "x",
        ],
        &[
            "cron",
            "add",
            "--name",
            "x",
            "--at",
            "tomorrow",
            "--message",
            "x",
        ],
        &[
            "cron",
            "add",
            "--name",
            "x",
            "--every",
            "1m",
            "--cron",
            "* * * * *",
            "--message",
            "x",
        ],
        &[
            "cron",
            "add",
            "--name",
            "x",
            "--every",
            "1m",
            "--tz",
            "UTC",
            "--message",
            "x",
        ],
        &[
            "cron",
            "add",
            "--name",
            "x",
            "--every",
            "1m",
            "--message",
            "x",
            "--system-event",
            "y",
        ],
        &[
            "cron",
            "add",
            "--name",
            "x",
            "--every",
            "1m",
            "--message",
            "x",
            "--session",
            "main",
        ],
        &[
            "cron",
            "add",
            "--name",
            "x",
            "--every",
            "1m",
            "--system-event",
            "x",
            "--session",
            "isolated",
        ],
        &[
            "cron",
            "add",
            "--name",
            "x",
            "--every",
            "1m",
            "--system-event",
            "x",
            "--announce",
        ],
        &[
            "cron",
            "add",
            "--name",
            "x",
            "--cron",
            "0 * * * *",
            "--exact",
            "--stagger",
            "1m",
            "--message",
            "x",
        ],
        &["cron", "edit", "id", "--enable", "--disable"],
        &["cron", "runs", "--id", "x", "--limit", "201"],
        &["tokens", "create", "--name", "x"],
        &[
            "tokens",
            "create",
            "--name",
            "x",
            "--scopes",
            "operator.everything",
        ],
        &[
            "tokens",
            "create",
            "--name",
            "x",
            "--scopes",
            "operator.read",
            "--expires",
            "soon",
        ],
        &["system", "event", "--text", "x", "--mode", "later"],
        &["logs", "--limit", "0"],
        &["completion"],
        &["completion", "tcsh"],
        &["--profile", "../x", "status"],
    ] {
        let done = terminal.run(args).exits(2).never_says("canary");
        assert!(
            done.stdout.is_empty() && !done.stderr.is_empty(),
            "{args:?}: {done:#?}"
        );
    }
}

#[test]
fn what_the_original_has_and_this_has_not_is_refused_with_the_way_to_have_it() {
    let terminal = Terminal::new();
    for (args, words, next) in [
        (
            &["--dev", "gateway", "run"][..],
            "there is no --dev",
            "clawgate --profile dev gateway run",
        ),
        (
            &["gateway", "probe", "--ssh", "h", "--ssh-identity", "k"],
            "no tunnel is opened",
            "ssh -N -L",
        ),
        (
            &["completion", "-i"],
            "files of a shell",
            "clawgate completion bash >",
        ),
        (
            &["gateway", "--port", "1", "status"],
            "--port is an option of gateway run",
            "",
        ),
    ] {
        drop(terminal.run(args).exits(2).complains(words).complains(next));
    }
}

#[test]
fn wrong_usage_is_json_where_json_was_asked_for() {
    let terminal = Terminal::new();
    for (args, words) in [
        (&["cron", "add", "--json"][..], "--name"),
        (&["status", "--json", "--nonsense"], "--nonsense"),
        (&["nonsense", "--json"], "nonsense"),
    ] {
        let error = terminal.run(args).exits(2).json_error();
        assert_eq!(
            (&error["kind"], &error["code"]),
            (&"usage".into(), &"USAGE".into())
        );
        assert!(
            error["message"].as_str().unwrap().contains(words),
            "{error}"
        );
    }
}

#[test]
fn gateway_run_takes_its_options_before_its_name_and_its_port_from_the_environment() {
    // Each start ends at once, at what only the option or variable under test can have caused.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let terminal = Terminal::new();
    for args in [
        &["gateway", "--port", &port, "run"][..],
        &["gateway", "--port", &port],
        &["gateway", "run", "--port", &port],
    ] {
        drop(terminal.run(args).exits(1).complains(&port));
    }
    let named = Terminal::new().env("CLAWGATE_GATEWAY_PORT", port.clone());
    drop(named.run(&["gateway", "run"]).exits(1).complains(&port));
    drop(named.run(&["gateway"]).exits(1).complains(&port));
    let wrong = Terminal::new().env("CLAWGATE_GATEWAY_PORT", "soon");
    drop(
        wrong
            .run(&["gateway", "run"])
            .exits(2)
            .complains("CLAWGATE_GATEWAY_PORT is no port: soon"),
    );
    drop(
        terminal
            .run(&["gateway", "--token-file", "/nowhere", "run"])
            .exits(78)
            .complains("cannot read the token file /nowhere"),
    );
}

#[test]
fn the_original_rejections_are_said_in_our_words() {
    let terminal = Terminal::new();
    let add = ["cron", "add", "--name", "bad", "--message", "x"];
    let with = |more: &[&'static str]| terminal.run(&[&add[..], more].concat()).exits(2);
    insta::assert_snapshot!(with(&[]).stderr, @"error: a job needs a schedule: exactly one of --at, --every and --cron");
    insta::assert_snapshot!(with(&["--at", "tomorrow"]).stderr, @r#"
    error: --at "tomorrow" is neither an ISO time nor a span
      next: --at 2026-12-01T09:00:00Z, or --at 20m for 20 minutes from now
    "#);
    insta::assert_snapshot!(with(&["--every", "1m", "--system-event", "y"]).stderr, @"error: a job needs a payload: exactly one of --system-event, --message and -- PROGRAM");
}

#[test]
fn completions_are_made_for_every_shell() {
    let terminal = Terminal::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        drop(
            terminal
                .run(&["completion", shell])
                .exits(0)
                .says("clawgate"),
        );
    }
    drop(
        terminal
            .run(&["completion", "--shell", "bash"])
            .exits(0)
            .says("clawgate"),
    );
}

#[test]
fn the_configuration_is_found_where_it_is_said_to_be() {
    let plain = Terminal::new();
    drop(
        plain
            .run(&["config", "file"])
            .exits(0)
            .says("~/.clawgate/clawgate.json"),
    );
    drop(
        plain
            .run(&["--profile", "lab", "config", "file"])
            .exits(0)
            .says("~/.clawgate-lab/clawgate.json"),
    );
    drop(
        plain
            .run(&["config", "file", "--state-dir", "/srv/x"])
            .exits(0)
            .says("/srv/x/clawgate.json"),
    );
    let theirs = Terminal::new().env("OPENCLAW_STATE_DIR", "/srv/theirs");
    drop(
        theirs
            .run(&["config", "file"])
            .exits(0)
            .says("/srv/theirs/clawgate.json"),
    );
    let both = theirs
        .env("CLAWGATE_STATE_DIR", "/srv/ours")
        .env("OPENCLAW_CONFIG_PATH", "/srv/c.json");
    drop(both.run(&["config", "file"]).exits(0).says("/srv/c.json"));
    // A state directory that was asked for brings its own along.
    for (args, path) in [
        (["--state-dir", "/srv/x"], "/srv/x/clawgate.json"),
        (["--profile", "lab"], "~/.clawgate-lab/clawgate.json"),
    ] {
        let done = both
            .run(&[&args[..], &["config", "file"]].concat())
            .exits(0);
        drop(done.says(path));
    }
    let report = both.run(&["config", "file", "--json"]).exits(0).json();
    assert_eq!(report["path"], "/srv/c.json");
    drop(
        both.run(&["config", "file", "--config", "/srv/flag.json"])
            .exits(0)
            .says("/srv/flag.json"),
    );
}

#[test]
fn the_configuration_is_read_with_secrets_masked() {
    let terminal = Terminal::new().config(
        "// mine\n{gateway: {mode: 'local', port: 18911, auth: {mode: 'token', token: 'canary'}}}",
    );
    let done = terminal
        .run(&["config", "get", "gateway", "--json"])
        .exits(0)
        .never_says("canary");
    assert_eq!(done.json()["auth"]["token"], "__OPENCLAW_REDACTED__");
    assert_eq!(
        terminal
            .run(&["config", "get", "gateway.port"])
            .exits(0)
            .stdout,
        "18911\n"
    );
    assert_eq!(
        terminal
            .run(&["config", "get", "gateway.mode"])
            .exits(0)
            .stdout,
        "local\n"
    );
    drop(
        terminal
            .run(&["config", "get", "nope.nope"])
            .exits(1)
            .complains("nope.nope is not set"),
    );
    let report = terminal
        .run(&["config", "validate", "--json"])
        .exits(0)
        .json();
    assert_eq!(report["valid"], true);
}

#[test]
fn what_the_gateway_masks_is_masked_here_too() {
    let terminal = Terminal::new().config(
        r#"{"models": {"headers": {"x-key": "canary"}, "proxy": "http://u:canary@h.example",
            "clientSecretValue": "canary", "name": "plain"}}"#,
    );
    for path in [
        "models",
        "models.headers.x-key",
        "models.proxy",
        "models.clientSecretValue",
    ] {
        drop(
            terminal
                .run(&["config", "get", path])
                .exits(0)
                .says("__OPENCLAW_REDACTED__")
                .never_says("canary"),
        );
    }
    assert_eq!(
        terminal.run(&["config", "get", "models.name"]).stdout,
        "plain\n"
    );
}

#[test]
fn validate_and_run_agree_about_a_configuration() {
    // What `gateway run` refuses before it listens, `config validate` refuses with the same words.
    for (text, place) in [
        ("{gateway: {port: }", "is not JSON5"),
        ("{gateway: {bind: 'tailnet'}}", "gateway.bind"),
        (
            "{gateway: {auth: {token: 'a', password: 'b'}}}",
            "gateway.auth.mode",
        ),
        (
            "{gateway: {auth: {token: '${CLAWGATE_IS_NOT_SET}'}}}",
            "CLAWGATE_IS_NOT_SET",
        ),
        ("{gateway: {proxy: {unattributed: 'x'}}}", "unattributed"),
        ("{cron: {enabled: 'yes'}}", "cron.enabled"),
    ] {
        let terminal = Terminal::new().config(text);
        drop(
            terminal
                .run(&["config", "validate"])
                .exits(1)
                .says(place)
                .never_says("next: "),
        );
        let report = terminal
            .run(&["config", "validate", "--json"])
            .exits(1)
            .json();
        assert_eq!(report["valid"], false);
        assert!(report["path"].as_str().unwrap().ends_with("clawgate.json"));
        assert!(report["issues"].to_string().contains(place), "{report}");
        drop(terminal.run(&["gateway", "run", "--port", "0"]).exits(78));
    }
    // The password may be in the environment, for both.
    let password = Terminal::new().config("{gateway: {auth: {mode: 'password'}}}");
    drop(password.run(&["config", "validate"]).exits(1));
    let password = password.env("CLAWGATE_GATEWAY_PASSWORD", "canary");
    drop(password.run(&["config", "validate"]).exits(0));
    let odd = Terminal::new().config("{gatway: {}, gateway: {port: 0}}");
    let report = odd.run(&["config", "validate", "--json"]).exits(0).json();
    assert_eq!(report["warnings"][0]["path"], "gatway");
    drop(
        odd.run(&["config", "validate"])
            .exits(0)
            .says("gatway: unknown key, ignored (warning)"),
    );
}

#[test]
fn a_configuration_that_cannot_be_used_exits_78_and_names_the_place() {
    let broken = Terminal::new().config("{gateway: {port: }");
    drop(broken.run(&["health"]).exits(78).complains("clawgate.json"));
    let wrong = Terminal::new().config(r#"{"gateway":{"auth":{"token":5}}}"#);
    drop(
        wrong
            .run(&["health"])
            .exits(78)
            .complains("gateway.auth.token")
            .complains("config validate"),
    );
    drop(
        wrong
            .run(&["config", "validate"])
            .exits(1)
            .says("gateway.auth.token: expected a string, found a number"),
    );
    assert_eq!(
        wrong.run(&["health", "--json"]).exits(78).json_error()["kind"],
        "config"
    );
    let remote = Terminal::new().config(r#"{"gateway":{"mode":"remote"}}"#);
    drop(
        remote
            .run(&["health"])
            .exits(78)
            .complains("gateway.remote.url is missing"),
    );
    drop(
        remote
            .run(&["gateway", "run"])
            .exits(78)
            .complains("gateway.mode"),
    );
    let identity = Terminal::new().config("{}");
    let path = identity.state_dir().join("identity");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("device.json"), "canary").unwrap();
    drop(
        identity
            .run(&["health"])
            .exits(78)
            .complains("device.json")
            .never_says("canary"),
    );
}

#[test]
fn the_address_has_the_port_the_base_path_and_the_token_where_no_server_sees_it() {
    let terminal = Terminal::new().config(
        r#"{"gateway": {"port": 4711, "auth": {"token": "a b/ü"},
            "controlUi": {"basePath": "desk/", "root": "/srv/ui"}}}"#,
    );
    let url = "http://127.0.0.1:4711/desk/#token=a%20b%2F%C3%BC";
    let done = terminal.run(&["dashboard"]).exits(0).says(url);
    drop(done.never_says("names no directory"));
    let told = terminal.run(&["dashboard", "--json", "--no-open"]).exits(0);
    assert_eq!(told.json(), json!({"url": url, "tokenIncluded": true}));
}

#[test]
fn a_password_is_never_in_the_address_and_a_missing_ui_is_said() {
    let terminal = Terminal::new()
        .config(r#"{"gateway": {"auth": {"mode": "password", "password": "hunter-22"}}}"#);
    let done = terminal
        .run(&["dashboard"])
        .exits(0)
        .says("http://127.0.0.1:18789/")
        .complains("asks for the password")
        .complains("gateway.controlUi.root")
        .never_says("hunter-22");
    drop(done);
}
