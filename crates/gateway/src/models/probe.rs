//! Whether a model answers.

use std::time::{Duration, Instant};

use clawgate_agent::{Delta, Message, ModelLimits, Models, Request, Usage};
use serde_json::Value;

use super::choose::{ModelError, find};
use clawgate_core::turn::Failure;
use clawgate_store::Cost;

/// Tokens that the answer may have: enough for a word, also after a little thought.
const OUTPUT_MAX: u32 = 64;

/// What a model did when it was asked for one word.
#[derive(Clone, Debug)]
pub struct Probe {
    /// `provider/model`, or what was named where that is none.
    pub key: String,
    /// From the request to the end of the answer.
    pub took: Duration,
    /// From the request to the first part of the answer.
    pub first: Option<Duration>,
    /// What came of it.
    pub outcome: Result<Answered, ProbeError>,
}

/// It answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Tokens.
    pub usage: Usage,
    /// What they cost, where that is known.
    pub cost: Option<Cost>,
}

/// It did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeError {
    /// It could not be asked.
    NotAsked(ModelError),
    /// It was asked and failed.
    Failed(Failure),
    /// No client could be made.
    Setup(String),
}

impl ProbeError {
    /// The stable word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotAsked(error) => error.code(),
            Self::Failed(failure) => failure.kind.as_str(),
            Self::Setup(_) => "setup",
        }
    }
}

impl std::fmt::Display for ProbeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAsked(error) => error.fmt(f),
            Self::Failed(failure) => f.write_str(&failure.message),
            Self::Setup(why) => f.write_str(why),
        }
    }
}

/// Asks a model for one word, once: nothing is repeated and nothing falls back.
pub async fn probe(config: &Value, name: &str, patience: Duration) -> Probe {
    let mut probe = Probe {
        key: name.to_owned(),
        took: Duration::ZERO,
        first: None,
        outcome: Err(ProbeError::NotAsked(ModelError::NoneConfigured)),
    };
    let mut choice = match find(config, name, None) {
        Ok(choice) => choice,
        Err(error) => {
            probe.outcome = Err(ProbeError::NotAsked(error));
            return probe;
        }
    };
    probe.key = choice.key();
    let model = &mut choice.model;
    let bound = model.output_max.unwrap_or(OUTPUT_MAX);
    model.output_max = Some(bound.min(OUTPUT_MAX));
    let limits = ModelLimits {
        connect: ModelLimits::default().connect.min(patience),
        first_byte: patience,
        between: patience,
        whole: patience,
        ..ModelLimits::default()
    };
    let models = match Models::new(limits) {
        Ok(models) => models,
        Err(error) => {
            probe.outcome = Err(ProbeError::Setup(error.to_string()));
            return probe;
        }
    };
    let messages = [Message::user("Answer with the one word: ready")];
    let request = Request {
        system: "",
        messages: &messages,
        tools: &[],
    };
    let began = Instant::now();
    let mut on_delta = |_: Delta<'_>| {
        probe.first.get_or_insert_with(|| began.elapsed());
    };
    let asked = models.ask(&choice.model, &request, &mut on_delta).await;
    probe.took = began.elapsed();
    probe.outcome = match asked {
        Ok(answer) => Ok(Answered {
            usage: answer.usage,
            cost: choice.cost(answer.usage),
        }),
        Err(failure) => Err(ProbeError::Failed(failure)),
    };
    probe
}
