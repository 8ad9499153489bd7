//! The files of a Control UI, what stands around them, and what no path leads to.

use std::{fs, os::unix::fs::symlink};

use clawgate_testkit::{
    Client, Connect, HttpAnswer, TOKEN, TestGateway, gateway, home, request, token_config,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const INDEX: &str = "<!doctype html><title>the page</title>";
const SECRET: &str = "canary-outside-of-the-root";

/// A built UI, and a file beside it that nobody may read.
fn built() -> TempDir {
    let dir = TempDir::new().expect("a temporary directory can be made");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("it lies in the directory"))
            .expect("the directory can be written");
        fs::write(path, text).expect("the directory can be written");
    };
    write("secret.txt", SECRET);
    write("ui/index.html", INDEX);
    write("ui/favicon.svg", "<svg/>");
    write("ui/assets/index-UvgeZ3yV.js", "let a = 1;");
    write("ui/assets/index-UvgeZ3yV.js.map", SECRET);
    write("ui/assets/plain.css", "a{}");
    write("ui/assets/large-00000000.js", &"x".repeat(700_000));
    write("ui/.env", SECRET);
    write("ui/.git/config", SECRET);
    symlink("../secret.txt", dir.path().join("ui/link.txt")).expect("the directory can be written");
    symlink("..", dir.path().join("ui/up")).expect("the directory can be written");
    symlink("/etc/hostname", dir.path().join("ui/assets/abs.js"))
        .expect("the directory can be written");
    dir
}

fn serving(dir: &TempDir, more: &Value) -> TestGateway {
    let mut config = token_config();
    let root = dir.path().join("ui").display().to_string();
    config["gateway"]["controlUi"] = json!({"root": root});
    for (key, value) in more.as_object().expect("an object") {
        config["gateway"]["controlUi"][key] = value.clone();
    }
    gateway!(config)
}

fn get(gateway: &TestGateway, path: &str) -> HttpAnswer {
    request(gateway.address(), "GET", path, &[])
}

/// Changes the configuration while the gateway runs.
fn patch(owner: &mut Client, patch: &Value) {
    let hash = owner.call("config.get", &json!({}))["hash"].clone();
    let params = json!({"raw": patch.to_string(), "baseHash": hash});
    let told = owner.call("config.patch", &params);
    assert_eq!(told["restart"]["needed"], json!([]), "{told}");
}

#[track_caller]
fn is_guarded(answer: &HttpAnswer, what: &str) {
    let policy = answer.header("content-security-policy").unwrap_or_default();
    assert!(
        policy.contains("frame-ancestors 'none'"),
        "{what}: {policy}"
    );
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        (
            "permissions-policy",
            "camera=(), microphone=(), geolocation=()",
        ),
    ] {
        assert_eq!(answer.header(name), Some(value), "{what}: {name}");
    }
}

#[test]
fn e48_a_built_ui_is_served_with_its_types_and_its_single_page() {
    let dir = built();
    let gateway = serving(&dir, &json!({}));
    for (path, kind, cache, body) in [
        ("/", "text/html; charset=utf-8", "no-cache", INDEX),
        ("/index.html", "text/html; charset=utf-8", "no-cache", INDEX),
        ("/chat", "text/html; charset=utf-8", "no-cache", INDEX),
        ("/chat/", "text/html; charset=utf-8", "no-cache", INDEX),
        (
            "/agents/x?tab=1",
            "text/html; charset=utf-8",
            "no-cache",
            INDEX,
        ),
        ("/favicon.svg", "image/svg+xml", "no-cache", "<svg/>"),
        (
            "/assets/index-UvgeZ3yV.js",
            "application/javascript; charset=utf-8",
            "public, max-age=31536000, immutable",
            "let a = 1;",
        ),
        (
            "/assets/plain.css",
            "text/css; charset=utf-8",
            "no-cache",
            "a{}",
        ),
        // Relative to a page that lies deeper.
        (
            "/agents/assets/plain.css",
            "text/css; charset=utf-8",
            "no-cache",
            "a{}",
        ),
    ] {
        let answer = get(&gateway, path);
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert_eq!(answer.header("cache-control"), Some(cache), "{path}");
        is_guarded(&answer, path);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("script-src 'self';"), "{policy}");
        let head = request(gateway.address(), "HEAD", path, &[]);
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        let length = body.len().to_string();
        assert_eq!(
            head.header("content-length"),
            Some(length.as_str()),
            "{path}"
        );
    }
    let large = get(&gateway, "/assets/large-00000000.js");
    assert_eq!(large.body.len(), 700_000);
}

#[test]
fn who_has_a_file_is_not_sent_it_again_until_it_changes() {
    let dir = built();
    let gateway = serving(&dir, &json!({}));
    let again = |etag: &str| request(gateway.address(), "GET", "/", &[("If-None-Match", etag)]);
    let etag = get(&gateway, "/").header("etag").unwrap().to_owned();
    let same = again(&format!("\"other\", W/{etag}"));
    assert_eq!((same.status, same.body.as_str()), (304, ""));
    assert_eq!(same.header("etag"), Some(etag.as_str()));
    fs::write(dir.path().join("ui/index.html"), "another").unwrap();
    let changed = again(&etag);
    assert_eq!((changed.status, changed.body.as_str()), (200, "another"));
}

#[test]
fn e43_nothing_outside_of_the_directory_and_nothing_hidden_is_served() {
    let dir = built();
    let gateway = serving(&dir, &json!({}));
    for path in [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/%252e%252e/secret.txt",
        "/assets/../../secret.txt",
        "//etc/passwd",
        "/link.txt",
        "/up/secret.txt",
        "/up/ui/favicon.svg",
        "/assets/abs.js",
        "/assets/index-UvgeZ3yV.js.map",
        "/assets/nope.js",
        "/index.html%00.js",
        "/.env",
        "/.git/config",
        "/x/.env",
        "/ui/index.html",
        "/plugins/x",
        "/assets/plain.css;x",
    ] {
        let answer = get(&gateway, path);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (404, "Not Found"),
            "{path}"
        );
        is_guarded(&answer, path);
    }
    // A directory and a link that look like pages are answered with the page and nothing else.
    for path in ["/assets", "/assets/", "/up", "/up/"] {
        let answer = get(&gateway, path);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, INDEX),
            "{path}"
        );
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = request(gateway.address(), method, "/chat", &[]);
        assert_eq!(answer.status, 404, "{method}");
    }
}

#[test]
fn below_a_base_path_the_ui_is_there_and_nowhere_else() {
    let dir = built();
    let gateway = serving(&dir, &json!({"basePath": "desk/"}));
    let moved = get(&gateway, "/desk?session=a");
    assert_eq!(moved.status, 302);
    assert_eq!(moved.header("location"), Some("/desk/?session=a"));
    for path in ["/desk/", "/desk/chat"] {
        assert_eq!(get(&gateway, path).body, INDEX, "{path}");
    }
    for path in ["/", "/chat", "/deskx", "/assets/plain.css"] {
        assert_eq!(get(&gateway, path).status, 404, "{path}");
    }
    let config = get(&gateway, "/desk/__openclaw/control-ui-config.json");
    let config: Value = serde_json::from_str(&config.body).unwrap();
    assert_eq!(config["basePath"], "/desk");
    assert_eq!(get(&gateway, "/healthz").status, 200);
}

#[test]
fn e47_a_page_learns_the_assistant_here_and_a_stranger_elsewhere_constants() {
    let mut config = token_config();
    config["agents"] = json!({"list": [{"id": "cat", "identity": {"name": "Mia", "emoji": "🐈"}}]});
    let gateway = gateway!(config);
    let path = "/__openclaw/control-ui-config.json";
    let read = |headers: &[(&str, &str)]| -> Value {
        let answer = request(gateway.address(), "GET", path, headers);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        assert_eq!(
            answer.header("content-type"),
            Some("application/json; charset=utf-8")
        );
        serde_json::from_str(&answer.body).unwrap()
    };
    let here = read(&[]);
    assert_eq!(here["assistantName"], "Mia");
    assert_eq!(here["assistantAvatar"], "🐈");
    assert_eq!(here["assistantAgentId"], "cat");
    assert!(here["serverVersion"].is_string() && here["basePath"] == "");
    let constants = json!({"basePath": "", "assistantName": "Assistant", "assistantAvatar": "A",
        "assistantAgentId": null, "serverVersion": null});
    for headers in [
        &[("X-Forwarded-For", "203.0.113.9")][..],
        &[("Host", "evil.example")],
        &[("Origin", "https://evil.example")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[
            ("X-Real-IP", "203.0.113.9"),
            ("Authorization", "Bearer wrong"),
        ],
        // The shared secret carries nothing from elsewhere without a device.
        &[
            ("X-Real-IP", "203.0.113.9"),
            ("Authorization", &format!("Bearer {TOKEN}")),
        ],
    ] {
        assert_eq!(read(headers), constants, "{headers:?}");
    }
    let mut owner = gateway.owner(4);
    let made = owner.call(
        "tokens.create",
        &json!({"name": "reader", "scopes": ["operator.read"]}),
    );
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let elsewhere = read(&[("X-Real-IP", "203.0.113.9"), ("Authorization", &bearer)]);
    assert_eq!(elsewhere["assistantName"], "Mia");
}

#[test]
fn a_picture_is_served_out_of_the_workspace_and_out_of_nothing_else() {
    let dir = TempDir::new().unwrap();
    let workspace = dir.path().join("workspace");
    fs::create_dir_all(workspace.join("img")).unwrap();
    fs::write(workspace.join("img/me.png"), "png bytes").unwrap();
    fs::write(workspace.join("notes.txt"), SECRET).unwrap();
    fs::write(dir.path().join("out.png"), SECRET).unwrap();
    fs::write(workspace.join("big.png"), "x".repeat(2 * 1024 * 1024 + 1)).unwrap();
    symlink("../out.png", workspace.join("link.png")).unwrap();
    fs::hard_link(dir.path().join("out.png"), workspace.join("twice.png")).unwrap();
    let agent = |id: &str, avatar: &str| json!({"id": id, "workspace": workspace.display().to_string(), "identity": {"avatar": avatar}});
    let inside = workspace.join("img/me.png");
    let mut config = token_config();
    config["agents"] = json!({
        "list": [
            agent("main", "img/me.png"), agent("full", &inside.display().to_string()),
            agent("web", "https://example.org/a.png"), agent("up", "../out.png"),
            agent("link", "link.png"), agent("twice", "twice.png"), agent("notes", "notes.txt"), agent("big", "big.png"),
            agent("outside", &dir.path().join("out.png").display().to_string()),
            {"id": "none"},
        ],
    });
    let gateway = gateway!(config);
    let meta = |id: &str| -> Value {
        let answer = get(&gateway, &format!("/avatar/{id}?meta=1"));
        assert_eq!(answer.status, 200, "{id}");
        serde_json::from_str::<Value>(&answer.body).unwrap()["avatarUrl"].clone()
    };
    for id in ["main", "full"] {
        assert_eq!(meta(id), format!("/avatar/{id}"));
        let answer = get(&gateway, &format!("/avatar/{id}"));
        assert_eq!((answer.status, answer.body.as_str()), (200, "png bytes"));
        assert_eq!(answer.header("content-type"), Some("image/png"));
    }
    assert_eq!(meta("web"), "https://example.org/a.png");
    for id in [
        "none", "notes", "nobody", "up", "link", "twice", "big", "outside",
    ] {
        assert_eq!(meta(id), Value::Null, "{id}");
    }
    for id in [
        "web", "up", "link", "twice", "notes", "big", "outside", "none", "nobody", "", "main/x",
        "..", ".main", "ma%20in",
    ] {
        let answer = get(&gateway, &format!("/avatar/{id}"));
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (404, "Not Found"),
            "{id}"
        );
    }
}

#[test]
fn page_socket_and_picture_agree_on_who_an_agent_is() {
    let dir = built();
    let gateway = serving(&dir, &json!({"basePath": "house"}));
    let mut owner = gateway.owner(4);
    let agree = |owner: &mut Client, avatar: &str, url: Value| {
        let told = owner.call("agent.identity.get", &json!({}));
        let page = get(&gateway, "/house/__openclaw/control-ui-config.json");
        let page: Value = serde_json::from_str(&page.body).unwrap();
        for (key, named) in [
            ("name", "Name"),
            ("avatar", "Avatar"),
            ("agentId", "AgentId"),
        ] {
            assert_eq!(told[key], page[format!("assistant{named}")], "{key}");
        }
        assert_eq!(told["avatar"], avatar);
        let meta = get(&gateway, "/house/avatar/main?meta=1");
        let meta: Value = serde_json::from_str(&meta.body).unwrap();
        assert_eq!(meta, json!({"avatarUrl": url}));
        told["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(agree(&mut owner, "A", Value::Null), "Assistant");
    // What the agent writes into its own workspace, which is the default one.
    let set = |owner: &mut Client, content: &str| {
        let params = json!({"agentId": "main", "name": "IDENTITY.md", "content": content});
        owner.call("agents.files.set", &params);
    };
    let workspace = gateway.home().state().join("workspace");
    set(&mut owner, "- Name: Mia\n- Emoji: 🐈\n");
    assert_eq!(agree(&mut owner, "🐈", Value::Null), "Mia");
    set(&mut owner, "- Name: Mia\n- Emoji: 🐈\n- Avatar: me.png\n");
    fs::write(workspace.join("me.png"), "png bytes").unwrap();
    let address = "/house/avatar/main";
    assert_eq!(agree(&mut owner, address, json!(address)), "Mia");
    assert_eq!(get(&gateway, address).body, "png bytes");
    // What the operator says comes first, everywhere.
    patch(
        &mut owner,
        &json!({"agents": {"list": [{"id": "main", "identity": {"name": "Ann", "emoji": "🦊"}}]}}),
    );
    assert_eq!(agree(&mut owner, "🦊", Value::Null), "Ann");
    assert_eq!(get(&gateway, address).status, 404);
    let elsewhere = "https://example.org/a.png";
    patch(
        &mut owner,
        &json!({"ui": {"assistant": {"name": "House", "avatar": elsewhere}}}),
    );
    assert_eq!(agree(&mut owner, elsewhere, json!(elsewhere)), "House");
}

#[test]
fn another_root_and_another_path_hold_at_once() {
    let (dir, other) = (built(), built());
    fs::write(other.path().join("ui/index.html"), "the other page").unwrap();
    let gateway = serving(&dir, &json!({}));
    let mut owner = gateway.owner(4);
    assert_eq!(get(&gateway, "/chat").body, INDEX);
    let root = other.path().join("ui").display().to_string();
    let ui = |ui: Value| json!({"gateway": {"controlUi": ui}});
    patch(&mut owner, &ui(json!({"root": root})));
    assert_eq!(get(&gateway, "/chat").body, "the other page");
    patch(&mut owner, &ui(json!({"basePath": "/house"})));
    assert_eq!(get(&gateway, "/chat").status, 404);
    assert_eq!(get(&gateway, "/house/chat").body, "the other page");
    let page = get(&gateway, "/house/__openclaw/control-ui-config.json");
    let page: Value = serde_json::from_str(&page.body).unwrap();
    assert_eq!(page["basePath"], "/house");
    patch(&mut owner, &ui(json!({"enabled": false})));
    assert_eq!(get(&gateway, "/house/chat").status, 404);
    // One that cannot be is refused, and what there was goes on.
    patch(&mut owner, &ui(json!({"enabled": true})));
    let hash = owner.call("config.get", &json!({}))["hash"].clone();
    let wrong = ui(json!({"root": "not/absolute"})).to_string();
    let error = owner.refused("config.patch", &json!({"raw": wrong, "baseHash": hash}));
    assert_eq!(error.code, "INVALID_REQUEST");
    assert_eq!(get(&gateway, "/house/chat").body, "the other page");
}

#[test]
fn without_a_directory_a_page_says_what_to_set_and_with_a_wrong_one_no_path_is_told() {
    let gateway = gateway!();
    let page = get(&gateway, "/");
    assert_eq!(page.status, 503);
    assert!(
        page.body.contains("gateway.controlUi.root"),
        "{}",
        page.body
    );
    is_guarded(&page, "/");
    let dir = TempDir::new().unwrap();
    let wrong = serving(&dir, &json!({}));
    let page = get(&wrong, "/chat");
    assert_eq!(page.status, 503);
    let place = dir.path().display().to_string();
    assert!(!page.body.contains(&place), "{}", page.body);
    wrong.says(&place);
    let dir = built();
    let off = serving(&dir, &json!({"enabled": false}));
    for path in [
        "/",
        "/chat",
        "/avatar/main",
        "/__openclaw/control-ui-config.json",
    ] {
        assert_eq!(get(&off, path).status, 404, "{path}");
    }
}

#[test]
fn e47_what_belongs_to_interfaces_that_need_a_credential_is_closed_without_one() {
    let dir = built();
    let gateway = serving(&dir, &json!({}));
    let bearer = format!("Bearer {TOKEN}");
    for (method, path) in [
        ("GET", "/api/channels"),
        ("POST", "/api/channels/x"),
        ("POST", "/v1/chat/completions"),
    ] {
        let ask = |headers: &[(&str, &str)]| request(gateway.address(), method, path, headers);
        let none = ask(&[]);
        assert_eq!(none.status, 401, "{path}");
        assert_eq!(
            none.body,
            r#"{"error":{"message":"Unauthorized","type":"unauthorized"}}"#
        );
        assert_eq!(ask(&[("Authorization", "Bearer wrong")]).status, 401);
        assert_eq!(ask(&[("Authorization", &bearer)]).status, 404, "{path}");
        let foreign = [
            ("Authorization", bearer.as_str()),
            ("Origin", "https://evil.example"),
        ];
        assert_eq!(ask(&foreign).status, 403, "{path}");
        let elsewhere = [
            ("Authorization", bearer.as_str()),
            ("X-Real-IP", "203.0.113.9"),
        ];
        assert_eq!(ask(&elsewhere).status, 401, "{path}");
    }
}

#[test]
fn e21_wrong_secrets_over_http_and_over_a_socket_count_together() {
    let gateway = gateway!();
    let elsewhere = ("X-Forwarded-For", "203.0.113.9");
    let guess = || {
        let headers = [elsewhere, ("Authorization", "Bearer wrong")];
        request(gateway.address(), "GET", "/api/x", &headers)
    };
    for _ in 0..10 {
        assert_eq!(guess().status, 401);
    }
    let locked = guess();
    assert_eq!(locked.status, 429);
    let seconds: u32 = locked.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=300).contains(&seconds), "{seconds}");
    let mut socket = gateway.client_with(&[elsewhere]);
    let refusal = socket
        .connect(&Connect::new(4).token(TOKEN))
        .expect_err("locked");
    assert!(format!("{refusal:?}").contains("RATE_LIMIT"), "{refusal:?}");
}

#[test]
fn readiness_tells_a_stranger_one_word_and_transport_security_is_as_configured() {
    let mut config = token_config();
    let text = "max-age=63072000; includeSubDomains";
    config["gateway"]["http"] = json!({"securityHeaders": {"strictTransportSecurity": text}});
    let gateway = gateway!(config);
    let stranger = request(gateway.address(), "GET", "/readyz", &[("Via", "1.1 x")]);
    assert_eq!(
        (stranger.status, stranger.body.as_str()),
        (200, r#"{"ready":true}"#)
    );
    assert_eq!(stranger.header("strict-transport-security"), Some(text));
    assert!(get(&gateway, "/readyz").body.contains("uptimeMs"));
}

#[test]
fn a_root_that_is_no_absolute_path_stops_the_start() {
    let mut config = token_config();
    config["gateway"]["controlUi"] = json!({"root": "dist", "basePath": "/a/../b"});
    let ended = home!(config).start_in_vain();
    assert_eq!(ended.code, Some(78));
    for path in ["gateway.controlUi.root", "gateway.controlUi.basePath"] {
        assert!(ended.stderr.contains(path), "{}", ended.stderr);
    }
}
