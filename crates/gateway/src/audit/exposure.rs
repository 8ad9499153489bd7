//! What a configuration and a database let others do. Pure: what is judged comes as arguments.

use std::net::IpAddr;

use clawgate_core::{Scope, pairing::Device};
use clawgate_store::Grants;
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::{Finding, Severity};
use crate::config::{Auth, Bind, Config};

/// Characters that a secret should have: below, guessing is a matter of patience.
const TOKEN_CHARS_MIN: usize = 24;
const PASSWORD_CHARS_MIN: usize = 12;
/// Days without a use after which a grant is one that nobody would miss.
const UNUSED_DAYS: i64 = 90;
const DAY_MS: i64 = 86_400_000;
/// Commands of nodes that see, hear, run or speak for their user.
const DANGEROUS_COMMANDS: &[&str] = &[
    "system.run",
    "camera.",
    "screen.",
    "sms.send",
    "calendar.add",
    "contacts.add",
    "reminders.add",
];
/// Keys whose text is a secret.
const SECRET_KEYS: &[&str] = &[
    "token",
    "password",
    "secret",
    "apikey",
    "api_key",
    "webhooktoken",
    "bottoken",
    "apptoken",
    "accesstoken",
    "clientsecret",
];

/// What a configuration opens.
pub(super) fn of_config(config: &Config) -> Vec<Finding> {
    let root = &config.snapshot.parsed;
    let mut found = vec![surface(config, root)];
    bind_and_auth(config, root, &mut found);
    proxies(config, &mut found);
    pages(config, root, &mut found);
    hooks(root, &mut found);
    outbound(config, &mut found);
    secrets_in_text(root, &mut found);
    the_rest(root, &mut found);
    found
}

fn at<'a>(root: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(root, |value, key| &value[key])
}

fn is_on(root: &Value, path: &str) -> bool {
    at(root, path) == &Value::Bool(true)
}

fn is_local(bind: &Bind) -> bool {
    bind.addresses().iter().all(IpAddr::is_loopback)
}

fn surface(config: &Config, root: &Value) -> Finding {
    let bind = if is_local(&config.bind) {
        "this machine only"
    } else {
        "other machines too"
    };
    let on = |path| if is_on(root, path) { "on" } else { "off" };
    Finding::new(
        "summary.attack_surface",
        Severity::Info,
        "Attack surface summary",
        format!(
            "listens for: {bind}; auth: {}; trusted proxies: {}; allowed origins: {}; hooks: {}; \
             this machine with the shared secret and no device: {}",
            config.auth.mode(),
            config.trusted_proxies.len(),
            config.origins.allowed.len(),
            on("hooks.enabled"),
            names(config.deviceless_loopback.iter()),
        ),
    )
}

fn names<'a>(scopes: impl Iterator<Item = &'a Scope>) -> String {
    let names: Vec<&str> = scopes.map(Scope::as_str).collect();
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

fn chars(secret: &SecretString) -> usize {
    secret.expose_secret().trim().chars().count()
}

fn bind_and_auth(config: &Config, root: &Value, found: &mut Vec<Finding>) {
    let local = is_local(&config.bind);
    match &config.auth {
        Auth::None => found.push(
            Finding::new(
                if local { "gateway.loopback_no_auth" } else { "gateway.bind_no_auth" },
                Severity::Critical,
                "Anybody who reaches the port is the owner",
                "gateway.auth.mode is \"none\": every program of every user on this machine has every right",
            )
            .remedy("set gateway.auth.mode to \"token\"; a token is made at the next start"),
        ),
        Auth::Token(token) if chars(token) < TOKEN_CHARS_MIN => found.push(
            Finding::new(
                "gateway.token_too_short",
                if local { Severity::Warn } else { Severity::Critical },
                "The shared token is short",
                format!(
                    "it has {} characters; below {TOKEN_CHARS_MIN} it can be guessed by who may try for long",
                    chars(token)
                ),
            )
            .remedy("openssl rand -hex 24, and put it where gateway.auth.token comes from"),
        ),
        Auth::Password(password) if chars(password) < PASSWORD_CHARS_MIN => found.push(
            Finding::new(
                "gateway.password_too_short",
                if local { Severity::Warn } else { Severity::Critical },
                "The shared password is short",
                format!(
                    "it has {} characters; below {PASSWORD_CHARS_MIN} it can be guessed by who may try for long",
                    chars(password)
                ),
            )
            .remedy("choose a longer gateway.auth.password"),
        ),
        Auth::TrustedProxy(proxy) => {
            if proxy.allow_users.is_none() {
                found.push(
                    Finding::new(
                        "gateway.trusted_proxy_no_allowlist",
                        Severity::Warn,
                        "Every user that the proxy names may pass",
                        "gateway.auth.trustedProxy.allowUsers is not set",
                    )
                    .remedy("list the users in gateway.auth.trustedProxy.allowUsers"),
                );
            }
            if proxy.allow_loopback {
                found.push(
                    Finding::new(
                        "gateway.trusted_proxy_loopback",
                        Severity::Warn,
                        "Any program on this machine may name itself a user",
                        "gateway.auth.trustedProxy.allowLoopback is true",
                    )
                    .remedy("let the proxy reach the gateway from an address of its own"),
                );
            }
            if let Some(scopes) = proxy.identity_scopes.get("*")
                && scopes.iter().any(|scope| scope.as_str() == "operator.admin")
            {
                found.push(
                    Finding::new(
                        "gateway.identity_scopes_everybody_admin",
                        Severity::Critical,
                        "Every user behind the proxy has every right",
                        "gateway.auth.identityScopes gives operator.admin to \"*\"",
                    )
                    .remedy("name the users that are owners"),
                );
            }
        }
        Auth::Token(_) | Auth::Password(_) => {}
    }
    if !local {
        let auth = config.auth.mode();
        found.push(
            Finding::new(
                "gateway.bind_no_tls",
                Severity::Warn,
                "Other machines reach the gateway without TLS",
                format!(
                    "gateway.bind is {}: with auth \"{auth}\" what clients send, secrets too, can be read on the way",
                    at(root, "gateway.bind")
                ),
            )
            .remedy("bind to loopback and put a proxy with TLS or a tunnel in front"),
        );
    }
    if !at(root, "gateway.auth.deviceless").is_null() && !config.deviceless_loopback.is_empty() {
        found.push(
            Finding::new(
                "gateway.deviceless_loopback",
                Severity::Info,
                "The shared secret alone carries rights on this machine",
                format!(
                    "gateway.auth.deviceless.loopback: whoever here holds the secret needs no device for {}",
                    names(config.deviceless_loopback.iter())
                ),
            )
            .remedy("set gateway.auth.deviceless.loopback to what scripts without a device need"),
        );
    }
    if config.rate_limit.attempts_max > 100 || config.rate_limit.lock_ms < 10_000 {
        found.push(
            Finding::new(
                "gateway.auth_weak_rate_limit",
                Severity::Warn,
                "Guessing is hardly slowed",
                format!(
                    "gateway.auth.rateLimit allows {} attempts in {} ms and locks for {} ms",
                    config.rate_limit.attempts_max,
                    config.rate_limit.window_ms,
                    config.rate_limit.lock_ms
                ),
            )
            .remedy("leave gateway.auth.rateLimit out: 10 in a minute, locked for five"),
        );
    }
}

fn proxies(config: &Config, found: &mut Vec<Finding>) {
    for net in &config.trusted_proxies {
        let wide = match net {
            IpNet::V4(net) => net.prefix_len() < 24,
            IpNet::V6(net) => net.prefix_len() < 64,
        };
        if wide {
            let everybody = net.prefix_len() == 0;
            found.push(
                Finding::new(
                    "gateway.trusted_proxies_too_wide",
                    if everybody { Severity::Critical } else { Severity::Warn },
                    "Many addresses may say who somebody is",
                    format!(
                        "gateway.trustedProxies has {net}: each of these addresses is believed about whom it forwards"
                    ),
                )
                .remedy("name the proxy's own address"),
            );
        }
    }
    if config.allow_real_ip {
        found.push(
            Finding::new(
                "gateway.real_ip_fallback_enabled",
                Severity::Warn,
                "X-Real-IP is believed",
                "gateway.allowRealIpFallback is true: a proxy that does not overwrite that header lets its clients choose their address",
            )
            .remedy("remove gateway.allowRealIpFallback, and have the proxy set X-Forwarded-For"),
        );
    }
    if config.trusted_proxies.is_empty() && is_local(&config.bind) {
        // The original's check. Here a forwarded request counts as one from elsewhere.
        found.push(
            Finding::new(
                "gateway.trusted_proxies_missing",
                Severity::Info,
                "Reverse proxy headers are not trusted",
                "gateway.trustedProxies is empty: whoever comes through a proxy counts as remote, and all of them as one address",
            )
            .remedy("if a proxy stands in front, name its address in gateway.trustedProxies"),
        );
    }
}

fn pages(config: &Config, root: &Value, found: &mut Vec<Finding>) {
    if config.origins.allowed.iter().any(|origin| origin == "*") {
        found.push(
            Finding::new(
                "gateway.control_ui.allowed_origins_wildcard",
                Severity::Critical,
                "Every page in a browser may connect",
                "gateway.controlUi.allowedOrigins has \"*\": any site that a user of a browser here visits may try",
            )
            .remedy("name the pages' origins, such as \"https://claw.example.org\""),
        );
    }
    if config.origins.host_fallback {
        found.push(
            Finding::new(
                "gateway.control_ui.host_header_origin_fallback",
                Severity::Critical,
                "A page names itself by the Host header",
                "gateway.controlUi.dangerouslyAllowHostHeaderOriginFallback is true: a name that is led to this machine (DNS rebinding) passes",
            )
            .remedy("remove it, and name the origins in gateway.controlUi.allowedOrigins"),
        );
    }
    for origin in &config.origins.allowed {
        let plain = origin.strip_prefix("http://");
        let elsewhere = plain.is_some_and(|host| {
            !["localhost", "127.0.0.1", "[::1]"]
                .iter()
                .any(|local| host.starts_with(local))
        });
        if elsewhere {
            found.push(
                Finding::new(
                    "gateway.control_ui.allowed_origin_plaintext",
                    Severity::Warn,
                    "A page without TLS may connect",
                    format!(
                        "{origin} is an allowed origin: whoever sits on the way can be that page"
                    ),
                )
                .remedy("serve that page by https"),
            );
        }
    }
    for (switch, id) in [
        ("allowInsecureAuth", "gateway.control_ui.insecure_auth"),
        (
            "dangerouslyDisableDeviceAuth",
            "gateway.control_ui.device_auth_disabled",
        ),
    ] {
        if is_on(root, &format!("gateway.controlUi.{switch}")) {
            found.push(
                Finding::new(
                    id,
                    Severity::Info,
                    "A dangerous switch is set, and has no effect here",
                    format!(
                        "gateway.controlUi.{switch} is true; a gateway of OpenClaw would obey it"
                    ),
                )
                .remedy(format!("remove gateway.controlUi.{switch}")),
            );
        }
    }
}

fn hooks(root: &Value, found: &mut Vec<Finding>) {
    if !is_on(root, "hooks.enabled") {
        return;
    }
    // That it is not the gateway's own is looked after at a start.
    let token = at(root, "hooks.token").as_str().unwrap_or("").trim();
    let referred = token.starts_with("${");
    if !referred && token.chars().count() < TOKEN_CHARS_MIN {
        found.push(
            Finding::new(
                "hooks.token_too_short",
                Severity::Warn,
                "The hooks' token is short",
                format!("hooks.token has {} characters", token.chars().count()),
            )
            .remedy("openssl rand -hex 24, and put it where hooks.token comes from"),
        );
    }
    if at(root, "hooks.path").as_str().map(str::trim) == Some("/") {
        found.push(
            Finding::new(
                "hooks.path_root",
                Severity::Critical,
                "Hooks take every path",
                "hooks.path is \"/\", and shadows everything else",
            )
            .remedy("set hooks.path to \"/hooks\""),
        );
    }
    if is_on(root, "hooks.allowRequestSessionKey") {
        let bounded = at(root, "hooks.allowedSessionKeyPrefixes").as_array();
        let bounded = bounded.is_some_and(|list| !list.is_empty());
        found.push(
            Finding::new(
                "hooks.request_session_key_enabled",
                if bounded {
                    Severity::Info
                } else {
                    Severity::Warn
                },
                "Who calls a hook chooses the session",
                if bounded {
                    "hooks.allowRequestSessionKey is true, within hooks.allowedSessionKeyPrefixes"
                } else {
                    "hooks.allowRequestSessionKey is true, and nothing bounds which"
                },
            )
            .remedy("set hooks.defaultSessionKey, or hooks.allowedSessionKeyPrefixes"),
        );
    }
}

fn outbound(config: &Config, found: &mut Vec<Finding>) {
    let dial = &config.cron.dial;
    if dial.private_networks {
        found.push(
            Finding::new(
                "cron.webhook_private_networks",
                Severity::Warn,
                "Webhooks of jobs may reach this machine and its network",
                "cron.webhookSsrfPolicy.dangerouslyAllowPrivateNetwork is true: who may add a job may post to any service here",
            )
            .remedy("list the hosts in cron.webhookSsrfPolicy.allowedHostnames"),
        );
    }
    let metadata = |host: &&String| host.starts_with("169.254.") || host.as_str() == "*";
    if let Some(host) = dial.allowed_hosts.iter().find(metadata) {
        found.push(
            Finding::new(
                "cron.webhook_allowlist_too_wide",
                Severity::Critical,
                "Webhooks of jobs may reach what should be closed",
                format!("cron.webhookSsrfPolicy.allowedHostnames has {host}"),
            )
            .remedy("remove it"),
        );
    }
}

fn secrets_in_text(root: &Value, found: &mut Vec<Finding>) {
    let mut paths = Vec::new();
    collect_secrets(root, "", &mut paths);
    if paths.is_empty() {
        return;
    }
    found.push(
        Finding::new(
            "config.secrets.in_text",
            Severity::Warn,
            "Secrets stand in the configuration as text",
            format!(
                "{}: they come along wherever the file is copied, shown or backed up",
                paths.join(", ")
            ),
        )
        .remedy("write \"${NAME}\" there and put the value into the gateway's environment"),
    );
}

fn collect_secrets(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let place = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let is_secret = SECRET_KEYS.contains(&key.to_ascii_lowercase().as_str());
                match inner.as_str() {
                    Some(text) if is_secret && !text.is_empty() && !text.starts_with("${") => {
                        found.push(place);
                    }
                    _ => collect_secrets(inner, &place, found),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_secrets(item, &format!("{path}[{index}]"), found);
            }
        }
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

fn the_rest(root: &Value, found: &mut Vec<Finding>) {
    let commands: Vec<&str> = at(root, "gateway.nodes.allowCommands")
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|command| {
            *command == "*"
                || DANGEROUS_COMMANDS
                    .iter()
                    .any(|one| command.starts_with(one))
        })
        .collect();
    if !commands.is_empty() {
        found.push(
            Finding::new(
                "gateway.nodes.allow_commands_dangerous",
                Severity::Warn,
                "Nodes may be told to do what their users should see",
                format!("gateway.nodes.allowCommands has {}", commands.join(", ")),
            )
            .remedy("remove those that nothing uses from gateway.nodes.allowCommands"),
        );
    }
    if at(root, "tools.exec.security").as_str() == Some("full") {
        found.push(
            Finding::new(
                "tools.exec.security_full_configured",
                Severity::Warn,
                "Agents may run any program",
                "tools.exec.security is \"full\"",
            )
            .remedy("set tools.exec.security to \"allowlist\""),
        );
    }
    if at(root, "logging.redactSensitive").as_str() == Some("off") {
        found.push(
            Finding::new(
                "logging.redact_off",
                Severity::Warn,
                "The log of the original would hold secrets",
                "logging.redactSensitive is \"off\"; what clawgate logs is free of secrets all the same",
            )
            .remedy("set logging.redactSensitive to \"tools\""),
        );
    }
}

/// What a file of approvals lets programs do.
pub(super) fn of_exec_approvals(approvals: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    let agents = approvals["agents"].as_object();
    let sections = std::iter::once(("defaults".to_owned(), &approvals["defaults"])).chain(
        agents
            .into_iter()
            .flatten()
            .map(|(name, section)| (format!("agents.{name}"), section)),
    );
    for (name, section) in sections {
        let text = |key: &str| section[key].as_str().unwrap_or("");
        if text("security") == "full" {
            let asks = text("ask") == "always";
            found.push(
                Finding::new(
                    "exec.approvals.security_full",
                    if asks {
                        Severity::Warn
                    } else {
                        Severity::Critical
                    },
                    "Any program may be run",
                    format!(
                        "exec-approvals.json: {name}.security is \"full\"{}",
                        if asks {
                            ", each one asked for"
                        } else {
                            " and nobody is asked"
                        }
                    ),
                )
                .remedy(format!("set {name}.security to \"allowlist\"")),
            );
        } else if text("askFallback") == "full" {
            found.push(
                Finding::new(
                    "exec.approvals.fallback_full",
                    Severity::Warn,
                    "What nobody decided about is run",
                    format!("exec-approvals.json: {name}.askFallback is \"full\""),
                )
                .remedy(format!("set {name}.askFallback to \"deny\"")),
            );
        }
    }
    found
}

/// What devices and tokens may do.
pub(super) fn of_grants(grants: &Grants, now_ms: i64) -> Vec<Finding> {
    let mut found = Vec::new();
    let is_admin = |scope: &Scope| scope.as_str() == "operator.admin";
    let admins: Vec<&Device> = grants
        .devices
        .iter()
        .filter(|device| {
            device
                .approved
                .iter()
                .any(|approved| approved.scopes.iter().any(is_admin))
        })
        .collect();
    if !admins.is_empty() {
        found.push(
            Finding::new(
                "devices.admin_grants",
                Severity::Info,
                format!(
                    "{} of {} paired devices have every right",
                    admins.len(),
                    grants.devices.len()
                ),
                format!(
                    "operator.admin is approved for {}",
                    listed(admins.iter().map(|device| called(device)))
                ),
            )
            .remedy("clawgate devices list, and clawgate devices remove for those that need less"),
        );
    }
    let unused: Vec<String> = admins
        .iter()
        .filter(|device| last_used(device) < now_ms - UNUSED_DAYS * DAY_MS)
        .map(|device| called(device))
        .collect();
    if !unused.is_empty() {
        found.push(
            Finding::new(
                "devices.admin_unused",
                Severity::Warn,
                "Devices with every right are not used",
                format!(
                    "not seen for {UNUSED_DAYS} days: {}",
                    listed(unused.into_iter())
                ),
            )
            .remedy("clawgate devices remove ID"),
        );
    }
    let living = |token: &&clawgate_store::ApiToken| {
        token.revoked_at_ms.is_none() && token.expires_at_ms.is_none_or(|at| at > now_ms)
    };
    let endless: Vec<_> = grants
        .api_tokens
        .iter()
        .filter(living)
        .filter(|token| token.expires_at_ms.is_none())
        .collect();
    if !endless.is_empty() {
        found.push(
            Finding::new(
                "tokens.no_expiry",
                Severity::Warn,
                "API tokens that never expire",
                listed(endless.iter().map(|token| token.name.clone())),
            )
            .remedy("clawgate tokens revoke NAME, then clawgate tokens create --name NAME --scopes SCOPES --expires 90d"),
        );
    }
    let powerful: Vec<String> = grants
        .api_tokens
        .iter()
        .filter(living)
        .filter(|token| token.scopes.iter().any(is_admin))
        .map(|token| token.name.clone())
        .collect();
    if !powerful.is_empty() {
        found.push(
            Finding::new(
                "tokens.admin",
                Severity::Warn,
                "API tokens with every right",
                listed(powerful.into_iter()),
            )
            .remedy("make them anew with the scopes that they need: clawgate auth can-i METHOD names them"),
        );
    }
    found
}

fn last_used(device: &Device) -> i64 {
    let used = device
        .tokens
        .iter()
        .filter_map(|token| token.last_used_at_ms);
    used.chain([device.approved_at_ms]).max().unwrap_or(0)
}

fn called(device: &Device) -> String {
    let id = device.device_id.as_str();
    let short: String = id.chars().take(12).collect();
    match &device.claims.display_name {
        Some(name) => format!("{name} ({short})"),
        None => short,
    }
}

/// The first ten, and how many more.
fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    let more = names.len().saturating_sub(10);
    let mut text = names[..names.len().min(10)].join(", ");
    if more > 0 {
        use std::fmt::Write as _;
        let _ = write!(text, " and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Overrides};

    fn ids(text: &str) -> Vec<&'static str> {
        let config = Config::of(
            std::path::Path::new("clawgate.json"),
            Some(text.to_owned()),
            &Overrides::default(),
            &Environment::default(),
            || Ok(SecretString::from("g".repeat(48))),
        );
        let mut ids: Vec<&str> = of_config(&config.unwrap())
            .iter()
            .filter(|finding| finding.severity != Severity::Info)
            .map(|finding| finding.check_id)
            .collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_configuration_that_says_nothing_opens_nothing() {
        assert_eq!(ids("{}"), Vec::<&str>::new());
    }

    #[test]
    fn each_thing_that_opens_the_gateway_is_found_by_its_name() {
        for (text, expected) in [
            ("{gateway: {auth: {mode: 'none'}}}", vec!["gateway.loopback_no_auth"]),
            (
                "{gateway: {bind: 'lan', auth: {token: 'short'}}}",
                vec!["config.secrets.in_text", "gateway.bind_no_tls", "gateway.token_too_short"],
            ),
            ("{gateway: {trustedProxies: ['10.0.0.0/8']}}", vec!["gateway.trusted_proxies_too_wide"]),
            ("{gateway: {trustedProxies: ['10.0.0.1']}}", vec![]),
            (
                "{gateway: {controlUi: {allowedOrigins: ['*', 'http://claw.lan'],
                 dangerouslyAllowHostHeaderOriginFallback: true}}}",
                vec![
                    "gateway.control_ui.allowed_origin_plaintext",
                    "gateway.control_ui.allowed_origins_wildcard",
                    "gateway.control_ui.host_header_origin_fallback",
                ],
            ),
            (
                "{gateway: {trustedProxies: ['10.0.0.1'], auth: {mode: 'trusted-proxy',
                 trustedProxy: {userHeader: 'x-user'}, identityScopes: {'*': ['operator.admin']}}}}",
                vec!["gateway.identity_scopes_everybody_admin", "gateway.trusted_proxy_no_allowlist"],
            ),
            (
                "{cron: {webhookSsrfPolicy: {dangerouslyAllowPrivateNetwork: true}}}",
                vec!["cron.webhook_private_networks"],
            ),
            (
                "{gateway: {nodes: {allowCommands: ['system.run', 'system.which']}}}",
                vec!["gateway.nodes.allow_commands_dangerous"],
            ),
            ("{tools: {exec: {security: 'full'}}}", vec!["tools.exec.security_full_configured"]),
            ("{models: {providers: {a: {apiKey: '${A_KEY}'}}}}", vec![]),
            ("{models: {providers: {a: {apiKey: 'sk-1'}}}}", vec!["config.secrets.in_text"]),
        ] {
            assert_eq!(ids(text), expected, "{text}");
        }
    }

    #[test]
    fn approvals_that_run_anything_are_found() {
        let of = |approvals: Value| -> Vec<(&str, Severity)> {
            of_exec_approvals(&approvals)
                .iter()
                .map(|finding| (finding.check_id, finding.severity))
                .collect()
        };
        let full = serde_json::json!({"defaults": {"security": "full", "ask": "off"}});
        assert_eq!(
            of(full),
            [("exec.approvals.security_full", Severity::Critical)]
        );
        let asked = serde_json::json!({"agents": {"main": {"security": "full", "ask": "always"}}});
        assert_eq!(
            of(asked),
            [("exec.approvals.security_full", Severity::Warn)]
        );
        assert_eq!(
            of(serde_json::json!({"defaults": {"security": "allowlist"}})),
            []
        );
    }
}
