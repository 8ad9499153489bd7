//! Reading values out of the file, one expectation at a time: what does not fit is kept with its
//! path, so that everything wrong is told in one go.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use clawgate_core::{ScopeSet, lockout::Limits};
use clawgate_protocol::token::PREFIX;
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use super::{Auth, Bind, Environment, Issue, Overrides, ProxyAuth, Reload};

/// Reads values and keeps what is wrong with them.
#[derive(Default)]
pub(super) struct Look {
    pub(super) warnings: Vec<Issue>,
    pub(super) refusals: Vec<Issue>,
}

impl Look {
    pub(super) fn warn(&mut self, path: &str, message: String) {
        self.warnings.push(Issue {
            path: path.to_owned(),
            message,
        });
    }

    /// One reason for a place is enough.
    pub(super) fn refuse(&mut self, path: &str, message: String) {
        if self.refusals.iter().any(|issue| issue.path == path) {
            return;
        }
        self.refusals.push(Issue {
            path: path.to_owned(),
            message,
        });
    }

    pub(super) fn section(&mut self, root: &Map<String, Value>, name: &str) -> Map<String, Value> {
        self.object(root, name, name)
    }

    pub(super) fn inner(
        &mut self,
        map: &Map<String, Value>,
        path: &str,
        name: &str,
    ) -> Map<String, Value> {
        self.object(map, &format!("{path}.{name}"), name)
    }

    fn object(&mut self, map: &Map<String, Value>, path: &str, key: &str) -> Map<String, Value> {
        match map.get(key) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(inner)) => inner.clone(),
            Some(other) => {
                self.refuse(path, format!("expected an object, found {}", kind(other)));
                Map::new()
            }
        }
    }

    pub(super) fn text(
        &mut self,
        map: &Map<String, Value>,
        path: &str,
        key: &str,
    ) -> Option<String> {
        match map.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => {
                self.refuse(path, format!("expected a string, found {}", kind(other)));
                None
            }
        }
    }

    pub(super) fn boolean(
        &mut self,
        map: &Map<String, Value>,
        path: &str,
        key: &str,
    ) -> Option<bool> {
        match map.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(flag)) => Some(*flag),
            Some(other) => {
                self.refuse(
                    path,
                    format!("expected true or false, found {}", kind(other)),
                );
                None
            }
        }
    }

    pub(super) fn integer(
        &mut self,
        map: &Map<String, Value>,
        path: &str,
        key: &str,
        min: i64,
        max: i64,
    ) -> Option<i64> {
        match map.get(key) {
            None | Some(Value::Null) => None,
            Some(value) => match value.as_i64() {
                Some(number) if (min..=max).contains(&number) => Some(number),
                _ => {
                    let found = match value {
                        Value::Number(number) => number.to_string(),
                        other => kind(other).to_owned(),
                    };
                    self.refuse(
                        path,
                        format!("expected a whole number from {min} to {max}, found {found}"),
                    );
                    None
                }
            },
        }
    }

    pub(super) fn texts(&mut self, map: &Map<String, Value>, path: &str, key: &str) -> Vec<String> {
        let list = match map.get(key) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(list)) => list,
            Some(other) => {
                self.refuse(
                    path,
                    format!("expected a list of strings, found {}", kind(other)),
                );
                return Vec::new();
            }
        };
        let mut texts = Vec::with_capacity(list.len());
        for (index, item) in list.iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text.clone()),
                other => self.refuse(
                    &format!("{path}[{index}]"),
                    format!("expected a string, found {}", kind(other)),
                ),
            }
        }
        texts
    }

    pub(super) fn bind(&mut self, gateway: &Map<String, Value>, overrides: &Overrides) -> Bind {
        let text = self.text(gateway, "gateway.bind", "bind");
        let custom = self.text(gateway, "gateway.customBindHost", "customBindHost");
        let (path, mode) = match &overrides.bind {
            Some(mode) => ("--bind", mode.clone()),
            None => (
                "gateway.bind",
                text.unwrap_or_else(|| "loopback".to_owned()),
            ),
        };
        match mode.as_str() {
            "loopback" | "auto" => Bind::Loopback,
            "lan" => Bind::Lan,
            "custom" => match custom.as_deref().map(str::parse) {
                Some(Ok(address)) => Bind::Custom(address),
                _ => {
                    self.refuse(
                        "gateway.customBindHost",
                        "expected an IP address, because gateway.bind is \"custom\"".to_owned(),
                    );
                    Bind::Loopback
                }
            },
            other => {
                self.refuse(
                    path,
                    format!(
                        "expected \"loopback\", \"auto\", \"lan\" or \"custom\", found {other:?}"
                    ),
                );
                Bind::Loopback
            }
        }
    }

    pub(super) fn proxies(&mut self, gateway: &Map<String, Value>) -> Vec<IpNet> {
        let path = "gateway.trustedProxies";
        let mut nets = Vec::new();
        for text in self.texts(gateway, path, "trustedProxies") {
            match text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            {
                Ok(net) => nets.push(net),
                Err(_) => self.refuse(
                    path,
                    format!("expected addresses or networks, found {text:?}"),
                ),
            }
        }
        nets
    }

    pub(super) fn auth(
        &mut self,
        section: &Map<String, Value>,
        overrides: &Overrides,
        environment: &Environment,
        generated: impl FnOnce() -> std::io::Result<SecretString>,
    ) -> Option<Auth> {
        let token = self.secret(section, "gateway.auth.token", "token");
        let password = self.secret(section, "gateway.auth.password", "password");
        let file_mode = self.text(section, "gateway.auth.mode", "mode");
        let mode = match overrides.auth.clone().or(file_mode) {
            Some(mode) => mode,
            None => match (&token, &password) {
                (Some(_), Some(_)) => {
                    self.refuse(
                        "gateway.auth.mode",
                        "expected \"token\" or \"password\", because both secrets are set"
                            .to_owned(),
                    );
                    return None;
                }
                (None, Some(_)) => "password".to_owned(),
                _ => "token".to_owned(),
            },
        };
        let proxy = self.proxy_auth(section, mode == "trusted-proxy");
        self.boolean(section, "gateway.auth.allowTailscale", "allowTailscale");
        let first = |flag: &Option<SecretString>,
                     file: Option<SecretString>,
                     env: &Option<SecretString>| {
            flag.clone().or(file).or_else(|| env.clone())
        };
        let auth = match mode.as_str() {
            "token" => match first(&overrides.token, token, &environment.token) {
                Some(token) => Some(Auth::Token(token)),
                None => match generated() {
                    Ok(token) => Some(Auth::Token(token)),
                    Err(error) => {
                        self.refuse(
                            "gateway.auth.token",
                            format!("is not set, and none could be made: {error}"),
                        );
                        None
                    }
                },
            },
            "password" => {
                let password = first(&overrides.password, password, &environment.password);
                if password.is_none() {
                    self.refuse(
                        "gateway.auth.password",
                        "expected a password, because gateway.auth.mode is \"password\"".to_owned(),
                    );
                }
                password.map(Auth::Password)
            }
            "none" => Some(Auth::None),
            "trusted-proxy" => proxy.map(Auth::TrustedProxy),
            other => {
                self.refuse("gateway.auth.mode", format!("expected \"token\", \"password\", \"none\" or \"trusted-proxy\", found {other:?}"));
                None
            }
        };
        let secret = match &auth {
            Some(Auth::Token(secret)) => Some(("gateway.auth.token", secret)),
            Some(Auth::Password(secret)) => Some(("gateway.auth.password", secret)),
            _ => None,
        };
        if let Some((path, secret)) = secret
            && is_no_secret(secret.expose_secret().trim())
        {
            // From a flag or the environment: the file's was looked at when it was read.
            let word = secret.expose_secret().trim();
            self.refuse(path, format!("expected a secret, found the word {word:?}"));
        }
        if let Some((path, secret)) = secret
            && secret.expose_secret().trim().starts_with(PREFIX)
        {
            // It would be looked for among the API tokens, and never be right.
            self.refuse(
                path,
                format!("expected a secret that does not begin with {PREFIX}, as API tokens do"),
            );
        }
        auth
    }

    /// What would be less safe without it stops the start.
    pub(super) fn not_served(&mut self, gateway: &Map<String, Value>) {
        let tls = self.inner(gateway, "gateway", "tls");
        if tls.get("enabled") == Some(&Value::Bool(true)) {
            self.refuse(
                "gateway.tls.enabled",
                "is not served yet: put a proxy with TLS in front, and name it in \
                 gateway.trustedProxies"
                    .to_owned(),
            );
        }
    }

    /// `gateway.auth.trustedProxy` and `identityScopes`, which are checked in every mode and are
    /// complete in their own alone.
    fn proxy_auth(&mut self, section: &Map<String, Value>, is_mode: bool) -> Option<ProxyAuth> {
        let proxy = self.inner(section, "gateway.auth", "trustedProxy");
        let path = "gateway.auth.trustedProxy";
        let lower = |texts: Vec<String>| {
            texts
                .iter()
                .map(|t| t.trim().to_ascii_lowercase())
                .collect()
        };
        let user_header = self.text(&proxy, &format!("{path}.userHeader"), "userHeader");
        let required = self.texts(
            &proxy,
            &format!("{path}.requiredHeaders"),
            "requiredHeaders",
        );
        let allow_users = self.texts(&proxy, &format!("{path}.allowUsers"), "allowUsers");
        let names_users = proxy
            .get("allowUsers")
            .is_some_and(|users| !users.is_null());
        let allow_loopback = self
            .boolean(&proxy, &format!("{path}.allowLoopback"), "allowLoopback")
            .unwrap_or(false);
        let scopes = self.inner(section, "gateway.auth", "identityScopes");
        let mut identity_scopes = BTreeMap::new();
        for user in scopes.keys() {
            let names = self.texts(
                &scopes,
                &format!("gateway.auth.identityScopes.{user}"),
                user,
            );
            identity_scopes.insert(
                user.clone(),
                names.into_iter().map(clawgate_core::Scope::new).collect(),
            );
        }
        if !is_mode {
            return None;
        }
        let Some(user_header) = user_header.filter(|header| !header.trim().is_empty()) else {
            self.refuse(
                &format!("{path}.userHeader"),
                "expected the name of the header that carries the user".to_owned(),
            );
            return None;
        };
        Some(ProxyAuth {
            user_header: user_header.trim().to_ascii_lowercase(),
            required_headers: lower(required),
            allow_users: names_users.then_some(allow_users),
            allow_loopback,
            identity_scopes,
        })
    }

    /// A secret, with what it referred to put in.
    pub(super) fn secret(
        &mut self,
        map: &Map<String, Value>,
        path: &str,
        key: &str,
    ) -> Option<SecretString> {
        let text = self.text(map, path, key)?.trim().to_owned();
        if text.is_empty() {
            return None;
        }
        if is_no_secret(&text) {
            self.refuse(path, format!("expected a secret, found the word {text:?}"));
            return None;
        }
        if text.contains(super::REDACTED) {
            self.refuse(
                path,
                "expected a secret, found what stands in for one where it is shown".to_owned(),
            );
            return None;
        }
        Some(SecretString::from(text))
    }

    pub(super) fn deviceless(&mut self, auth: &Map<String, Value>) -> ScopeSet {
        let section = self.inner(auth, "gateway.auth", "deviceless");
        if !section.contains_key("loopback") {
            return ScopeSet::from_iter([clawgate_core::Scope::ADMIN]);
        }
        self.texts(&section, "gateway.auth.deviceless.loopback", "loopback")
            .into_iter()
            .map(clawgate_core::Scope::new)
            .collect()
    }

    pub(super) fn reload(&mut self, gateway: &Map<String, Value>) -> Reload {
        let section = self.inner(gateway, "gateway", "reload");
        let mode = self.text(&section, "gateway.reload.mode", "mode");
        let path = "gateway.reload.debounceMs";
        let debounce_ms = self.integer(&section, path, "debounceMs", 0, 60_000);
        Reload {
            watches: mode.as_deref() != Some("off"),
            debounce: Duration::from_millis(
                debounce_ms
                    .and_then(|ms| u64::try_from(ms).ok())
                    .unwrap_or(300),
            ),
        }
    }

    pub(super) fn rate_limit(&mut self, auth: &Map<String, Value>) -> Limits {
        let section = self.inner(auth, "gateway.auth", "rateLimit");
        let path = "gateway.auth.rateLimit";
        let defaults = Limits::default();
        let mut ms = |key: &str, min, default| {
            self.integer(&section, &format!("{path}.{key}"), key, min, 86_400_000)
                .unwrap_or(default)
        };
        let window_ms = ms("windowMs", 1_000, defaults.window_ms);
        let lock_ms = ms("lockoutMs", 1_000, defaults.lock_ms);
        let attempts_max = ms("maxAttempts", 1, i64::from(defaults.attempts_max));
        Limits {
            attempts_max: u32::try_from(attempts_max).unwrap_or(defaults.attempts_max),
            window_ms,
            lock_ms,
            exempt_loopback: self
                .boolean(
                    &section,
                    &format!("{path}.exemptLoopback"),
                    "exemptLoopback",
                )
                .unwrap_or(defaults.exempt_loopback),
            keys_max: defaults.keys_max,
        }
    }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// What a script writes that has no secret to write, and what samples of settings have in its place: whoever
/// copied one is not to be found by whoever read the same page.
fn is_no_secret(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "undefined",
        "null",
        "none",
        "token",
        "password",
        "secret",
        "changeme",
        "replaceme",
        "yourtoken",
        "yourpassword",
        "yoursecret",
        "yourtokenhere",
        "yourpasswordhere",
        "yoursecrethere",
        "changemetoalongrandomtoken",
        "changemetoastrongpassword",
    ];
    let letters: String = text
        .chars()
        .filter(|c| !matches!(c, '-' | '_' | ' ' | '<' | '>'))
        .collect();
    WORDS.contains(&letters.to_ascii_lowercase().as_str())
}
