//! The models of a turn.

use clawgate_agent::{Api, Endpoint, Model, Usage};
use clawgate_protocol::ErrorShape;
use clawgate_store::Cost;
use secrecy::SecretString;
use serde_json::Value;

use super::ModelDefaults;
use crate::{agents::Agent, config::Config};

#[derive(Debug)]
pub(crate) struct Chosen {
    models: Vec<Model>,
}

impl Chosen {
    pub(crate) fn models(&self) -> &[Model] {
        &self.models
    }
    pub(crate) fn name(&self, place: usize) -> (&str, &str) {
        self.models
            .get(place)
            .map_or(("", ""), |m| (m.provider.as_str(), m.id.as_str()))
    }
    pub(crate) fn api(&self, place: usize) -> &'static str {
        self.models.get(place).map_or("", |m| m.api.as_str())
    }
    pub(crate) fn context_window(&self) -> Option<u64> {
        None
    }
    pub(crate) fn think(&mut self, _: Option<&str>) {}
    pub(crate) fn cost(&self, _: usize, _: Usage) -> Cost {
        Cost::default()
    }
}

pub(crate) fn choose(
    config: &Config,
    agent: &Agent,
    named: Option<&str>,
    _fallbacks: Option<&[String]>,
) -> Result<Chosen, ErrorShape> {
    let parsed: &Value = &config.snapshot.parsed;
    let defaults = ModelDefaults::of(parsed);
    let name = named
        .or(agent.model.as_deref())
        .ok_or_else(|| ErrorShape::unavailable("no model is configured"))?;
    let (provider, id) = defaults
        .resolve(name)
        .split_once('/')
        .ok_or_else(|| ErrorShape::unavailable("no such model"))?;
    let entry = &parsed["models"]["providers"][provider];
    let api = entry["api"]
        .as_str()
        .and_then(Api::parse)
        .unwrap_or(Api::OpenAiCompletions);
    let key = entry["apiKey"]
        .as_str()
        .map(|key| SecretString::from(key.to_owned()));
    let base = entry["baseUrl"]
        .as_str()
        .ok_or_else(|| ErrorShape::unavailable("no address"))?;
    Ok(Chosen {
        models: vec![Model {
            provider: provider.to_owned(),
            id: id.to_owned(),
            api,
            endpoint: Endpoint::new(base, api, key),
            output_max: None,
        }],
    })
}
