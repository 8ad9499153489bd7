//! Providers: what is known of some without configuration, and where a provider's key is.

use clawgate_agent::Api;
use serde_json::Value;

/// A provider that need only be named.
#[derive(Clone, Copy, Debug)]
pub(super) struct WellKnown {
    pub name: &'static str,
    /// In which its key stands; `None` where it wants none.
    pub variable: Option<&'static str>,
    pub base_url: &'static str,
    pub api: Api,
    /// Whether all its models of today look at images.
    pub images: bool,
}

const fn known(
    name: &'static str,
    variable: &'static str,
    base_url: &'static str,
    api: Api,
    images: bool,
) -> WellKnown {
    WellKnown {
        name,
        variable: Some(variable),
        base_url,
        api,
        images,
    }
}

const CHAT: Api = Api::OpenAiCompletions;

/// By name.
pub(super) const WELL_KNOWN: [WellKnown; 10] = [
    known(
        "anthropic",
        "ANTHROPIC_API_KEY",
        "https://api.anthropic.com",
        Api::AnthropicMessages,
        true,
    ),
    known(
        "google",
        "GEMINI_API_KEY",
        "https://generativelanguage.googleapis.com/v1beta",
        Api::Google,
        true,
    ),
    known(
        "groq",
        "GROQ_API_KEY",
        "https://api.groq.com/openai/v1",
        CHAT,
        false,
    ),
    known(
        "mistral",
        "MISTRAL_API_KEY",
        "https://api.mistral.ai/v1",
        CHAT,
        false,
    ),
    WellKnown {
        name: "ollama",
        variable: None,
        base_url: "http://127.0.0.1:11434",
        api: Api::Ollama,
        images: false,
    },
    known(
        "openai",
        "OPENAI_API_KEY",
        "https://api.openai.com/v1",
        Api::OpenAiResponses,
        true,
    ),
    known(
        "openrouter",
        "OPENROUTER_API_KEY",
        "https://openrouter.ai/api/v1",
        CHAT,
        false,
    ),
    known(
        "together",
        "TOGETHER_API_KEY",
        "https://api.together.xyz/v1",
        CHAT,
        false,
    ),
    known("xai", "XAI_API_KEY", "https://api.x.ai/v1", CHAT, false),
    known(
        "zai",
        "ZAI_API_KEY",
        "https://api.z.ai/api/paas/v4",
        CHAT,
        false,
    ),
];

impl WellKnown {
    pub(super) fn of(name: &str) -> Option<&'static Self> {
        WELL_KNOWN.iter().find(|known| known.name == name)
    }
}

/// The host of an address, in lower case.
pub(super) fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host.to_ascii_lowercase()
}

/// Whether an address is of this machine or of the local network.
pub(super) fn is_local(url: &str) -> bool {
    let host = host(url);
    host == "localhost"
        || host.ends_with(".local")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| match address {
                std::net::IpAddr::V4(v4) => {
                    v4.is_loopback() || v4.is_private() || v4.is_unspecified()
                }
                std::net::IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified(),
            })
}

/// The variable in which the key of a provider may stand. It is for the provider's own address: a
/// configuration that names another one names the key for it as well.
pub(super) fn key_variable(config: &Value, provider: &str) -> Option<&'static str> {
    let known = WellKnown::of(provider)?;
    let address = config["models"]["providers"][provider]["baseUrl"].as_str();
    let is_its_own = address.is_none_or(|url| host(url) == host(known.base_url));
    known.variable.filter(|_| is_its_own)
}

/// Where the key of a provider comes from, without the key.
pub fn key_source(config: &Value, provider: &str) -> Option<String> {
    let entry = &config["models"]["providers"][provider];
    if entry.get("apiKey").is_some_and(is_there) {
        return Some(format!("models.providers.{provider}.apiKey"));
    }
    key_variable(config, provider)
        .filter(|variable| std::env::var(variable).is_ok_and(|value| !value.trim().is_empty()))
        .map(str::to_owned)
}

/// Whether a provider wants a key: all do but those of this machine and of the local network.
pub fn wants_key(config: &Value, provider: &str) -> bool {
    let address = config["models"]["providers"][provider]["baseUrl"].as_str();
    match (address, WellKnown::of(provider)) {
        (Some(url), _) => !is_local(url),
        (None, Some(known)) => known.variable.is_some(),
        (None, None) => true,
    }
}

/// Where a key could be put for a provider that lacks one.
pub fn key_places(config: &Value, provider: &str) -> String {
    let path = format!("models.providers.{provider}.apiKey");
    match key_variable(config, provider) {
        Some(variable) => format!("{variable} or {path}"),
        None => path,
    }
}

/// Whether there is a secret, or a reference to one.
pub(super) fn is_there(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.trim().is_empty(),
        Value::Object(reference) => !reference.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_network_is_local() {
        for url in [
            "http://localhost:1",
            "http://[::1]/v1",
            "http://192.168.1.2:8080/v1",
            "http://u@10.0.0.1/",
        ] {
            assert!(is_local(url), "{url}");
        }
        for url in ["https://api.example.com", "http://8.8.8.8", ""] {
            assert!(!is_local(url), "{url}");
        }
    }
}
