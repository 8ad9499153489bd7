//! Which models a turn asks, with everything that it takes to ask them.

use std::fmt;

use clawgate_agent::{Api, Endpoint, Model, Thinking, Usage};
use clawgate_protocol::{ErrorCode, ErrorShape};
use clawgate_store::Cost;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    ModelDefaults,
    provider::{WellKnown, is_there, key_variable},
};
use crate::{agents::Agent, config::Resolver};

/// Why a model cannot be asked. What is wrong with the model that somebody named is never mended
/// by taking another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelError {
    /// No model is configured.
    NoneConfigured,
    /// The configuration describes the provider's models, and this one is not among them; or the
    /// name is neither `provider/model` nor an alias.
    Unknown {
        /// What was named.
        name: String,
    },
    /// `agents.defaults.models` has others.
    NotAllowed {
        /// `provider/model`.
        key: String,
    },
    /// Nobody said where that provider is.
    NoProvider {
        /// Its name.
        provider: String,
    },
    /// The provider wants a key and has none.
    NoKey {
        /// Its name.
        provider: String,
        /// The variable that would do, where one would.
        variable: Option<&'static str>,
    },
    /// Something in the configuration of the provider cannot be used.
    Unusable {
        /// Dotted path.
        path: String,
        /// Why, without what stands there.
        why: String,
    },
}

impl ModelError {
    /// The stable word.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoneConfigured => "MODEL_NOT_CONFIGURED",
            Self::Unknown { .. } => "MODEL_UNKNOWN",
            Self::NotAllowed { .. } => "MODEL_NOT_ALLOWED",
            Self::NoProvider { .. } => "MODEL_PROVIDER_UNKNOWN",
            Self::NoKey { .. } => "MODEL_KEY_MISSING",
            Self::Unusable { .. } => "MODEL_UNUSABLE",
        }
    }

    /// The same as the wire tells it.
    #[must_use]
    pub fn shape(&self) -> ErrorShape {
        let code = match self {
            Self::Unknown { .. } | Self::NotAllowed { .. } | Self::NoProvider { .. } => {
                ErrorCode::InvalidRequest
            }
            Self::NoneConfigured | Self::NoKey { .. } | Self::Unusable { .. } => {
                ErrorCode::Unavailable
            }
        };
        let mut shape = ErrorShape::new(code, self.to_string());
        shape.details = Some(json!({"code": self.code()}));
        shape
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoneConfigured => {
                f.write_str("no model is configured; set agents.defaults.model to provider/model")
            }
            Self::Unknown { name } => write!(
                f,
                "no model \"{name}\" is configured; name it as provider/model, by an alias of agents.defaults.models, or describe it under models.providers"
            ),
            Self::NotAllowed { key } => {
                write!(f, "model \"{key}\" is not among agents.defaults.models")
            }
            Self::NoProvider { provider } => write!(
                f,
                "no provider \"{provider}\" is configured; set models.providers.{provider}.baseUrl"
            ),
            Self::NoKey {
                provider,
                variable: Some(variable),
            } => write!(
                f,
                "provider \"{provider}\" has no key; set {variable} in the gateway's environment, or models.providers.{provider}.apiKey"
            ),
            Self::NoKey {
                provider,
                variable: None,
            } => write!(
                f,
                "provider \"{provider}\" has no key; set models.providers.{provider}.apiKey"
            ),
            Self::Unusable { path, why } => write!(f, "{path} {why}"),
        }
    }
}

impl std::error::Error for ModelError {}

/// What a million tokens cost, in the currency of the configuration (dollars, as a rule).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Price {
    /// Read.
    pub input: f64,
    /// Written.
    pub output: f64,
    /// Read from the provider's cache.
    pub cache_read: f64,
    /// Written into it.
    pub cache_write: f64,
}

impl Price {
    fn of(value: &Value) -> Option<Self> {
        let cost = value.as_object()?;
        let number = |key: &str| {
            let price = cost.get(key).and_then(Value::as_f64);
            price.filter(|price| price.is_finite() && *price >= 0.0)
        };
        Some(Self {
            input: number("input").unwrap_or(0.0),
            output: number("output").unwrap_or(0.0),
            cache_read: number("cacheRead").unwrap_or(0.0),
            cache_write: number("cacheWrite").unwrap_or(0.0),
        })
    }

    /// What these tokens cost.
    #[must_use]
    pub fn cost(&self, usage: Usage) -> Cost {
        #[expect(
            clippy::cast_precision_loss,
            reason = "nobody uses 2^53 tokens in one request"
        )]
        let of = |tokens: u64, price: f64| tokens as f64 * price / 1e6;
        let input = of(usage.input, self.input);
        let output = of(usage.output, self.output);
        let cache_read = of(usage.cache_read, self.cache_read);
        let cache_write = of(usage.cache_write, self.cache_write);
        Cost {
            input,
            output,
            cache_read,
            cache_write,
            total: input + output + cache_read + cache_write,
        }
    }
}

/// A model that can be asked.
#[derive(Clone, Debug)]
pub struct Choice {
    /// With its endpoint and key.
    pub model: Model,
    /// What it costs, where the configuration says that.
    pub price: Option<Price>,
}

impl Choice {
    /// `provider/model`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.model.provider, self.model.id)
    }

    /// What a request cost; `None` where nobody said what the model costs.
    #[must_use]
    pub fn cost(&self, usage: Usage) -> Option<Cost> {
        self.price.map(|price| price.cost(usage))
    }
}

/// What a turn asks.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The model that is wanted, then its fallbacks, in the order in which they are asked. At
    /// least one.
    pub choices: Vec<Choice>,
    /// Fallbacks that cannot be asked, and why. They are told and not replaced.
    pub left_out: Vec<(String, ModelError)>,
}

impl Chosen {
    /// The models alone, told how much to think.
    #[must_use]
    pub fn models(&self, thinking: Thinking) -> Vec<Model> {
        self.choices
            .iter()
            .map(|choice| Model {
                thinking,
                ..choice.model.clone()
            })
            .collect()
    }
}

/// Chooses the models of a turn. `wanted` is what a session or a job names, as `provider/model` or
/// by an alias: it runs, or the turn fails. Where nothing is named the agent's model is taken, with
/// its fallbacks; a named one has none but those given with it.
///
/// Keys may be handed out by programs, which takes as long as they take: not for a thread that others
/// wait for.
///
/// # Errors
/// The wanted model cannot be asked.
pub fn choose(
    config: &Value,
    agent: &Agent,
    wanted: Option<&str>,
    fallbacks: Option<&[String]>,
) -> Result<Chosen, ModelError> {
    let own = agent.model.as_deref().map(str::trim);
    let primary = match wanted.map(str::trim).filter(|name| !name.is_empty()) {
        Some(name) => find(config, name, Some(agent))?,
        None => {
            let own = own.filter(|name| !name.is_empty());
            find(config, own.ok_or(ModelError::NoneConfigured)?, Some(agent))?
        }
    };
    let next: &[String] = match (fallbacks, wanted) {
        (Some(given), _) => given,
        (None, Some(_)) => &[],
        (None, None) => &agent.fallbacks,
    };
    let mut chosen = Chosen {
        choices: vec![primary],
        left_out: Vec::new(),
    };
    for name in next {
        match find(config, name, Some(agent)) {
            Ok(choice) => {
                let key = choice.key();
                if chosen.choices.iter().all(|before| before.key() != key) {
                    chosen.choices.push(choice);
                }
            }
            Err(why) => chosen.left_out.push((name.clone(), why)),
        }
    }
    Ok(chosen)
}

/// One model by name, ready to be asked. The models of the agent and of all agents are always
/// allowed.
///
/// # Errors
/// It cannot be asked.
pub fn find(config: &Value, name: &str, agent: Option<&Agent>) -> Result<Choice, ModelError> {
    let defaults = ModelDefaults::of(config);
    let key = defaults.resolve(name.trim());
    let (provider, id) = split(config, key).ok_or_else(|| ModelError::Unknown {
        name: name.to_owned(),
    })?;
    let key = format!("{provider}/{id}");
    let own = agent.into_iter().flat_map(|agent| {
        let model = agent.model.iter();
        model.chain(&agent.fallbacks)
    });
    let is_in_use = defaults
        .primary
        .iter()
        .chain(&defaults.fallbacks)
        .chain(own)
        .any(|name| defaults.resolve(name) == key);
    if !defaults.allowed.is_empty() && !defaults.allowed.contains(&key) && !is_in_use {
        return Err(ModelError::NotAllowed { key });
    }
    describe(config, provider, id)
}

/// Provider and model of a key. A name without a provider is one that a single provider describes.
fn split<'a>(config: &'a Value, key: &'a str) -> Option<(&'a str, &'a str)> {
    if let Some((provider, id)) = key.split_once('/') {
        return (!provider.is_empty() && !id.is_empty()).then_some((provider, id));
    }
    let providers = config.pointer("/models/providers")?.as_object()?;
    let mut found = providers.iter().filter(|(_, entry)| {
        let models = entry["models"].as_array();
        models
            .into_iter()
            .flatten()
            .any(|model| model["id"].as_str() == Some(key))
    });
    match (found.next(), found.next()) {
        (Some((provider, _)), None) => Some((provider, key)),
        _ => None,
    }
}

fn describe(config: &Value, provider: &str, id: &str) -> Result<Choice, ModelError> {
    let known = WellKnown::of(provider);
    let entry = config["models"]["providers"]
        .get(provider)
        .filter(|entry| entry.is_object());
    if entry.is_none() && known.is_none() {
        return Err(ModelError::NoProvider {
            provider: provider.to_owned(),
        });
    }
    let null = Value::Null;
    let entry = entry.unwrap_or(&null);
    let listed = entry["models"].as_array().filter(|list| !list.is_empty());
    let described = listed.and_then(|list| list.iter().find(|model| model["id"] == id));
    if listed.is_some() && described.is_none() {
        return Err(ModelError::Unknown {
            name: format!("{provider}/{id}"),
        });
    }
    let place = |member: &str| format!("models.providers.{provider}.{member}");
    let unusable = |member: &str, why: String| ModelError::Unusable {
        path: place(member),
        why,
    };
    let resolver = Resolver::of(config);
    let read = |member: &str, value: &Value| -> Result<SecretString, ModelError> {
        resolver
            .secret(value)
            .unwrap_or_else(|| Err("is neither a text nor a reference".to_owned()))
            .map_err(|why| unusable(member, why))
    };

    let model = described.unwrap_or(&null);
    let word = [&model["api"], &entry["api"]]
        .into_iter()
        .find_map(Value::as_str);
    let api = match word {
        Some(word) => Api::parse(word).ok_or_else(|| {
            let known: Vec<&str> = Api::ALL.iter().map(|api| api.as_str()).collect();
            unusable(
                "api",
                format!("is \"{word}\"; spoken here are {}", known.join(", ")),
            )
        })?,
        None => known.map_or(Api::OpenAiCompletions, |known| known.api),
    };

    let base_url = match entry.get("baseUrl").filter(|value| is_there(value)) {
        Some(value) => {
            use secrecy::ExposeSecret as _;
            read("baseUrl", value)?.expose_secret().trim().to_owned()
        }
        None => known
            .map(|known| known.base_url.to_owned())
            .ok_or_else(|| unusable("baseUrl", "is not set".to_owned()))?,
    };
    if !base_url.starts_with("https://") && !base_url.starts_with("http://") {
        let why = "begins with neither https:// nor http://".to_owned();
        return Err(unusable("baseUrl", why));
    }

    let headers = entry["headers"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| Ok((name.clone(), read(&format!("headers.{name}"), value)?)))
        .collect::<Result<Vec<_>, ModelError>>()?;
    let variable = key_variable(config, provider);
    let key = match entry.get("apiKey") {
        Some(value) if is_there(value) => Some(read("apiKey", value)?),
        _ => variable
            .and_then(|variable| std::env::var(variable).ok())
            .map(|key| key.trim().to_owned())
            .filter(|key| !key.is_empty())
            .map(SecretString::from),
    };
    // Whoever knows its address knows that it wants a key; of others the provider itself says so.
    if key.is_none() && headers.is_empty() && variable.is_some() {
        return Err(ModelError::NoKey {
            provider: provider.to_owned(),
            variable,
        });
    }

    let mut endpoint = Endpoint::new(&base_url, api, key).with_headers(headers);
    if entry["authHeader"] == true {
        endpoint = endpoint.bearer();
    }
    let input = model["input"].as_array();
    let images = match input {
        Some(kinds) => kinds.iter().any(|kind| kind == "image"),
        None => described.is_none() && known.is_some_and(|known| known.images),
    };
    Ok(Choice {
        price: Price::of(&model["cost"]),
        model: Model {
            output_max: model["maxTokens"]
                .as_u64()
                .filter(|tokens| *tokens > 0)
                .map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX)),
            context_window: model["contextWindow"].as_u64().filter(|tokens| *tokens > 0),
            reasoning: model["reasoning"] == true,
            images,
            ..Model::new(provider, id, api, endpoint)
        },
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::agents::Roster;

    fn config() -> Value {
        json!({
            "models": {"providers": {
                "mock": {"baseUrl": "http://127.0.0.1:1/v1", "apiKey": "canary-4711", "models": [
                    {"id": "one", "contextWindow": 32_000, "maxTokens": 512, "reasoning": true,
                     "input": ["text", "image"],
                     "cost": {"input": 2.0, "output": 10.0, "cacheRead": 0.5, "cacheWrite": 4}},
                    {"id": "two/three", "api": "anthropic-messages"}]},
                "bare": {"baseUrl": "http://127.0.0.1:2"},
                "odd": {"baseUrl": "http://127.0.0.1:3", "api": "telepathy"},
                "lost": {"baseUrl": "http://127.0.0.1:4", "apiKey": "${CLAWGATE_NO_SUCH_VARIABLE}"},
            }},
            "agents": {"defaults": {
                "model": {"primary": "first", "fallbacks": ["bare/x", "lost/y", "mock/one"]},
                "models": {"mock/one": {"alias": "first"}, "mock/two/three": {}, "odd/x": {}, "lost/x": {}, "bare/x": {}, "mock/four": {}, "nowhere/x": {}},
            }},
        })
    }

    fn chosen(
        config: &Value,
        wanted: Option<&str>,
        fallbacks: Option<&[String]>,
    ) -> Result<Chosen, ModelError> {
        let roster = Roster::of(config, Path::new("/nowhere"));
        choose(config, roster.default_agent(), wanted, fallbacks)
    }

    fn keys(chosen: &Chosen) -> Vec<String> {
        chosen.choices.iter().map(Choice::key).collect()
    }

    #[test]
    fn the_agents_model_comes_with_its_fallbacks_and_nothing_else() {
        let chosen = chosen(&config(), None, None).unwrap();
        assert_eq!(keys(&chosen), ["mock/one", "bare/x"]);
        // What cannot be asked is told.
        let (name, why) = &chosen.left_out[0];
        assert_eq!((name.as_str(), why.code()), ("lost/y", "MODEL_UNUSABLE"));
        assert!(!format!("{chosen:?}").contains("canary"), "{chosen:?}");
        let model = &chosen.models(Thinking::Low)[0];
        assert_eq!(
            (model.output_max, model.context_window, model.thinking),
            (Some(512), Some(32_000), Thinking::Low)
        );
        assert!(model.images && model.reasoning);
    }

    #[test]
    fn a_named_model_runs_alone_or_with_the_fallbacks_named_beside_it() {
        let config = config();
        let alone = chosen(&config, Some("mock/two/three"), None).unwrap();
        assert_eq!(keys(&alone), ["mock/two/three"]);
        assert_eq!(alone.choices[0].model.api, Api::AnthropicMessages);
        let given = ["one".to_owned()];
        let two = chosen(&config, Some("two/three"), Some(&given));
        assert_eq!(two.unwrap_err().code(), "MODEL_NOT_ALLOWED");
        let two = chosen(&config, Some("mock/two/three"), Some(&given)).unwrap();
        assert_eq!(keys(&two), ["mock/two/three", "mock/one"]);
        let none = chosen(&config, None, Some(&[])).unwrap();
        assert_eq!(keys(&none), ["mock/one"]);
    }

    #[test]
    fn a_named_model_that_cannot_be_asked_is_an_error_and_never_replaced() {
        for (name, code) in [
            ("mock/four", "MODEL_UNKNOWN"),
            ("nothing", "MODEL_UNKNOWN"),
            ("/", "MODEL_UNKNOWN"),
            ("mock/none-of-these", "MODEL_NOT_ALLOWED"),
            ("nowhere/x", "MODEL_PROVIDER_UNKNOWN"),
            ("odd/x", "MODEL_UNUSABLE"),
            ("lost/x", "MODEL_UNUSABLE"),
        ] {
            let error = chosen(&config(), Some(name), None).unwrap_err();
            assert_eq!(error.code(), code, "{name}: {error}");
            assert_eq!(error.shape().details, Some(json!({"code": code})));
        }
        let lost = chosen(&config(), Some("lost/x"), None).unwrap_err();
        assert_eq!(
            lost.to_string(),
            "models.providers.lost.apiKey names the environment variable CLAWGATE_NO_SUCH_VARIABLE, which is not set"
        );
        let none = chosen(&json!({}), None, None).unwrap_err();
        assert_eq!(none, ModelError::NoneConfigured);
    }

    #[test]
    fn well_known_providers_need_only_be_named_and_have_their_key() {
        for known in super::super::provider::WELL_KNOWN {
            let config = json!({"models": {"providers": {known.name: {"apiKey": "canary-4711"}}}});
            let found = find(&config, &format!("{}/some/model", known.name), None).unwrap();
            assert_eq!(
                (found.model.api, found.model.id.as_str()),
                (known.api, "some/model")
            );
        }
        assert!(find(&json!({}), "ollama/llama", None).is_ok());
        if std::env::var_os("ZAI_API_KEY").is_none() {
            let error = find(&json!({}), "zai/glm", None).unwrap_err().to_string();
            assert!(
                error.contains("ZAI_API_KEY") && error.contains("models.providers.zai.apiKey"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_variable_of_a_provider_is_for_its_own_address_alone() {
        let at = |url: &str| json!({"models": {"providers": {"openai": {"baseUrl": url}}}});
        let own = at("https://API.openai.com/v1/");
        assert_eq!(key_variable(&own, "openai"), Some("OPENAI_API_KEY"));
        assert_eq!(key_variable(&at("https://evil.example/v1"), "openai"), None);
        assert_eq!(key_variable(&json!({}), "openai"), Some("OPENAI_API_KEY"));
        assert_eq!(key_variable(&json!({}), "mine"), None);
    }

    #[test]
    fn what_a_request_cost_is_counted_by_kind() {
        let choice = find(&config(), "first", None).unwrap();
        let usage = Usage {
            input: 1_000_000,
            output: 100_000,
            cache_read: 2_000_000,
            cache_write: 500_000,
        };
        let cost = choice.cost(usage).unwrap();
        let parts = [cost.input, cost.output, cost.cache_read, cost.cache_write];
        assert_eq!((parts, cost.total), ([2.0, 1.0, 1.0, 2.0], 6.0));
        let free = find(&config(), "bare/x", None).unwrap();
        assert_eq!(free.cost(usage), None);
    }
}
