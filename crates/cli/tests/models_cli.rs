//! Models at the terminal: which one is the default, and whether they answer.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "support/terminal.rs"]
mod terminal;

use std::fs;

use clawgate_testkit::{
    TOKEN, gateway,
    provider::{Dialect, KEY, Provider, Say},
};
use serde_json::{Value, json};
use terminal::Terminal;

fn config_of(terminal: &Terminal) -> String {
    fs::read_to_string(terminal.state_dir().join("clawgate.json")).unwrap()
}

#[test]
fn a_probe_says_of_each_model_whether_it_answers() {
    let providers: Vec<(Dialect, Provider)> = Dialect::ALL
        .into_iter()
        .map(|dialect| (dialect, Provider::start(vec![dialect.text(&["ready"])])))
        .collect();
    let broken = Provider::start(vec![Say::refused(401, &format!("wrong key {KEY}"))]);
    let mut entries = serde_json::Map::new();
    for (dialect, provider) in &providers {
        entries.insert(dialect.api().to_owned(), provider.config(*dialect));
    }
    entries.insert("broken".to_owned(), broken.config(Dialect::Chat));
    entries.insert(
        "unset".to_owned(),
        json!({"baseUrl": "http://127.0.0.1:1/v1",
        "apiKey": "${CLAWGATE_NO_SUCH_VARIABLE}", "models": [{"id": "x"}]}),
    );
    let config = json!({"models": {"providers": entries}});
    let terminal = Terminal::new().config(&config.to_string());
    let done = terminal.run(&["models", "probe", "--json"]).exits(1);
    let report = done.never_says(KEY).json();
    assert_eq!(report["count"], 7);
    let row = |model: &str| {
        let rows = report["probes"].as_array().unwrap();
        let row = rows.iter().find(|row| row["model"] == model);
        row.unwrap_or_else(|| panic!("no {model} in {report:#}"))
            .clone()
    };
    for (dialect, provider) in &providers {
        let row = row(&format!("{}/some-model", dialect.api()));
        assert_eq!(row["ok"], true, "{row:#}");
        assert!(row["firstDeltaMs"].as_u64() <= row["latencyMs"].as_u64());
        let cached = if *dialect == Dialect::Ollama { 0 } else { 4 };
        let want = json!({"input": 12 - cached, "output": 3, "cacheRead": cached,
                          "cacheWrite": 0, "totalTokens": 15});
        assert_eq!(row["usage"], want, "{row:#}");
        assert!(row["cost"].as_f64().unwrap() > 0.0);
        // Once, with little.
        assert_eq!(provider.asked().len(), 1);
        assert!(provider.asked()[0].text.contains("64"));
    }
    let refused = row("broken/some-model");
    assert_eq!(
        (&refused["ok"], &refused["error"]["kind"]),
        (&json!(false), &json!("auth"))
    );
    assert_eq!(broken.asked().len(), 1);
    let unset = row("unset/x");
    assert_eq!(unset["error"]["kind"], "MODEL_UNUSABLE");
    assert!(
        unset["error"]["message"]
            .as_str()
            .unwrap()
            .contains("models.providers.unset.apiKey")
    );

    let one = terminal.run(&["models", "probe", "openai-completions/some-model"]);
    drop(
        one.exits(0)
            .says("openai-completions/some-model")
            .says("ok"),
    );
    drop(
        terminal
            .run(&["models", "probe", "nobody/x"])
            .exits(1)
            .says("MODEL_PROVIDER_UNKNOWN"),
    );
}

#[test]
fn a_model_is_made_the_default_and_the_rest_of_the_file_stays() {
    let terminal = Terminal::new().config(
        "{ // mine
  models: {providers: {mock: {baseUrl: 'http://127.0.0.1:1/v1', models: [{id: 'a'}, {id: 'b'}]}}},
  agents: {defaults: {model: {primary: 'mock/a', fallbacks: ['ollama/x']}, models: {'mock/a': {alias: 'fast'}}}},
}
",
    );
    drop(
        terminal
            .run(&["models", "set", "mock/b"])
            .exits(0)
            .says("default model: mock/b"),
    );
    assert!(config_of(&terminal).contains("// mine"));
    let status = terminal
        .run(&["models", "status", "--json"])
        .exits(0)
        .json();
    assert_eq!(status["resolvedDefault"], "mock/b");
    assert_eq!(status["fallbacks"], json!(["ollama/x"]));
    assert_eq!(status["allowed"], json!(["mock/a", "mock/b"]));
    // Both are on this machine.
    assert_eq!(status["auth"]["missingProvidersInUse"], json!([]));
    drop(terminal.run(&["models", "set", "fast"]).exits(0));
    let plain = terminal.run(&["models", "status", "--plain"]).exits(0);
    assert_eq!(plain.stdout.trim(), "mock/a");

    let before = config_of(&terminal);
    for (name, code) in [
        ("mock/c", "MODEL_UNKNOWN"),
        ("nothing", "MODEL_UNKNOWN"),
        ("nobody/x", "MODEL_PROVIDER_UNKNOWN"),
    ] {
        let error = terminal
            .run(&["models", "set", name, "--json"])
            .exits(1)
            .json_error();
        assert_eq!(error["code"], code, "{error:#}");
    }
    assert_eq!(config_of(&terminal), before);
}

#[test]
fn a_key_that_is_missing_is_named_with_the_places_for_it() {
    let terminal = Terminal::new().config("{}");
    drop(
        terminal
            .run(&["models", "set", "openai/gpt-x"])
            .exits(0)
            .complains("OPENAI_API_KEY"),
    );
    drop(
        terminal
            .run(&["models", "status", "--check"])
            .exits(1)
            .says("no key: set OPENAI_API_KEY or models.providers.openai.apiKey"),
    );
    let keyed = Terminal::new()
        .env("OPENAI_API_KEY", "canary-4711")
        .config("{agents: {defaults: {model: 'openai/gpt-x'}}}");
    let status = keyed.run(&["models", "status", "--json"]).exits(0);
    let status: Value = status.never_says("canary").json();
    assert_eq!(
        status["auth"]["providers"][0]["effective"],
        json!({"kind": "env", "detail": "OPENAI_API_KEY"})
    );
}

#[test]
fn a_running_gateway_takes_the_new_default() {
    let gateway = gateway!();
    let terminal = Terminal::new();
    let url = format!("ws://{}", gateway.address());
    let set = [
        "models",
        "set",
        "ollama/qwen3",
        "--url",
        &url,
        "--token",
        TOKEN,
    ];
    drop(terminal.run(&set).exits(0).says("ollama/qwen3"));
    let get = [
        "gateway",
        "call",
        "models.list",
        "--json",
        "--url",
        &url,
        "--token",
        TOKEN,
    ];
    let listed = terminal.run(&get).exits(0).json();
    assert_eq!(listed["models"][0]["id"], "qwen3", "{listed:#}");
}
