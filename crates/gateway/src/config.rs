//! The operator's configuration: `clawgate.json`, JSON5 with comments, read at start and never
//! written by it.
//!
//! Unknown keys warn, because a typo should be seen and a newer file should still start. Wrong
//! types and impossible combinations under `gateway` refuse to start, with the path and what is
//! expected there: a security setting is never guessed.

mod look;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use clawgate_core::{ScopeSet, lockout::Limits, origin::OriginRules, proof};
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use look::Look;

/// What stands in for a secret wherever configuration is shown.
pub(crate) const REDACTED: &str = "__OPENCLAW_REDACTED__";
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
#[derive(Debug, Default)]
pub(crate) struct ProxyAuth {
    /// Header that names the user, lower-case.
    pub user_header: String,
    /// Headers that must be there, lower-case.
    pub required_headers: Vec<String>,
    /// Users that may pass; empty lets all pass.
    pub allow_users: Vec<String>,
    /// Scopes of a user without a device; `*` is anybody.
    pub identity_scopes: BTreeMap<String, ScopeSet>,
}

impl ProxyAuth {
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
    pub cron: Cron,
    pub agents: Vec<AgentEntry>,
    pub models: Vec<Value>,
    /// Text of the file as read, empty when there is none.
    pub snapshot: Snapshot,
}

/// `cron`.
#[derive(Clone, Debug)]
pub(crate) struct Cron {
    pub enabled: bool,
    pub max_concurrent_runs: usize,
}

/// One entry of `agents.list`.
#[derive(Clone, Debug)]
pub(crate) struct AgentEntry {
    pub id: String,
    pub name: Option<String>,
}

/// What `config.get` tells of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub exists: bool,
    pub raw: String,
    pub parsed: Value,
    pub warnings: Vec<Issue>,
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

/// Checks a file as the gateway would read it. For `clawgate config validate`.
///
/// # Errors
/// Everything that would stop the gateway from starting.
pub fn validate(path: &Path) -> Result<Vec<Issue>, ConfigError> {
    let generated = || Ok(SecretString::from("not-generated"));
    let config = Config::load(
        path,
        &Overrides::default(),
        &Environment::default(),
        generated,
    )?;
    Ok(config.snapshot.warnings)
}

impl Config {
    /// Reads and checks the file; `generated` is asked for a token when mode is token and none is set.
    pub(crate) fn load(
        path: &Path,
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
        let (exists, raw) = match std::fs::read_to_string(path) {
            Ok(raw) => (true, raw),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (false, String::new()),
            Err(error) => return Err(fail(one("", format!("cannot be read: {error}")))),
        };
        let parsed = parse(&raw).map_err(|message| fail(one("", message)))?;
        let Some(root) = parsed.as_object() else {
            return Err(fail(one("", "expected an object".to_owned())));
        };

        let mut look = Look::default();
        look.unknown("", root, TOP_LEVEL);
        let gateway = look.section(root, "gateway");
        look.unknown("gateway", &gateway, GATEWAY);
        let auth_section = look.inner(&gateway, "gateway", "auth");
        look.unknown("gateway.auth", &auth_section, AUTH);
        let ui = look.inner(&gateway, "gateway", "controlUi");
        let cron = look.section(root, "cron");

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
            if ui.get(switch).and_then(Value::as_bool) == Some(true) {
                look.warn(
                    &format!("gateway.controlUi.{switch}"),
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
        let cron = Cron {
            enabled: look
                .boolean(&cron, "cron.enabled", "enabled")
                .unwrap_or(true),
            max_concurrent_runs: look
                .integer(
                    &cron,
                    "cron.maxConcurrentRuns",
                    "maxConcurrentRuns",
                    1,
                    1_024,
                )
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(4),
        };
        let agents = agents(root);
        let models = models(root);

        if matches!(auth, Some(Auth::None)) && !bind.is_loopback() {
            look.refuse(
                "gateway.auth.mode",
                "\"none\" needs gateway.bind \"loopback\": anybody who reaches the port would be the owner".to_owned(),
            );
        }
        if matches!(auth, Some(Auth::TrustedProxy(_))) && trusted_proxies.is_empty() {
            look.refuse(
                "gateway.trustedProxies",
                "expected at least one address, because gateway.auth.mode is \"trusted-proxy\""
                    .to_owned(),
            );
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
            cron,
            agents,
            models,
            snapshot: Snapshot {
                exists,
                raw,
                parsed,
                warnings: look.warnings,
            },
        })
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

/// Reads JSON5. An empty file is an empty object.
fn parse(raw: &str) -> Result<Value, String> {
    if raw.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    jsonc_parser::parse_to_serde_value::<Value>(raw, &jsonc_parser::ParseOptions::default())
        .map_err(|error| format!("is not JSON5: {error}"))
}

const TOP_LEVEL: &[&str] = &[
    "$schema",
    "acp",
    "agents",
    "approvals",
    "audio",
    "auth",
    "bindings",
    "broadcast",
    "browser",
    "canvasHost",
    "channels",
    "cli",
    "commands",
    "cron",
    "diagnostics",
    "discovery",
    "env",
    "gateway",
    "hooks",
    "logging",
    "mcp",
    "media",
    "memory",
    "messages",
    "meta",
    "models",
    "nodeHost",
    "plugins",
    "secrets",
    "session",
    "skills",
    "talk",
    "tools",
    "tts",
    "ui",
    "update",
    "web",
    "wizard",
];
const GATEWAY: &[&str] = &[
    "mode",
    "port",
    "bind",
    "customBindHost",
    "auth",
    "trustedProxies",
    "allowRealIpFallback",
    "controlUi",
    "proxy",
    "handshakeTimeoutMs",
    "remote",
    "reload",
    "http",
    "nodes",
    "tailscale",
    "tls",
    "tools",
    "channelHealthCheckMinutes",
    "push",
];
const AUTH: &[&str] = &[
    "mode",
    "token",
    "password",
    "allowTailscale",
    "rateLimit",
    "deviceless",
    "trustedProxy",
    "identityScopes",
];

fn agents(root: &Map<String, Value>) -> Vec<AgentEntry> {
    let list = root
        .get("agents")
        .and_then(|agents| agents.get("list"))
        .and_then(Value::as_array);
    let mut agents: Vec<AgentEntry> = list
        .into_iter()
        .flatten()
        .filter_map(|agent| {
            Some(AgentEntry {
                id: agent.get("id")?.as_str()?.to_owned(),
                name: agent.get("name").and_then(Value::as_str).map(str::to_owned),
            })
        })
        .collect();
    if agents.is_empty() {
        agents.push(AgentEntry {
            id: "main".to_owned(),
            name: None,
        });
    }
    agents
}

fn models(root: &Map<String, Value>) -> Vec<Value> {
    let providers = root
        .get("models")
        .and_then(|models| models.get("providers"))
        .and_then(Value::as_object);
    let mut found = Vec::new();
    for (provider, entry) in providers.into_iter().flatten() {
        for model in entry
            .get("models")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let Some(id) = model.get("id").and_then(Value::as_str) else {
                continue;
            };
            let mut row = Map::new();
            row.insert("id".to_owned(), id.into());
            let name = model.get("name").and_then(Value::as_str).unwrap_or(id);
            row.insert("name".to_owned(), name.into());
            row.insert("provider".to_owned(), provider.as_str().into());
            for key in ["contextWindow", "reasoning", "input"] {
                if let Some(value) = model.get(key) {
                    row.insert(key.to_owned(), value.clone());
                }
            }
            found.push(Value::Object(row));
        }
    }
    found
}

/// Keys under which every text is a secret, wherever they stand and however they are spelled.
fn is_secret_key(key: &str) -> bool {
    let key: String = key
        .chars()
        .filter(|c| !matches!(c, '-' | '_'))
        .collect::<String>()
        .to_ascii_lowercase();
    // Sections that are named after what they hold, and hold more than that.
    if matches!(key.as_str(), "secrets" | "secretproviders") {
        return false;
    }
    key == "headers"
        || key.ends_with("token")
        || key.ends_with("tokens")
        || [
            "password",
            "passphrase",
            "secret",
            "apikey",
            "accesskey",
            "privatekey",
            "signingkey",
            "encryptionkey",
            "credential",
            "authorization",
            "cookie",
        ]
        .iter()
        .any(|word| key.contains(word))
}

/// Whether a text is an address with a password in it.
fn holds_password(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority
            .rsplit_once('@')
            .is_some_and(|(user, _)| user.contains(':'))
    })
}

/// The same with every secret masked.
pub(crate) fn redact(value: &Value) -> Value {
    redact_below(value, false)
}

fn redact_below(value: &Value, secret: bool) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, inner)| {
                    (
                        key.clone(),
                        redact_below(inner, secret || is_secret_key(key)),
                    )
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| redact_below(item, secret))
                .collect(),
        ),
        Value::String(text) if !text.is_empty() && (secret || holds_password(text)) => {
            Value::from(REDACTED)
        }
        other => other.clone(),
    }
}

/// Whether masking would change it.
pub(crate) fn holds_secrets(value: &Value) -> bool {
    redact(value) != *value
}

/// Whether a presented secret is the configured one. Blanks around either do not count.
pub(crate) fn is_secret(configured: &SecretString, presented: &str) -> bool {
    proof::same(configured.expose_secret().trim(), presented.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let path = std::env::temp_dir().join(format!("clawgate-config-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, text).unwrap();
        let loaded = Config::load(
            &path,
            &Overrides::default(),
            &Environment::default(),
            || Ok(SecretString::from("made")),
        );
        std::fs::remove_file(&path).unwrap();
        loaded
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
        let config = load("").unwrap();
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

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let value = serde_json::json!({
            "gateway": {"auth": {"token": "canary", "password": "canary", "mode": "token"}},
            "models": {"providers": {"x": {"apiKey": "canary", "models": [{"clientSecret": "canary"}]}}},
            "hooks": {"token": ""},
        });
        let shown = redact(&value).to_string();
        assert!(!shown.contains("canary"));
        assert!(shown.contains("\"mode\":\"token\""));
    }
}
