//! Bad input for every method of the table, in both dialects, made from what the table says of its
//! params: refused with a reason, nothing changed, nothing given away, and the gateway stands.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::collections::BTreeSet;

use clawgate_protocol::{
    error::Dialect,
    method::{Access, Method, access_by_name},
    shape::{self, Field, Shape},
    system,
};
use clawgate_testkit::{Call, Client, Connect, Device, TOKEN, TestGateway, WireError, gateway};
use serde_json::{Map, Value, json};

/// Names of params of methods that the table does not look into.
const OBSERVED: &str = include_str!("../../protocol/tests/fixtures/wire3-methods.tsv");
/// Requests that are under way at once: fewer than a connection may have.
const AT_ONCE: usize = 32;
/// Cases of one method at most; more are thinned out evenly.
const CASES_MAX: usize = 64;
/// Methods after which is looked whether something moved.
const LOOK_AFTER: usize = 8;
/// First-level codes that a peer knows.
const CODES: [&str; 7] = [
    "INVALID_REQUEST",
    "NOT_PAIRED",
    "NOT_LINKED",
    "AGENT_TIMEOUT",
    "UNAVAILABLE",
    "FORBIDDEN",
    "APPROVAL_NOT_FOUND",
];
/// Methods whose answer may take as long as somebody else needs.
const WAITING: [Method; 5] = [
    Method::AgentWait,
    Method::ExecApprovalRequest,
    Method::ExecApprovalWaitDecision,
    Method::NodeInvoke,
    Method::WebLoginWait,
];
/// Role errors in a row that a connection may make.
const ROLE_ERRORS: usize = 10;
/// Members of answers that change by themselves.
const MOVING: [&str; 8] = [
    "ts",
    "age",
    "ageMs",
    "durationMs",
    "uptimeMs",
    "lastUsedAtMs",
    "lastSeenAtMs",
    "updatedAtMs",
];

fn hostile_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "\u{0}",
        "a\u{0}b",
        "../../../../etc/passwd",
        "..",
        "/",
        "C:\\x",
        "${HOME}",
        "${CLAWGATE_GATEWAY_TOKEN}",
        "$(id)",
        "'; DROP TABLE devices; --",
        "%s%n",
        "__proto__",
        "constructor",
        "toString",
        "\u{202e}\u{200b}\u{feff}",
        "\u{1f980}\u{0301}",
        "\r\nX-Injected: 1",
        "\u{1b}[31m",
        "null",
        "-1",
        "1e999",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push("x".repeat(20_000));
    texts.push("\u{e4}".repeat(2_000));
    texts
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, level| {
        if level % 2 == 0 {
            json!([inner])
        } else {
            json!({"a": inner})
        }
    })
}

/// A value of every JSON type, some of them large.
fn of_every_type() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(false),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(1e300),
        json!(-1e300),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(""),
        json!("x"),
        json!([]),
        json!([1, "x", null]),
        Value::Array(vec![json!("x"); 1_000]),
        json!({}),
        json!({"__proto__": {"admin": true}, "constructor": 1}),
        deep(100),
    ]
}

/// A value that fits.
fn fitting(shape: &Shape, dialect: Dialect) -> Value {
    match *shape {
        Shape::Any | Shape::Text | Shape::FileSafe => json!("x"),
        Shape::Str { min, .. } => json!("x".repeat(min.max(1))),
        Shape::Int { min, .. } | Shape::Number { min } => json!(min),
        Shape::Bool | Shape::False => json!(false),
        Shape::Null => Value::Null,
        Shape::Exactly(number) => json!(number),
        Shape::Const(text) => json!(text),
        Shape::OneOf(texts) | Shape::Enum(texts) => json!(texts[0]),
        Shape::List { of, min, .. } => Value::Array(vec![fitting(of, dialect); min]),
        Shape::MapOf(_) => json!({}),
        Shape::Object(fields) => Value::Object(
            known(fields, dialect)
                .filter(|field| field.required)
                .map(|field| (field.name.to_owned(), fitting(&field.shape, dialect)))
                .collect(),
        ),
        Shape::AnyOf(branches) => fitting(&branches[0], dialect),
    }
}

fn known(fields: &'static [Field], dialect: Dialect) -> impl Iterator<Item = &'static Field> {
    fields
        .iter()
        .filter(move |field| field.in_v3 || dialect == Dialect::V4)
}

/// Values in the place of one of that shape: of every type, hostile, too long, broken within.
fn twisted(shape: &Shape, dialect: Dialect) -> Vec<Value> {
    let mut values = of_every_type();
    match *shape {
        Shape::Any | Shape::Text | Shape::Str { .. } | Shape::FileSafe => {
            values.extend(hostile_texts().into_iter().map(Value::from));
        }
        Shape::Int { min, max } => {
            values.extend([json!(min), json!(max)]);
            values.extend(min.checked_sub(1).map(Value::from));
            values.extend(max.checked_add(1).map(Value::from));
        }
        Shape::List { of, max, .. } => {
            let item = fitting(of, dialect);
            values.push(Value::Array(vec![item; max.max(1_000) + 1]));
            values.extend(
                twisted(of, dialect)
                    .into_iter()
                    .map(|item| Value::Array(vec![item])),
            );
        }
        Shape::MapOf(of) => {
            for text in hostile_texts() {
                values.push(json!({text: fitting(of, dialect)}));
            }
            values.extend(twisted(of, dialect).into_iter().map(|v| json!({"k": v})));
        }
        Shape::Object(fields) => values.extend(broken(fields, dialect)),
        Shape::AnyOf(branches) => {
            for branch in branches {
                values.extend(twisted(branch, dialect));
            }
        }
        _ => {}
    }
    values
}

/// An object of these fields with one thing wrong, or strange, at a time.
fn broken(fields: &'static [Field], dialect: Dialect) -> Vec<Value> {
    let Value::Object(whole) = fitting(&Shape::Object(fields), dialect) else {
        unreachable!("an object fits an object")
    };
    let with = |name: &str, value: Value| {
        let mut object = whole.clone();
        object.insert(name.to_owned(), value);
        Value::Object(object)
    };
    let mut values = Vec::new();
    for name in [
        "unheardOf".to_owned(),
        "__proto__".to_owned(),
        "constructor".to_owned(),
        "a/b~c".to_owned(),
        "k".repeat(10_000),
    ] {
        values.push(with(&name, json!({"admin": true})));
    }
    for field in known(fields, dialect) {
        if field.required {
            let mut object = whole.clone();
            object.remove(field.name);
            values.push(Value::Object(object));
        }
        for value in twisted(&field.shape, dialect) {
            values.push(with(field.name, value));
        }
    }
    values
}

/// Params of a method that the table does not look into, from the names that were observed.
fn unlooked(method: Method) -> Vec<Value> {
    let names: Vec<&str> = OBSERVED
        .lines()
        .filter_map(|line| line.strip_prefix(method.spec().name)?.strip_prefix('\t'))
        .flat_map(|rest| rest.split(['\t', ' ']).skip(1))
        .map(|name| name.trim_end_matches('!'))
        .filter(|name| !["*", "{}", "-"].contains(name))
        .collect();
    let mut values = vec![json!({"unheardOf": 1}), json!({"__proto__": {"a": 1}})];
    let mut everything = of_every_type();
    everything.extend(hostile_texts().into_iter().map(Value::from));
    for name in names {
        for value in &everything {
            values.push(json!({name: value}));
        }
    }
    values
}

/// Params for a method: first those that its shape refuses, then the others.
fn cases(method: Method, dialect: Dialect) -> (Vec<Value>, Vec<Value>) {
    let mut values = of_every_type();
    values.push(deep(200));
    let shape = method.spec().params.as_ref();
    match shape {
        Some(shape) => values.extend(twisted(shape, dialect)),
        None => values.extend(unlooked(method)),
    }
    // Null counts as an empty object.
    let seen = |value: &Value| match value {
        Value::Null => json!({}),
        // Wire 4 lets further members of `wake` pass.
        Value::Object(map) if (method, dialect) == (Method::Wake, Dialect::V4) => map
            .iter()
            .filter(|(name, _)| system::WAKE.iter().any(|field| field.name == *name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        other => other.clone(),
    };
    let values = thin(values, 8 * CASES_MAX);
    let (refused, others): (Vec<Value>, Vec<Value>) = values.into_iter().partition(|value| {
        shape.is_some_and(|shape| shape::check(&seen(value), shape, dialect).is_err())
    });
    (thin(refused, CASES_MAX), thin(others, CASES_MAX))
}

fn thin(values: Vec<Value>, max: usize) -> Vec<Value> {
    let step = values.len().div_ceil(max).max(1);
    values.into_iter().step_by(step).collect()
}

/// Sends them, some at a time, and gives what came of each.
fn outcomes(client: &mut Client, method: Method, values: &[Value]) -> Vec<(Value, Call)> {
    let mut found = Vec::with_capacity(values.len());
    for group in values.chunks(AT_ONCE) {
        let ids: Vec<String> = group
            .iter()
            .map(|value| client.send(method.spec().name, value))
            .collect();
        for (value, id) in group.iter().zip(ids) {
            found.push((value.clone(), client.answer(&id)));
        }
    }
    found
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}

/// What must hold of every error, whoever gets it.
fn is_typed(name: &str, value: &Value, error: &WireError) {
    let what = || format!("{name} {}: {}", short(value), short(&error.raw));
    assert!(CODES.contains(&error.code.as_str()), "{}", what());
    assert_ne!(error.detail_code(), "INTERNAL", "{}", what());
    assert!(!error.message.contains("incident"), "{}", what());
    assert!(error.raw.to_string().len() < 20_000, "{}", what());
}

/// The errors of a caller that may only read say nothing of where things lie or what is secret.
fn gives_nothing_away(gateway: &TestGateway, name: &str, value: &Value, error: &WireError) {
    let text = error.raw.to_string();
    let state = gateway.home().state();
    let home = state.parent().unwrap();
    for secret in [home.to_str().unwrap(), TOKEN] {
        assert!(
            !text.contains(secret),
            "{name} {} gives {secret} away: {text}",
            short(value)
        );
    }
}

/// What a list or a look shows now, without what changes by itself.
fn standing(gateway: &TestGateway, client: &mut Client) -> Vec<(String, Value)> {
    fn still(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|key, _| !MOVING.contains(&key.as_str()));
                map.values_mut().for_each(still);
            }
            Value::Array(list) => list.iter_mut().for_each(still),
            _ => {}
        }
    }
    let config = std::fs::read_to_string(gateway.home().config()).unwrap();
    let mut seen = vec![("the configuration file".to_owned(), json!(config))];
    let looks: Vec<(String, String)> = Method::ALL
        .iter()
        .filter(|method| {
            let name = method.spec().name;
            [".list", ".get"].iter().any(|end| name.ends_with(end))
                && method.spec().access(Dialect::V4) != &Access::Node
        })
        .map(|method| {
            let params = match method {
                Method::CronList => json!({"includeDisabled": true}),
                _ => json!({}),
            };
            let name = method.spec().name;
            (name.to_owned(), client.send(name, &params))
        })
        .collect();
    for (name, id) in looks {
        if let Call::Ok(mut answer) = client.answer(&id) {
            still(&mut answer);
            seen.push((name, answer));
        }
    }
    assert!(seen.len() > 5, "{seen:?}");
    seen
}

/// Nothing moved; what did is shown by its place.
fn assert_same(before: &[(String, Value)], after: &[(String, Value)], when: &str) {
    fn compare(path: &str, before: &Value, after: &Value, moved: &mut Vec<String>) {
        match (before, after) {
            (Value::Object(old), Value::Object(new)) => {
                for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                    let (old, new) = (old.get(key), new.get(key));
                    let there = |value: Option<&Value>| value.cloned().unwrap_or_default();
                    compare(&format!("{path}/{key}"), &there(old), &there(new), moved);
                }
            }
            (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
                for (at, (old, new)) in old.iter().zip(new).enumerate() {
                    compare(&format!("{path}/{at}"), old, new, moved);
                }
            }
            _ if before == after => {}
            _ => moved.push(format!("{path}: {} became {}", short(before), short(after))),
        }
    }
    let whole = |seen: &[(String, Value)]| Value::Object(seen.iter().cloned().collect());
    let mut moved = Vec::new();
    compare("", &whole(before), &whole(after), &mut moved);
    assert!(moved.is_empty(), "{when}:\n{}", moved.join("\n"));
}

struct Peers {
    owner: Client,
    reader: Client,
    node: Client,
    watcher: Client,
}

fn node(gateway: &TestGateway, protocol: u32) -> Client {
    let node = Connect::new(protocol)
        .token(TOKEN)
        .client("node-host", "node")
        .role("node")
        .scopes(&[])
        .device(&Device::new());
    gateway.welcome(&node).0
}

fn reader(gateway: &TestGateway, protocol: u32) -> Client {
    let reader = Connect::new(protocol)
        .token(TOKEN)
        .scopes(&["operator.read"]);
    gateway.welcome(&reader).0
}

fn peers(gateway: &TestGateway, protocol: u32) -> Peers {
    Peers {
        node: node(gateway, protocol),
        reader: reader(gateway, protocol),
        owner: gateway.owner(protocol),
        watcher: gateway.owner(4),
    }
}

fn dialects() -> [(u32, Dialect); 2] {
    [(3, Dialect::V3), (4, Dialect::V4)]
}

/// Things that could be changed or given away.
fn furnish(gateway: &TestGateway) {
    let mut owner = gateway.owner(4);
    owner.call(
        "cron.add",
        &json!({
            "name": "kept", "schedule": {"kind": "every", "everyMs": 3_600_000},
            "payload": {"kind": "command", "argv": ["/bin/true"]},
        }),
    );
    owner.call(
        "tokens.create",
        &json!({"name": "kept", "scopes": ["operator.read"]}),
    );
}

fn stood(gateway: &TestGateway) {
    let said = gateway.stderr();
    for word in ["panicked", "a call failed inside"] {
        assert!(!said.contains(word), "{said}");
    }
}

#[test]
fn e62_what_a_shape_refuses_is_refused_with_a_reason_and_changes_nothing() {
    let gateway = gateway!();
    furnish(&gateway);
    let mut asked = 0;
    for (protocol, dialect) in dialects() {
        let mut peers = peers(&gateway, protocol);
        let before = standing(&gateway, &mut peers.watcher);
        for (at, method) in Method::ALL.iter().enumerate() {
            let name = method.spec().name;
            let (refused, _) = cases(*method, dialect);
            let caller = match access_by_name(name, dialect) {
                Access::Node => &mut peers.node,
                _ => &mut peers.owner,
            };
            for (value, outcome) in outcomes(caller, *method, &refused) {
                let Call::Error(error) = outcome else {
                    panic!("{name} {}: {outcome:?}", short(&value));
                };
                is_typed(name, &value, &error);
                // A limit of writes comes before the params.
                let limited = error.code == "UNAVAILABLE" && !error.detail("limit").is_null();
                assert!(
                    limited
                        || (error.code == "INVALID_REQUEST"
                            && error
                                .message
                                .starts_with(&format!("invalid {name} params: "))),
                    "{name} {}: {}",
                    short(&value),
                    error.raw
                );
                asked += 1;
            }
            let by_reader = match access_by_name(name, dialect) {
                Access::Node => &refused[..refused.len().min(ROLE_ERRORS)],
                _ => &refused[..],
            };
            let answers = outcomes(&mut peers.reader, *method, by_reader);
            peers.reader.call("health", &json!({}));
            for (value, outcome) in answers {
                let Call::Error(error) = outcome else {
                    panic!("{name} {}: {outcome:?}", short(&value));
                };
                is_typed(name, &value, &error);
                gives_nothing_away(&gateway, name, &value, &error);
            }
            if at % LOOK_AFTER == LOOK_AFTER - 1 || at + 1 == Method::ALL.len() {
                let after = standing(&gateway, &mut peers.watcher);
                let when = format!("{name} and what was before it, wire {protocol}");
                assert_same(&before, &after, &when);
            }
        }
        stood(&gateway);
    }
    assert!(asked > 1_000, "only {asked} were asked");
}

#[test]
fn e62_what_a_shape_lets_through_is_answered_and_ends_nothing() {
    let gateway = gateway!();
    furnish(&gateway);
    for (protocol, dialect) in dialects() {
        let mut watcher = gateway.owner(4);
        for method in Method::ALL {
            let name = method.spec().name;
            let (_, others) = cases(*method, dialect);
            // What waits for somebody may wait; the connection answers all the same, and a fresh
            // one for each method has room for it. Everything else is answered.
            let waits = WAITING.contains(method);
            let callers = match access_by_name(name, dialect) {
                Access::Node => vec![node(&gateway, protocol)],
                _ => vec![gateway.owner(protocol), reader(&gateway, protocol)],
            };
            let before = standing(&gateway, &mut watcher);
            let mut all_refused = true;
            for (at, mut caller) in callers.into_iter().enumerate() {
                let mut waiting = BTreeSet::new();
                for group in others.chunks(AT_ONCE) {
                    if waiting.len() >= AT_ONCE {
                        break;
                    }
                    let asked: Vec<(String, &Value)> = group
                        .iter()
                        .map(|value| (caller.send(name, value), value))
                        .collect();
                    waiting.extend(asked.iter().map(|(id, _)| id.clone()));
                    let mut ended = false;
                    let barrier = caller.send("health", &json!({}));
                    let mut answered = Map::new();
                    loop {
                        let frame = caller.response();
                        let id = frame["id"].as_str().unwrap().to_owned();
                        let end = id == barrier;
                        waiting.remove(&id);
                        answered.insert(id, frame);
                        ended |= end;
                        if ended && (waits || waiting.is_empty()) {
                            break;
                        }
                    }
                    assert_eq!(answered[&barrier]["ok"], true, "after {name}");
                    for (id, value) in asked {
                        match answered.get(&id) {
                            Some(frame) if frame["ok"] == false => {
                                let error = WireError::of(&frame["error"]);
                                is_typed(name, value, &error);
                                if at == 1 {
                                    gives_nothing_away(&gateway, name, value, &error);
                                }
                            }
                            _ => all_refused = false,
                        }
                    }
                }
            }
            if all_refused {
                let mut after = standing(&gateway, &mut watcher);
                after.retain(|(look, _)| look != "device.pair.list" && look != "node.list");
                let mut before = before;
                before.retain(|(look, _)| look != "device.pair.list" && look != "node.list");
                assert_same(&before, &after, &format!("after {name} on wire {protocol}"));
            }
        }
        stood(&gateway);
    }
}
