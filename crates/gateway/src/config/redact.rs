//! Masking what is secret in a configuration before anybody sees it.
//!
//! A configuration is open: other programs' sections lie in it, and what is secret is told by names
//! and shapes alone. So this masks too much rather than too little, and never half of a text, except
//! for addresses, whose values are masked one by one.

use serde_json::Value;

/// What stands in for a secret wherever configuration is shown.
pub(crate) const REDACTED: &str = "__OPENCLAW_REDACTED__";

/// The same configuration with every text and number masked that may be a secret: by the name of the
/// key it stands under, in environments and arguments of programs, in addresses, or by its looks.
/// Flags, nulls and empty texts are shown.
pub fn redact(value: &Value) -> Value {
    below(value, Place::Open)
}

/// Whether what stands under a key of that name is taken for a secret.
pub(crate) fn names_secret(key: &str) -> bool {
    of_key(key) != Place::Open
}

/// What is known about a place in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Texts are looked at one by one.
    Open,
    /// What stands right here is a secret; what it contains is looked at by its own names.
    Value,
    /// Texts here are secret, numbers are counts.
    Texts,
    /// Everything from here on is secret.
    All,
}

fn below(value: &Value, place: Place) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, inner)| (key.clone(), below(inner, inside(place, key))))
                .collect(),
        ),
        Value::Array(items) => list(items, place),
        Value::String(text) if text.is_empty() => value.clone(),
        Value::String(text) => match place {
            Place::Open => Value::from(text_in_the_open(text)),
            Place::Value | Place::Texts | Place::All => REDACTED.into(),
        },
        Value::Number(_) if matches!(place, Place::Value | Place::All) => REDACTED.into(),
        Value::Number(_) | Value::Bool(_) | Value::Null => value.clone(),
    }
}

/// A member of a place.
fn inside(place: Place, key: &str) -> Place {
    match place {
        Place::All => Place::All,
        Place::Texts => match of_key(key) {
            Place::All | Place::Value => Place::All,
            Place::Texts | Place::Open => Place::Texts,
        },
        Place::Open | Place::Value => of_key(key),
    }
}

/// A list: in a command line, what follows a flag that names a secret is one.
fn list(items: &[Value], place: Place) -> Value {
    let mut after_flag = false;
    let shown = items.iter().map(|item| {
        let here = if after_flag { Place::All } else { place };
        after_flag = item.as_str().is_some_and(|text| {
            let flag = text.trim_start_matches('-');
            flag.len() < text.len() && !flag.contains('=') && of_key(flag) != Place::Open
        });
        below(item, here)
    });
    Value::Array(shown.collect())
}

/// What a key says about what stands under it, however it is spelled.
fn of_key(key: &str) -> Place {
    let words = words(key);
    let joined = words.concat();
    // Sections that are named after what they hold, and hold more than that.
    if matches!(joined.as_str(), "secrets" | "secretproviders") {
        return Place::Open;
    }
    // Programs' environments and arguments hold anything.
    if matches!(
        joined.as_str(),
        "env" | "environment" | "vars" | "args" | "argv" | "arguments" | "headers"
    ) {
        return Place::All;
    }
    let contains = [
        "password",
        "passphrase",
        "passwd",
        "passcode",
        "secret",
        "apikey",
        "accesskey",
        "privatekey",
        "signingkey",
        "encryptionkey",
        "sharedkey",
        "masterkey",
        "sessionkey",
        "credential",
        "authorization",
        "cookie",
        "mnemonic",
        "webhookurl",
    ];
    if joined.ends_with("token") || contains.iter().any(|word| joined.contains(word)) {
        return Place::All;
    }
    if joined.ends_with("tokens") {
        return Place::Texts;
    }
    let last = words.last().map_or("", String::as_str);
    match last {
        "pass" | "pwd" | "pin" | "pat" | "nsec" | "jwt" | "bearer" | "otp" => Place::All,
        "auth" => Place::Value,
        _ if matches!(joined.as_str(), "key" | "keys" | "access" | "refresh") => Place::Value,
        _ => Place::Open,
    }
}

/// The words of a key in lower case: `dbPwd`, `DB_PWD` and `db-pwd` are the same two.
fn words(key: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut fresh = true;
    let mut after_lower = false;
    for c in key.chars() {
        if !c.is_alphanumeric() {
            fresh = true;
            continue;
        }
        if fresh || (c.is_uppercase() && after_lower) {
            words.push(String::new());
        }
        fresh = false;
        after_lower = !c.is_uppercase();
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
    }
    words
}

/// A text whose key says nothing.
fn text_in_the_open(text: &str) -> String {
    if looks_secret(text) || holds_a_user(text) || holds_a_secret_flag(text) {
        return REDACTED.to_owned();
    }
    match text.find(['?', '#']) {
        Some(at) if text[at..].contains('=') => masked_query(text, at),
        _ => text.to_owned(),
    }
}

/// Whether a word of it looks like what well-known services hand out.
fn looks_secret(text: &str) -> bool {
    const PREFIXES: [&str; 17] = [
        "sk-",
        "sk_",
        "rk_",
        "pk_live",
        "ghp_",
        "gho_",
        "ghs_",
        "github_pat_",
        "glpat-",
        "xoxb-",
        "xoxp-",
        "xapp-",
        "AKIA",
        "AIza",
        "eyJ",
        "nsec1",
        clawgate_protocol::token::PREFIX,
    ];
    if text.contains("-----BEGIN") || text.starts_with("Bearer ") || text.starts_with("Basic ") {
        return true;
    }
    text.split(|c: char| c.is_whitespace() || matches!(c, '=' | ':' | ',' | '"' | '\''))
        .any(|word| word.len() >= 12 && PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
}

/// Whether it is an address with somebody in front of the host.
fn holds_a_user(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.contains('@')
    })
}

/// Whether it is a command line with a flag, or an assignment, that names a secret.
fn holds_a_secret_flag(text: &str) -> bool {
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let flag = name.trim_start_matches('-');
        let is_flag = flag.len() < name.len();
        let has_value = value.is_some_and(|value| !value.is_empty())
            || (is_flag && value.is_none() && words.peek().is_some());
        let is_name = !flag.is_empty()
            && flag
                .chars()
                .all(|c| c.is_alphanumeric() || "-_".contains(c));
        if (is_flag || value.is_some()) && has_value && is_name && of_key(flag) != Place::Open {
            return true;
        }
    }
    false
}

/// An address with every value of its query and fragment masked.
fn masked_query(text: &str, at: usize) -> String {
    let mut shown = text[..at].to_owned();
    for part in text[at..].split_inclusive(['?', '#', '&', ';']) {
        let (pair, mark) = match part.char_indices().next_back() {
            Some((end, mark @ ('?' | '#' | '&' | ';'))) => (&part[..end], Some(mark)),
            _ => (part, None),
        };
        match pair.split_once('=') {
            Some((name, value)) if !value.is_empty() => {
                shown.push_str(name);
                shown.push('=');
                shown.push_str(REDACTED);
            }
            _ => shown.push_str(pair),
        }
        shown.extend(mark);
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let value = json!({
            "gateway": {"auth": {"token": "canary", "password": "canary", "mode": "token"},
                "remote": {"url": "wss://h/x?token=canary&api_key=canary#access_token=canary"}},
            "models": {"providers": {"x": {"apiKey": "canary", "models": [{"clientSecret": "canary"}],
                "baseUrl": "https://u:canary@h/v1"}}},
            "hooks": {"token": "", "path": "/in?k=canary", "sessionKey": "canary"},
            "env": {"A": "canary", "vars": {"B": "canary", "C": ["canary"]}},
            "skills": {"entries": {"w": {"env": {"X": "canary", "N": 4_711_077}}}},
            "mcp": {"servers": {"s": {"args": ["--api-key", "canary", "canary"],
                "command": "serve --api-key canary", "run": ["x", "--token", "canary"],
                "line": "API_KEY=canary serve", "url": "https://canary@host/"}}},
            "auth": {"profiles": {"p": {"key": "canary", "access": "canary", "refresh": "canary"}}},
            "channels": {"a": {"pass": "canary", "dbPwd": "canary", "pin": 4_711_077,
                "GITHUB_PAT": "canary", "nsec": "canary", "auth": "canary", "botToken": 4_711_077},
                "b": {"note": "sk-canary-0123456789", "hookText": "Bearer canary",
                "webhookUrl": "https://hooks.example/services/canary"}},
            "tokens": ["canary", {"value": "canary"}],
        });
        let shown = redact(&value).to_string();
        assert!(!shown.contains("canary"), "{shown}");
        assert!(!shown.contains("4711077"), "{shown}");
        assert!(shown.contains("\"mode\":\"token\""));
        assert!(shown.contains("wss://h/x?token=__OPENCLAW_REDACTED__&api_key="));
    }

    #[test]
    fn what_is_no_secret_is_left_alone() {
        let value = json!({
            "models": {"providers": {"x": {"baseUrl": "http://127.0.0.1:1/v1", "models": [
                {"id": "m", "maxTokens": 1024, "contextWindow": 32_000, "input": ["text"]}]}}},
            "gateway": {"port": 18_789, "auth": {"mode": "token", "allowTailscale": false},
                "trustedProxies": ["10.0.0.0/8"], "controlUi": {"allowedOrigins": ["https://a.b"]}},
            "agents": {"list": [{"id": "main", "name": "What is 2+2? Nobody knows"}]},
            "tools": {"keyboard": "de", "patience": "some", "passive": "yes", "author": "me"},
            "env": {"shellEnv": {"enabled": true}},
            "secrets": {"providers": {"file": {"mode": "json"}}},
        });
        assert_eq!(redact(&value), value);
    }
}
