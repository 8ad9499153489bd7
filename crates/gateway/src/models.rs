//! Models: those that the configuration describes or names. No catalogue comes with the gateway, so
//! what nobody configured is not there.

mod choose;
mod probe;
mod provider;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

pub use choose::{Choice, Chosen, ModelError, Price, choose, find};
pub use probe::{Answered, Probe, ProbeError, probe};
use provider::is_local;
pub use provider::{key_places, key_source, wants_key};

use crate::agents::primary_model;

/// One model.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Its provider.
    pub provider: String,
    /// Its id at the provider.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What the operator calls it.
    pub alias: Option<String>,
    /// What `models.providers` says about it; `None` where it is only named.
    pub described: Option<Described>,
}

/// What is known about a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// Tokens.
    pub context_window: Option<u64>,
    /// Whether it thinks first.
    pub reasoning: Option<bool>,
    /// `text`, `image`.
    pub input: Vec<String>,
    /// Whether its provider is on this machine or in the local network.
    pub local: bool,
    /// Whether its provider has a key.
    pub available: bool,
}

impl Model {
    /// `provider/id`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.provider, self.id)
    }

    /// The row of `models.list`; wire 4 has the alias and whether there is a key as well.
    pub(crate) fn row(&self, is_v4: bool) -> Value {
        let mut row = Map::new();
        row.insert("id".to_owned(), self.id.as_str().into());
        row.insert("name".to_owned(), self.name.as_str().into());
        row.insert("provider".to_owned(), self.provider.as_str().into());
        if let (true, Some(alias)) = (is_v4, &self.alias) {
            row.insert("alias".to_owned(), alias.as_str().into());
        }
        if let Some(described) = &self.described {
            if is_v4 {
                let available = described.available || described.local;
                row.insert("available".to_owned(), available.into());
            }
            if let Some(tokens) = described.context_window {
                row.insert("contextWindow".to_owned(), tokens.into());
            }
            if let Some(reasoning) = described.reasoning {
                row.insert("reasoning".to_owned(), reasoning.into());
            }
            row.insert("input".to_owned(), json!(described.input));
        }
        Value::Object(row)
    }
}

/// What `agents.defaults` says about models.
#[derive(Clone, Debug, Default)]
pub struct ModelDefaults {
    /// The model of all agents.
    pub primary: Option<String>,
    /// Which come after it.
    pub fallbacks: Vec<String>,
    /// The model for pictures.
    pub image: Option<String>,
    /// Which come after it.
    pub image_fallbacks: Vec<String>,
    /// Alias to `provider/id`.
    pub aliases: BTreeMap<String, String>,
    /// Keys of the models that may be used; empty for all.
    pub allowed: Vec<String>,
}

impl ModelDefaults {
    /// Reads them.
    pub fn of(config: &Value) -> Self {
        let defaults = &config["agents"]["defaults"];
        let texts = |value: Option<&Value>| -> Vec<String> {
            let list = value.and_then(Value::as_array);
            list.into_iter()
                .flatten()
                .filter_map(|item| item.as_str().map(str::to_owned))
                .collect()
        };
        let named = defaults["models"].as_object();
        let aliases = named
            .into_iter()
            .flatten()
            .filter_map(|(key, entry)| Some((entry["alias"].as_str()?.to_owned(), key.clone())))
            .collect();
        Self {
            primary: primary_model(defaults.get("model")),
            fallbacks: texts(defaults.pointer("/model/fallbacks")),
            image: primary_model(defaults.get("imageModel")),
            image_fallbacks: texts(defaults.pointer("/imageModel/fallbacks")),
            aliases,
            allowed: named
                .into_iter()
                .flat_map(|map| map.keys().cloned())
                .collect(),
        }
    }

    /// A key for a key or an alias.
    pub fn resolve<'a>(&'a self, name: &'a str) -> &'a str {
        self.aliases.get(name).map_or(name, String::as_str)
    }
}

/// Every model that is configured, by provider and name: all that are described, or the allowed
/// ones where `agents.defaults.models` names some, and in either case those that are in use.
pub fn models(config: &Value) -> Vec<Model> {
    let defaults = ModelDefaults::of(config);
    let alias_of = |key: &str| {
        let entry = defaults.aliases.iter().find(|(_, to)| to.as_str() == key);
        entry.map(|(alias, _)| alias.clone())
    };
    let mut found: BTreeMap<String, Model> = BTreeMap::new();
    let providers = config
        .pointer("/models/providers")
        .and_then(Value::as_object);
    for (provider, entry) in providers.into_iter().flatten() {
        let available = key_source(config, provider).is_some();
        let local = entry["baseUrl"].as_str().is_some_and(is_local);
        let listed = entry["models"].as_array();
        for model in listed.into_iter().flatten() {
            let Some(id) = model["id"].as_str() else {
                continue;
            };
            let key = format!("{provider}/{id}");
            let input = model["input"].as_array().map_or_else(
                || vec!["text".to_owned()],
                |list| {
                    list.iter()
                        .filter_map(|kind| kind.as_str().map(str::to_owned))
                        .collect()
                },
            );
            let model = Model {
                provider: provider.clone(),
                id: id.to_owned(),
                name: model["name"].as_str().unwrap_or(id).to_owned(),
                alias: alias_of(&key),
                described: Some(Described {
                    context_window: model["contextWindow"].as_u64().filter(|tokens| *tokens > 0),
                    reasoning: model["reasoning"].as_bool(),
                    input,
                    local,
                    available,
                }),
            };
            found.insert(key, model);
        }
    }
    let in_use: Vec<String> = defaults
        .primary
        .iter()
        .chain(&defaults.fallbacks)
        .map(|name| defaults.resolve(name).to_owned())
        .collect();
    if !defaults.allowed.is_empty() {
        found.retain(|key, _| defaults.allowed.contains(key) || in_use.contains(key));
    }
    for key in defaults.allowed.iter().chain(&in_use) {
        if let (false, Some((provider, id))) = (found.contains_key(key), key.split_once('/')) {
            let model = Model {
                provider: provider.to_owned(),
                id: id.to_owned(),
                name: id.to_owned(),
                alias: alias_of(key),
                described: None,
            };
            found.insert(key.clone(), model);
        }
    }
    let mut models: Vec<Model> = found.into_values().collect();
    models.sort_by(|a, b| (&a.provider, &a.name).cmp(&(&b.provider, &b.name)));
    models
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(config: &Value) -> Vec<String> {
        models(config).iter().map(Model::key).collect()
    }

    #[test]
    fn what_is_described_or_in_use_is_listed() {
        let mut config = json!({"models": {"providers": {"mock": {"baseUrl": "http://127.0.0.1:1/v1",
            "apiKey": "canary", "models": [{"id": "b", "name": "B", "contextWindow": 32_000}, {"id": "a"}, {}]}}},
            "agents": {"defaults": {"model": {"primary": "fast", "fallbacks": ["x/y/z"]}}}});
        assert_eq!(keys(&config), ["mock/b", "mock/a", "x/y/z"]);
        config["agents"]["defaults"]["models"] = json!({"mock/a": {"alias": "fast"}, "o/new": {}});
        assert_eq!(keys(&config), ["mock/a", "o/new", "x/y/z"]);
        let all = models(&config);
        assert_eq!(all[0].alias.as_deref(), Some("fast"));
        let described = all[0].described.as_ref().unwrap();
        assert!(described.local && described.available);
        assert_eq!(all[1].described, None);
        assert!(!all[0].row(true).to_string().contains("canary"));
        assert_eq!(all[0].row(false).get("alias"), None);
    }

    #[test]
    fn nothing_and_nonsense_are_no_models() {
        for config in [
            json!({}),
            json!({"models": 5, "agents": []}),
            json!({"models": {"providers": {"x": 1}}}),
        ] {
            assert_eq!(keys(&config), Vec::<String>::new());
        }
    }
}
