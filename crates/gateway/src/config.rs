//! The operator's configuration: `clawgate.json`, JSON5 with comments, as the gateway uses it.
//! Who reads and changes the file is `settings`.
//!
//! Unknown keys warn, because a typo should be seen and a newer file should still start. Wrong
//! types and impossible combinations under `gateway` refuse to start, with the path and what is
//! expected there: a security setting is never guessed.

mod control_ui;
mod cron;
mod hooks;
mod look;
mod redact;
mod schema;
mod secret;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use clawgate_core::{ScopeSet, lockout::Limits, node::CommandRules, origin::OriginRules, proof};
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

pub(crate) use control_ui::ControlUi;
pub(crate) use cron::Cron;
pub(crate) use hooks::{Action as HookAction, Hooks, Mode as HookMode};
use look::Look;
pub use redact::redact;
pub(crate) use redact::{REDACTED, names_secret};
pub(crate) use schema::{hints, json_schema, lookup, secret_paths};
pub(crate) use secret::{Reference, Resolver, names_in};

/// Default port of the original.
pub(crate) const DEFAULT_PORT: u16 = 18_789;

/// How callers authenticate.
#[derive(Debug)]
pub(crate) enum Auth {
    /// A shared token.
    Token(SecretString),
    /// A shared password.
    Password(SecretString),
    /// Nothing, on loopback only.
    None,
    /// A proxy names the user.
    TrustedProxy(ProxyAuth),
}

impl Auth {
    /// The wire's word.
    pub(crate) fn mode(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Password(_) => "password",
            Self::None => "none",
            Self::TrustedProxy(_) => "trusted-proxy",
        }
    }
}

/// `gateway.auth.trustedProxy` and `gateway.auth.identityScopes`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ProxyAuth {
    /// Header that names the user, lower-case.
    pub user_header: String,
    /// Headers that must be there, lower-case.
    pub required_headers: Vec<String>,
    /// Users that may pass, an empty list none of them; absent lets all pass.
    pub allow_users: Option<Vec<String>>,
    /// Whether a proxy on this machine may name users, although any program on it could.
    pub allow_loopback: bool,
    /// Scopes of a user without a device; `*` is anybody.
    pub identity_scopes: BTreeMap<String, ScopeSet>,
}

impl ProxyAuth {
    /// Whether a user may pass at all.
    pub(crate) fn allows(&self, user: &str) -> bool {
        let named = |users: &Vec<String>| users.iter().any(|allowed| allowed == user);
        self.allow_users.as_ref().is_none_or(named)
    }

    /// The scopes configured for a user.
    pub(crate) fn scopes_of(&self, user: &str) -> ScopeSet {
        self.identity_scopes
            .get(user)
            .or_else(|| self.identity_scopes.get("*"))
            .cloned()
            .unwrap_or_default()
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bind {
    /// 127.0.0.1 and ::1.
    Loopback,
    /// Every address.
    Lan,
    /// This address.
    Custom(IpAddr),
}

impl Bind {
    /// The addresses to listen on; the first must work, the others may fail.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        match self {
            Self::Loopback => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            Self::Lan => vec![Ipv4Addr::UNSPECIFIED.into()],
            Self::Custom(address) => vec![*address],
        }
    }

    fn is_loopback(&self) -> bool {
        self.addresses().iter().all(IpAddr::is_loopback)
    }
}

/// Flags of the command line that stand above the file.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    pub port: Option<u16>,
    pub bind: Option<String>,
    pub auth: Option<String>,
    pub token: Option<SecretString>,
    pub password: Option<SecretString>,
}

/// The configuration as the gateway uses it.
#[derive(Debug)]
pub(crate) struct Config {
    pub path: PathBuf,
    pub port: u16,
    pub bind: Bind,
    pub auth: Auth,
    pub rate_limit: Limits,
    pub deviceless_loopback: ScopeSet,
    pub trusted_proxies: Vec<IpNet>,
    pub allow_real_ip: bool,
    pub origins: OriginRules,
    pub refuse_unattributed: bool,
    pub handshake_timeout_ms: u64,
    pub reload: Reload,
    pub cron: Cron,
    /// Commands of nodes.
    pub nodes: CommandRules,
    pub control_ui: ControlUi,
    pub hooks: Option<Hooks>,
    pub agents: Vec<AgentEntry>,
    /// Text of the file as read, empty when there is none.
    pub snapshot: Snapshot,
    /// Payload of `config.get`, encoded when it is first asked for.
    pub shown: OnceLock<Arc<str>>,
}

/// `gateway.reload`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reload {
    /// Whether a changed file is taken by itself; by signal and over the wire it always is.
    pub watches: bool,
    /// How long it must have been the same before.
    pub debounce: std::time::Duration,
}

/// One entry of `agents.list`.
#[derive(Clone, Debug)]
pub(crate) struct AgentEntry {
    pub id: String,
    pub name: Option<String>,
}

/// What `config.get` tells of the file. It holds secrets and does not print.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    pub exists: bool,
    pub raw: String,
    pub parsed: Value,
    pub warnings: Vec<Issue>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("exists", &self.exists)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// One remark about the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Dotted path.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

/// Why the configuration cannot be used. Exit code 78.
#[derive(Debug)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Everything that is wrong, so that it is mended in one go.
    pub issues: Vec<Issue>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be used", self.file.display())?;
        for issue in &self.issues {
            let place = if issue.path.is_empty() {
                "file"
            } else {
                &issue.path
            };
            write!(f, "\n  {place}: {}", issue.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// What the environment says, read once.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    pub token: Option<SecretString>,
    pub password: Option<SecretString>,
}

/// Checks a file as the gateway would read it, with the password that the environment holds. For
/// `clawgate config validate`.
///
/// # Errors
/// Everything that would stop the gateway from starting.
pub fn validate(
    path: &Path,
    environment_password: Option<SecretString>,
) -> Result<Vec<Issue>, ConfigError> {
    let generated = || Ok(SecretString::from("not-generated"));
    let environment = Environment {
        token: None,
        password: environment_password,
    };
    let text = crate::settings::read(path).map_err(|error| unreadable(path, &error))?;
    let config = Config::of(path, text, &Overrides::default(), &environment, generated)?;
    Ok(config.snapshot.warnings)
}

/// The file cannot be read.
pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> ConfigError {
    ConfigError {
        file: path.to_owned(),
        issues: vec![Issue {
            path: String::new(),
            message: format!("cannot be read: {error}"),
        }],
    }
}

impl Config {
    /// Judges a text as the file's, `None` being no file; `generated` is asked for a token when mode
    /// is token and none is set.
    pub(crate) fn of(
        path: &Path,
        text: Option<String>,
        overrides: &Overrides,
        environment: &Environment,
        generated: impl FnOnce() -> std::io::Result<SecretString>,
    ) -> Result<Self, ConfigError> {
        let fail = |issues| ConfigError {
            file: path.to_owned(),
            issues,
        };
        let one = |path: &str, message: String| {
            vec![Issue {
                path: path.to_owned(),
                message,
            }]
        };
        let (exists, raw) = (text.is_some(), text.unwrap_or_default());
        // A write that was cut short leaves such a file. Its owner had more in mind than defaults.
        if exists && raw.trim().is_empty() {
            let words = "is empty; write {} where nothing is to be configured, or remove it";
            return Err(fail(one("", words.to_owned())));
        }
        let parsed =
            parse(&raw).map_err(|message| fail(one("", format!("is not JSON5: {message}"))))?;
        let Some(root) = parsed.as_object() else {
            return Err(fail(one("", "expected an object".to_owned())));
        };

        let mut look = Look::default();
        schema::check(&mut look, root);
        let resolved = resolved(&mut look, &parsed);
        let root = resolved.as_object().unwrap_or(root);
        let gateway = look.section(root, "gateway");
        let auth_section = look.inner(&gateway, "gateway", "auth");
        let ui = look.inner(&gateway, "gateway", "controlUi");
        for path in included(&parsed) {
            let words = "names other files, which are not read: write what they hold in its place";
            look.refuse(&path, words.to_owned());
        }
        for path in repeated_keys(&raw) {
            if path == "gateway" || path.starts_with("gateway.") {
                look.refuse(&path, "expected once, found several times".to_owned());
            } else {
                look.warn(
                    &path,
                    "is there several times; the last one holds".to_owned(),
                );
            }
        }

        let port = look
            .integer(&gateway, "gateway.port", "port", 0, 65_535)
            .and_then(|port| u16::try_from(port).ok());
        let bind = look.bind(&gateway, overrides);
        let trusted_proxies = look.proxies(&gateway);
        let auth = look.auth(&auth_section, overrides, environment, generated);
        let deviceless_loopback = look.deviceless(&auth_section);
        let rate_limit = look.rate_limit(&auth_section);
        let origins = OriginRules {
            allowed: look
                .texts(&ui, "gateway.controlUi.allowedOrigins", "allowedOrigins")
                .into_iter()
                .map(|origin| origin.trim().trim_end_matches('/').to_ascii_lowercase())
                .collect(),
            host_fallback: look
                .boolean(
                    &ui,
                    "gateway.controlUi.dangerouslyAllowHostHeaderOriginFallback",
                    "dangerouslyAllowHostHeaderOriginFallback",
                )
                .unwrap_or(false),
        };
        for switch in ["allowInsecureAuth", "dangerouslyDisableDeviceAuth"] {
            let path = format!("gateway.controlUi.{switch}");
            if look.boolean(&ui, &path, switch) == Some(true) {
                look.warn(
                    &path,
                    "has no effect: a browser always shows a device identity here".to_owned(),
                );
            }
        }
        let allow_real_ip = look
            .boolean(
                &gateway,
                "gateway.allowRealIpFallback",
                "allowRealIpFallback",
            )
            .unwrap_or(false);
        let handshake_timeout_ms = look
            .integer(
                &gateway,
                "gateway.handshakeTimeoutMs",
                "handshakeTimeoutMs",
                100,
                60_000,
            )
            .and_then(|ms| u64::try_from(ms).ok())
            .unwrap_or(15_000);
        let reload = look.reload(&gateway);
        let proxy = look.inner(&gateway, "gateway", "proxy");
        let refuse_unattributed = match look
            .text(&proxy, "gateway.proxy.unattributed", "unattributed")
            .as_deref()
        {
            None | Some("remote") => false,
            Some("refuse") => true,
            Some(other) => {
                look.refuse(
                    "gateway.proxy.unattributed",
                    format!("expected \"remote\" or \"refuse\", found {other:?}"),
                );
                false
            }
        };
        let cron = Cron::read(&mut look, root);
        let nodes = look.inner(&gateway, "gateway", "nodes");
        let nodes = CommandRules {
            allow: look.texts(&nodes, "gateway.nodes.allowCommands", "allowCommands"),
            deny: look.texts(&nodes, "gateway.nodes.denyCommands", "denyCommands"),
        };
        let control_ui = ControlUi::read(&mut look, &gateway, &ui);
        let hooks = Hooks::read(&mut look, root, auth.as_ref());
        let agents = agents(&parsed);
        look.not_served(&gateway);

        if matches!(auth, Some(Auth::None)) && !bind.is_loopback() {
            look.refuse(
                "gateway.auth.mode",
                "\"none\" needs gateway.bind \"loopback\": anybody who reaches the port would be the owner".to_owned(),
            );
        }
        if let Some(Auth::TrustedProxy(proxy)) = &auth {
            if trusted_proxies.is_empty() {
                look.refuse(
                    "gateway.trustedProxies",
                    "expected at least one address, because gateway.auth.mode is \"trusted-proxy\""
                        .to_owned(),
                );
            }
            let on_loopback = |net: &IpNet| net.addr().is_loopback();
            if !proxy.allow_loopback && trusted_proxies.iter().any(on_loopback) {
                look.warn(
                    "gateway.trustedProxies",
                    "a proxy on this machine names no users: any program on it could. Set \
                     gateway.auth.trustedProxy.allowLoopback to true if all of them may"
                        .to_owned(),
                );
            }
        }
        let auth = match auth {
            Some(auth) if look.refusals.is_empty() => auth,
            _ => return Err(fail(look.refusals)),
        };
        Ok(Self {
            path: path.to_owned(),
            port: overrides.port.or(port).unwrap_or(DEFAULT_PORT),
            bind,
            auth,
            rate_limit,
            deviceless_loopback,
            trusted_proxies,
            allow_real_ip,
            origins,
            refuse_unattributed,
            handshake_timeout_ms,
            reload,
            cron,
            nodes,
            control_ui,
            hooks,
            agents,
            shown: OnceLock::new(),
            snapshot: Snapshot {
                exists,
                raw,
                parsed,
                warnings: look.warnings,
            },
        })
    }

    /// Whether the same credentials are good as under another configuration.
    pub(crate) fn has_secret_of(&self, other: &Self) -> bool {
        match (&self.auth, &other.auth) {
            (Auth::Token(one), Auth::Token(two)) | (Auth::Password(one), Auth::Password(two)) => {
                is_secret(one, two.expose_secret())
            }
            _ => false,
        }
    }

    /// Whether whoever is let in by another configuration is let in by this one as the same.
    pub(crate) fn admits_like(&self, other: &Self) -> bool {
        let same_auth = match (&self.auth, &other.auth) {
            (Auth::None, Auth::None) => true,
            (Auth::TrustedProxy(one), Auth::TrustedProxy(two)) => one == two,
            _ => self.has_secret_of(other),
        };
        same_auth
            && self.deviceless_loopback == other.deviceless_loopback
            && self.trusted_proxies == other.trusted_proxies
            && self.origins == other.origins
    }

    /// Whether an address belongs to a configured proxy.
    pub(crate) fn is_trusted_proxy(&self, address: IpAddr) -> bool {
        self.trusted_proxies
            .iter()
            .any(|net| net.contains(&address))
    }

    /// SHA-256 of the file's text, hex: the base hash of later edits.
    pub(crate) fn hash(&self) -> String {
        proof::fingerprint(&self.snapshot.raw)
    }
}

/// The configuration with what it refers to put in, as far as the gateway uses it. What cannot be
/// found refuses, where it matters: nothing weaker is taken instead.
fn resolved(look: &mut Look, parsed: &Value) -> Value {
    let resolver = Resolver::of(parsed);
    let mut whole = parsed.clone();
    for section in ["gateway", "cron", "hooks"] {
        let Some(said) = parsed.get(section) else {
            continue;
        };
        let unused = section == "hooks" && said.get("enabled") != Some(&Value::Bool(true));
        let mut said = said.clone();
        // That is for commands on this machine, which find it themselves.
        let remote = match (&mut said, section) {
            (Value::Object(map), "gateway") => map.shift_remove("remote"),
            _ => None,
        };
        let mut found = resolver.resolved(&said, section, &mut |path, why| {
            if unused {
                look.warn(path, why);
            } else {
                look.refuse(path, why);
            }
        });
        if let (Some(remote), Value::Object(map)) = (remote, &mut found) {
            map.insert("remote".to_owned(), remote);
        }
        whole[section] = found;
    }
    whole
}

/// Reads JSON5. An empty file is an empty object.
pub(crate) fn parse(raw: &str) -> Result<Value, String> {
    if raw.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    jsonc_parser::parse_to_serde_value::<Value>(raw, &jsonc_parser::ParseOptions::default())
        .map_err(|error| error.to_string())
}

/// Places that would bring another file in. What is missing without it may be what protects.
fn included(parsed: &Value) -> Vec<String> {
    fn below(path: &str, value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let path = match path {
                        "" => key.clone(),
                        path => format!("{path}.{key}"),
                    };
                    match key.as_str() {
                        "$include" => found.push(path),
                        _ => below(&path, value, found),
                    }
                }
            }
            Value::Array(list) => {
                for (at, value) in list.iter().enumerate() {
                    below(&format!("{path}[{at}]"), value, found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    below("", parsed, &mut found);
    found
}

/// Paths of keys that an object holds more than once. Readers differ in which one they take.
fn repeated_keys(raw: &str) -> Vec<String> {
    let parsed = jsonc_parser::parse_to_ast(
        raw,
        &jsonc_parser::CollectOptions::default(),
        &jsonc_parser::ParseOptions::default(),
    );
    let mut found = Vec::new();
    if let Ok(parsed) = parsed
        && let Some(value) = &parsed.value
    {
        collect_repeated(value, "", &mut found);
    }
    found
}

fn collect_repeated(value: &jsonc_parser::ast::Value<'_>, path: &str, found: &mut Vec<String>) {
    use jsonc_parser::ast::Value as Node;
    match value {
        Node::Object(object) => {
            let mut seen = std::collections::HashSet::new();
            for property in &object.properties {
                let key = property.name.as_str();
                let place = if path.is_empty() {
                    key.to_owned()
                } else {
                    format!("{path}.{key}")
                };
                collect_repeated(&property.value, &place, found);
                if !seen.insert(key) {
                    found.push(place);
                }
            }
        }
        Node::Array(array) => {
            for (index, item) in array.elements.iter().enumerate() {
                collect_repeated(item, &format!("{path}[{index}]"), found);
            }
        }
        Node::StringLit(_) | Node::NumberLit(_) | Node::BooleanLit(_) | Node::NullKeyword(_) => {}
    }
}

/// The agents of the file, the default one first.
fn agents(parsed: &Value) -> Vec<AgentEntry> {
    let roster = crate::agents::Roster::of(parsed, Path::new(""));
    let entry = |agent: crate::agents::Agent| AgentEntry {
        id: agent.id,
        name: agent.name,
    };
    roster.agents.into_iter().map(entry).collect()
}

/// Whether a presented secret is the configured one. Blanks around either do not count.
pub(crate) fn is_secret(configured: &SecretString, presented: &str) -> bool {
    proof::same(configured.expose_secret().trim(), presented.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        Config::of(
            Path::new("clawgate.json"),
            Some(text.to_owned()),
            &Overrides::default(),
            &Environment::default(),
            || Ok(SecretString::from("made")),
        )
    }

    fn issue(text: &str) -> String {
        let error = load(text).unwrap_err();
        format!("{}: {}", error.issues[0].path, error.issues[0].message)
    }

    #[test]
    fn json5_with_comments_is_read() {
        let config =
            load("{ // mine\n gateway: {port: 0x10, 'bind': \"lan\", auth: {token: 't',},}, }")
                .unwrap();
        assert_eq!(config.port, 16);
        assert_eq!(config.bind, Bind::Lan);
        assert_eq!(config.auth.mode(), "token");
    }

    #[test]
    fn nothing_is_needed() {
        // But an empty file is none.
        assert!(load("").is_err());
        let config = load("{}").unwrap();
        assert_eq!(config.port, DEFAULT_PORT);
        assert!(matches!(config.auth, Auth::Token(_)));
        assert!(config.snapshot.warnings.is_empty());
    }

    #[test]
    fn unknown_keys_warn() {
        let config = load("{gateway: {prot: 1, auth: {tokn: 'x'}}, gatway: {}}").unwrap();
        let paths: Vec<&str> = config
            .snapshot
            .warnings
            .iter()
            .map(|w| w.path.as_str())
            .collect();
        assert_eq!(paths, ["gatway", "gateway.prot", "gateway.auth.tokn"]);
    }

    #[test]
    fn unknown_keys_warn_in_every_section_of_the_gateway() {
        let config = load(
            "{gateway: {controlUi: {x: 1}, proxy: {x: 1}, tls: {x: 1}, http: {x: 1, endpoints: {x: 1,
                responses: {x: 1}}}, remote: {x: 1}, reload: {x: 1}, nodes: {x: 1, browser: {x: 1}},
                tailscale: {x: 1}, tools: {x: 1}, push: {x: 1}, auth: {rateLimit: {x: 1},
                deviceless: {x: 1}, trustedProxy: {x: 1}}}}",
        )
        .unwrap();
        let mut paths: Vec<&str> = config
            .snapshot
            .warnings
            .iter()
            .map(|warning| warning.path.strip_prefix("gateway.").unwrap())
            .collect();
        paths.sort_unstable();
        let expected = [
            "auth.deviceless.x",
            "auth.rateLimit.x",
            "auth.trustedProxy.x",
            "controlUi.x",
            "http.endpoints.responses.x",
            "http.endpoints.x",
            "http.x",
            "nodes.browser.x",
            "nodes.x",
            "proxy.x",
            "push.x",
            "reload.x",
            "remote.x",
            "tailscale.x",
            "tls.x",
            "tools.x",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn what_would_be_less_safe_than_it_says_refuses() {
        for (text, expected) in [
            ("tls: {enabled: true}", "gateway.tls.enabled: is not served"),
            ("tls: 'nope'", "gateway.tls: expected an object"),
            (
                "tls: {enabled: 'yes'}",
                "gateway.tls.enabled: expected true or false",
            ),
            ("http: 5", "gateway.http: expected an object"),
            (
                "controlUi: {allowInsecureAuth: 'yes'}",
                "gateway.controlUi.allowInsecureAuth: expected true or false",
            ),
            (
                "auth: {token: 'a', token: 'b'}",
                "gateway.auth.token: expected once",
            ),
            (
                "auth: {token: 'cgt_abc'}",
                "gateway.auth.token: expected a secret that",
            ),
            (
                "auth: {password: 'cgt_abc'}",
                "gateway.auth.password: expected a secret that",
            ),
            (
                "auth: {mode: 'token', trustedProxy: {allowUsers: 'ann'}}",
                "gateway.auth.trustedProxy.allowUsers: expected a list",
            ),
            (
                "auth: {mode: 'token', trustedProxy: {allowLoopback: 'yes'}}",
                "gateway.auth.trustedProxy.allowLoopback: expected true or false",
            ),
        ] {
            let found = issue(&format!("{{gateway: {{{text}}}}}"));
            assert!(found.starts_with(expected), "{text}: {found}");
        }
        let found = issue("{gateway: {port: 1}, gateway: {port: 2}}");
        assert!(found.starts_with("gateway: expected once"), "{found}");
        let elsewhere = load("{hooks: {a: 1, a: 2}, gateway: {tls: {enabled: false}}}").unwrap();
        assert_eq!(elsewhere.snapshot.warnings[0].path, "hooks.a");
    }

    #[test]
    fn no_users_are_nobody_and_absent_ones_are_all() {
        let users = |list: &str| {
            let text = format!(
                "{{gateway: {{trustedProxies: ['10.0.0.1'], auth: {{mode: 'trusted-proxy',
                 trustedProxy: {{userHeader: 'x-user'{list}}}}}}}}}"
            );
            match load(&text).unwrap().auth {
                Auth::TrustedProxy(proxy) => proxy.allow_users,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(users(""), None);
        assert_eq!(users(", allowUsers: []"), Some(Vec::new()));
        assert_eq!(users(", allowUsers: ['a']"), Some(vec!["a".to_owned()]));
    }

    #[test]
    fn wrong_types_in_security_sections_refuse_with_path_and_expectation() {
        assert_eq!(
            issue("{gateway: 5}"),
            "gateway: expected an object, found a number"
        );
        assert_eq!(
            issue("{gateway: {auth: {token: 5}}}"),
            "gateway.auth.token: expected a string, found a number"
        );
        assert_eq!(
            issue("{gateway: {port: 70000}}"),
            "gateway.port: expected a whole number from 0 to 65535, found 70000"
        );
        assert!(
            issue("{gateway: {auth: {mode: 'none'}, bind: 'lan'}}")
                .starts_with("gateway.auth.mode: \"none\" needs")
        );
        assert!(
            issue("{gateway: {auth: {mode: 'maybe'}}}").starts_with("gateway.auth.mode: expected")
        );
        assert!(
            issue("{gateway: {auth: {token: 'a', password: 'b'}}}")
                .starts_with("gateway.auth.mode: expected")
        );
        assert!(
            issue("{gateway: {auth: {token: '${CLAWGATE_NOT_SET_ANYWHERE}'}}}")
                .contains("CLAWGATE_NOT_SET_ANYWHERE")
        );
        assert!(
            issue("{gateway: {trustedProxies: ['x']}}")
                .starts_with("gateway.trustedProxies: expected")
        );
        assert!(issue("not json").contains("is not JSON5"));
    }
}
