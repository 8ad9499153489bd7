//! What callers of `cron.add` and `cron.update` may leave out or spell in another way, brought
//! into the one form that the shapes know. Nothing is checked here, and nothing that is not
//! understood is thrown away: the shape says what is wrong with it.

use clawgate_core::cron::{format_at, parse_at};
use serde_json::{Map, Value};

/// Characters of an inferred name at most.
const NAME_MAX: usize = 60;
/// What belongs into the payload of an agent's turn.
const TURN: &[&str] = &[
    "model",
    "fallbacks",
    "thinking",
    "timeoutSeconds",
    "allowUnsafeExternalContent",
    "lightContext",
];
/// Where results went before jobs had a `delivery`.
const HINTS: &[&str] = &["deliver", "channel", "provider", "to", "bestEffortDeliver"];

/// Params of `cron.add`.
pub(super) fn added(params: Value) -> Value {
    let Value::Object(mut job) = unwrapped(params) else {
        return Value::Object(Map::new());
    };
    common(&mut job);
    let hints = hints(&mut job);
    merge_hints(&mut job, hints, true);
    trim(&mut job, "description");
    drop_blank(&mut job, "description");
    trim(&mut job, "name");
    if is_absent_or_blank(job.get("name")) {
        job.remove("name");
        if let (Some(Value::Object(schedule)), Some(Value::Object(payload))) =
            (job.get("schedule"), job.get("payload"))
        {
            let name = inferred_name(schedule, payload);
            job.insert("name".to_owned(), name.into());
        }
    }
    let payload_kind = kind_of(&job, "payload").map(str::to_owned);
    if !job.contains_key("sessionTarget") {
        let target = match payload_kind.as_deref() {
            Some("systemEvent") => Some("main"),
            Some("agentTurn" | "command") => Some("isolated"),
            _ => None,
        };
        if let Some(target) = target {
            job.insert("sessionTarget".to_owned(), target.into());
        }
    }
    if kind_of(&job, "schedule") == Some("at") {
        job.entry("deleteAfterRun").or_insert(Value::Bool(true));
    }
    Value::Object(job)
}

/// Params of `cron.update`: nothing is inferred that the job has already.
pub(super) fn updated(mut params: Value) -> Value {
    if let Some(patch) = params.get_mut("patch") {
        let unwrapped = unwrapped(patch.take());
        *patch = match unwrapped {
            Value::Object(mut job) => {
                common(&mut job);
                let hints = hints(&mut job);
                merge_hints(&mut job, hints, false);
                trim(&mut job, "description");
                Value::Object(job)
            }
            other => other,
        };
    }
    params
}

/// `{job: {...}}` and `{data: {...}}` are the job.
fn unwrapped(mut params: Value) -> Value {
    for wrapper in ["data", "job"] {
        if let Some(inner) = params.get_mut(wrapper).filter(|inner| inner.is_object()) {
            return inner.take();
        }
    }
    params
}

/// What additions and changes have in common.
fn common(job: &mut Map<String, Value>) {
    if let Some(Value::String(text)) = job.get("enabled") {
        let flag = match text.trim().to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        if let Some(flag) = flag {
            job.insert("enabled".to_owned(), Value::Bool(flag));
        }
    }
    for key in ["agentId", "sessionTarget", "wakeMode"] {
        trim(job, key);
    }
    lower(job, "agentId");
    lower(job, "wakeMode");
    // A session's key is kept as it is.
    lower_known(job, "sessionTarget", &["main", "isolated", "current"]);
    trim(job, "sessionKey");
    for key in ["agentId", "sessionKey"] {
        drop_blank(job, key);
    }
    if let Some(Value::Object(schedule)) = job.get_mut("schedule") {
        normalise_schedule(schedule);
    }
    hoist_payload(job);
    if let Some(Value::Object(payload)) = job.get_mut("payload") {
        normalise_payload(payload);
    }
    hoist_turn(job);
    if let Some(Value::Object(delivery)) = job.get_mut("delivery") {
        normalise_delivery(delivery);
    }
}

fn normalise_schedule(schedule: &mut Map<String, Value>) {
    trim(schedule, "kind");
    lower_known(schedule, "kind", &["at", "every", "cron"]);
    trim(schedule, "at");
    trim(schedule, "expr");
    trim(schedule, "cron");
    trim(schedule, "tz");
    drop_blank(schedule, "tz");
    if is_absent_or_blank(schedule.get("expr"))
        && let Some(Value::String(expr)) = schedule.get("cron").cloned()
    {
        schedule.insert("expr".to_owned(), expr.into());
    }
    if schedule.contains_key("expr") {
        schedule.remove("cron");
    }
    let at = match (schedule.get("at"), schedule.get("atMs")) {
        (Some(Value::String(text)), _) => Some(text.clone()),
        (None, Some(Value::Number(ms))) => Some(ms.to_string()),
        (None, Some(Value::String(text))) => Some(text.trim().to_owned()),
        _ => None,
    };
    if let Some(at) = at {
        let at = parse_at(&at).map_or(at, format_at);
        schedule.remove("atMs");
        schedule.insert("at".to_owned(), at.into());
    }
    if !schedule.contains_key("kind") {
        let kind = [("at", "at"), ("everyMs", "every"), ("expr", "cron")]
            .into_iter()
            .find(|(key, _)| schedule.contains_key(*key));
        if let Some((_, kind)) = kind {
            schedule.insert("kind".to_owned(), kind.into());
        }
    }
}

/// A message or text beside the payload is the payload's.
fn hoist_payload(job: &mut Map<String, Value>) {
    for (key, kind) in [("message", "agentTurn"), ("text", "systemEvent")] {
        if !job.contains_key(key) {
            continue;
        }
        let fits = match job.get("payload") {
            None => true,
            Some(Value::Object(payload)) => {
                let named = payload.get("kind").and_then(Value::as_str);
                !payload.contains_key(key)
                    && named.is_none_or(|named| named.trim().eq_ignore_ascii_case(kind))
            }
            Some(_) => false,
        };
        if fits {
            move_into_payload(job, key);
        }
    }
    let is_turn = TURN.iter().any(|key| job.contains_key(*key));
    if is_turn && !job.contains_key("payload") {
        for key in TURN {
            move_into_payload(job, key);
        }
    }
}

/// Settings of an agent's turn beside its payload are the payload's.
fn hoist_turn(job: &mut Map<String, Value>) {
    if kind_of(job, "payload") != Some("agentTurn") {
        return;
    }
    for key in TURN {
        if job
            .get("payload")
            .is_some_and(|payload| payload.get(key).is_none())
        {
            move_into_payload(job, key);
        }
    }
}

fn move_into_payload(job: &mut Map<String, Value>, key: &str) {
    let Some(value) = job.shift_remove(key) else {
        return;
    };
    let payload = job
        .entry("payload")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(payload) = payload {
        payload.insert(key.to_owned(), value);
    }
}

fn normalise_payload(payload: &mut Map<String, Value>) {
    if let Some(Value::String(kind)) = payload.get("kind") {
        let known = ["systemEvent", "agentTurn", "command"]
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(kind.trim()));
        if let Some(known) = known {
            payload.insert("kind".to_owned(), known.into());
        }
        return;
    }
    if payload.contains_key("kind") {
        return;
    }
    let is_turn =
        payload.contains_key("message") || TURN.iter().any(|key| payload.contains_key(*key));
    if payload.contains_key("argv") {
        payload.insert("kind".to_owned(), "command".into());
    } else if payload.contains_key("text") && !payload.contains_key("message") {
        payload.insert("kind".to_owned(), "systemEvent".into());
    } else if is_turn {
        payload.insert("kind".to_owned(), "agentTurn".into());
    }
}

fn normalise_delivery(delivery: &mut Map<String, Value>) {
    for key in ["mode", "channel", "to", "accountId"] {
        trim(delivery, key);
    }
    lower(delivery, "mode");
    lower(delivery, "channel");
    if delivery.get("mode").is_some_and(|mode| mode == "deliver") {
        delivery.insert("mode".to_owned(), "announce".into());
    }
    for key in ["channel", "accountId"] {
        drop_blank(delivery, key);
    }
}

/// Takes the old way to name a delivery out of the job and its payload.
fn hints(job: &mut Map<String, Value>) -> Map<String, Value> {
    let mut found = Map::new();
    for key in HINTS {
        let inner = match job.get_mut("payload") {
            Some(Value::Object(payload)) => payload.shift_remove(*key),
            _ => None,
        };
        let outer = job.shift_remove(*key);
        if let Some(value) = inner.or(outer) {
            found.insert((*key).to_owned(), value);
        }
    }
    found
}

/// Makes a delivery of the old way. `whole` = of an addition, which says where it goes at all.
fn merge_hints(job: &mut Map<String, Value>, mut hints: Map<String, Value>, whole: bool) {
    if hints.is_empty() {
        return;
    }
    let mut made = Map::new();
    match hints.get("deliver") {
        Some(Value::Bool(false)) => {
            made.insert("mode".to_owned(), "none".into());
        }
        Some(Value::Bool(true)) => {
            made.insert("mode".to_owned(), "announce".into());
        }
        _ if whole => {
            made.insert("mode".to_owned(), "announce".into());
        }
        _ => {}
    }
    let channel = hints
        .shift_remove("channel")
        .or_else(|| hints.shift_remove("provider"));
    for (key, value) in [
        ("channel", channel),
        ("to", hints.shift_remove("to")),
        ("bestEffort", hints.shift_remove("bestEffortDeliver")),
    ] {
        if let Some(value) = value {
            made.insert(key.to_owned(), value);
        }
    }
    normalise_delivery(&mut made);
    match job.get_mut("delivery") {
        // What is said in the new way stands.
        Some(Value::Object(delivery)) => {
            if delivery.get("mode").is_none_or(|mode| mode != "none") {
                for (key, value) in made {
                    delivery.entry(key).or_insert(value);
                }
            }
        }
        Some(_) => {}
        None => {
            job.insert("delivery".to_owned(), Value::Object(made));
        }
    }
}

fn inferred_name(schedule: &Map<String, Value>, payload: &Map<String, Value>) -> String {
    let text = ["text", "message"]
        .iter()
        .find_map(|key| payload.get(*key).and_then(Value::as_str))
        .unwrap_or_default();
    if let Some(line) = text.lines().map(str::trim).find(|line| !line.is_empty()) {
        if line.chars().count() <= NAME_MAX {
            return line.to_owned();
        }
        let cut: String = line.chars().take(NAME_MAX - 1).collect();
        return format!("{}…", cut.trim_end());
    }
    let field = |key: &str| schedule.get(key);
    match schedule.get("kind").and_then(Value::as_str) {
        Some("cron") => match field("expr").and_then(Value::as_str) {
            Some(expr) => format!("Cron: {expr}"),
            None => "Cron job".to_owned(),
        },
        Some("every") => match field("everyMs") {
            Some(every) => format!("Every: {every}ms"),
            None => "Cron job".to_owned(),
        },
        Some("at") => "One-shot".to_owned(),
        _ => "Cron job".to_owned(),
    }
}

fn kind_of<'a>(job: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    job.get(key)?.get("kind")?.as_str()
}

fn is_absent_or_blank(value: Option<&Value>) -> bool {
    match value {
        None => true,
        Some(Value::String(text)) => text.trim().is_empty(),
        Some(_) => false,
    }
}

fn trim(map: &mut Map<String, Value>, key: &str) {
    if let Some(Value::String(text)) = map.get_mut(key) {
        let trimmed = text.trim();
        if trimmed.len() != text.len() {
            *text = trimmed.to_owned();
        }
    }
}

fn lower(map: &mut Map<String, Value>, key: &str) {
    if let Some(Value::String(text)) = map.get_mut(key) {
        text.make_ascii_lowercase();
    }
}

fn lower_known(map: &mut Map<String, Value>, key: &str, known: &[&str]) {
    if let Some(Value::String(text)) = map.get_mut(key) {
        let lowered = text.to_ascii_lowercase();
        if known.contains(&lowered.as_str()) {
            *text = lowered;
        }
    }
}

fn drop_blank(map: &mut Map<String, Value>, key: &str) {
    if let Some(Value::String(text)) = map.get(key)
        && text.trim().is_empty()
    {
        map.shift_remove(key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_is_inferred() {
        let cases = [
            // wrapped, no kinds, no name
            (
                json!({"job": {"schedule": {"everyMs": 60000}, "payload": {"message": "Check mail\nsecond"}}}),
                json!({"name": "Check mail", "sessionTarget": "isolated",
                    "schedule": {"kind": "every", "everyMs": 60000},
                    "payload": {"kind": "agentTurn", "message": "Check mail\nsecond"}}),
            ),
            (
                json!({"data": {"schedule": {"atMs": 1_795_412_106_592_i64}, "text": "ring"}}),
                json!({"name": "ring", "sessionTarget": "main", "deleteAfterRun": true,
                    "schedule": {"kind": "at", "at": "2026-11-23T05:35:06.592Z"},
                    "payload": {"kind": "systemEvent", "text": "ring"}}),
            ),
            // settings of the turn beside it, old delivery, flags as text
            (
                json!({"name": " n ", "enabled": "False", "agentId": " Main ", "description": "  ",
                    "schedule": {"cron": " 0 7 * * * ", "tz": " "}, "message": "m",
                    "model": "a/b", "timeoutSeconds": 5, "deliver": false}),
                json!({"name": "n", "enabled": false, "agentId": "main", "sessionTarget": "isolated",
                    "schedule": {"kind": "cron", "expr": "0 7 * * *"},
                    "payload": {"kind": "agentTurn", "message": "m", "model": "a/b", "timeoutSeconds": 5},
                    "delivery": {"mode": "none"}}),
            ),
            (
                json!({"name": "n", "schedule": {"kind": "Every", "everyMs": 5},
                    "payload": {"kind": "AGENTTURN", "message": "m", "to": " @x "},
                    "provider": "Telegram", "bestEffortDeliver": true}),
                json!({"name": "n", "schedule": {"kind": "every", "everyMs": 5}, "sessionTarget": "isolated",
                    "payload": {"kind": "agentTurn", "message": "m"},
                    "delivery": {"mode": "announce", "channel": "telegram", "to": "@x", "bestEffort": true}}),
            ),
            (
                json!({"name": "n", "schedule": {"kind": "every", "everyMs": 5}, "wakeMode": " Now ",
                    "payload": {"text": "t"}, "delivery": {"mode": "Deliver", "channel": "X"}}),
                json!({"name": "n", "schedule": {"kind": "every", "everyMs": 5}, "wakeMode": "now",
                    "sessionTarget": "main", "payload": {"kind": "systemEvent", "text": "t"},
                    "delivery": {"mode": "announce", "channel": "x"}}),
            ),
        ];
        for (given, expected) in cases {
            assert_eq!(added(given.clone()), expected, "{given}");
        }
    }

    #[test]
    fn what_is_not_understood_stays_for_the_shape_to_name() {
        let odd = json!({"name": "n", "enabled": "maybe", "sessionTarget": "current", "foo": 1,
            "schedule": {"kind": "weekly"}, "payload": {"kind": "systemEvent", "text": "t"}, "model": "m"});
        assert_eq!(added(odd.clone()), odd);
        assert_eq!(added(json!([])), json!({}));
        assert_eq!(added(json!({})), json!({}));
    }

    #[test]
    fn names_come_from_the_text_or_the_schedule() {
        let name = |schedule: Value, payload: Value| {
            added(json!({"schedule": schedule, "payload": payload}))["name"].clone()
        };
        let blank = json!({"kind": "systemEvent", "text": " "});
        assert_eq!(
            name(json!({"expr": "* * * * *"}), blank.clone()),
            "Cron: * * * * *"
        );
        assert_eq!(name(json!({"everyMs": 5}), blank.clone()), "Every: 5ms");
        assert_eq!(name(json!({"at": "2030-01-01"}), blank.clone()), "One-shot");
        assert_eq!(name(json!({"kind": "weekly"}), blank), "Cron job");
        let long = "ä".repeat(61);
        let name = name(
            json!({"everyMs": 5}),
            json!({"text": format!("\n {long}\nx")}),
        );
        assert_eq!(name, format!("{}…", "ä".repeat(59)));
    }

    #[test]
    fn changes_get_their_kinds_but_no_defaults() {
        let patch = |patch: Value| updated(json!({"id": "a", "patch": patch}))["patch"].clone();
        assert_eq!(
            patch(json!({"schedule": {"at": "2031-05-01T10:00"}})),
            json!({"schedule": {"kind": "at", "at": "2031-05-01T10:00:00.000Z"}})
        );
        assert_eq!(
            patch(json!({"job": {"model": "m"}})),
            json!({"payload": {"kind": "agentTurn", "model": "m"}})
        );
        assert_eq!(
            patch(json!({"channel": "X"})),
            json!({"delivery": {"channel": "x"}})
        );
        assert_eq!(
            patch(json!({"deliver": false})),
            json!({"delivery": {"mode": "none"}})
        );
        assert_eq!(
            patch(json!({"description": " "})),
            json!({"description": ""})
        );
        assert_eq!(patch(json!({"agentId": null})), json!({"agentId": null}));
        assert_eq!(
            updated(json!({"id": "a", "patch": 5})),
            json!({"id": "a", "patch": 5})
        );
    }
}
