//! The onboarding wizard: questions of the gateway, answered one by one.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::shape::{Field, Shape, optional, required, since_v4};

const ID: Shape = Shape::Str { min: 1, max: 200 };

/// `wizard.start`.
pub const START: &[Field] = &[
    optional("mode", Shape::OneOf(&["local", "remote"])),
    optional("workspace", Shape::Str { min: 0, max: 4_096 }),
    since_v4("channel", Shape::Text),
    since_v4("flow", Shape::Text),
    since_v4("installDaemon", Shape::Bool),
];
/// `wizard.next`.
pub const NEXT: &[Field] = &[
    required("sessionId", ID),
    optional(
        "answer",
        Shape::Object(&[required("stepId", ID), optional("value", Shape::Any)]),
    ),
];
/// `wizard.cancel` and `wizard.status`.
pub const SESSION: &[Field] = &[required("sessionId", ID)];

/// Params of `wizard.start`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StartParams {
    /// `local`, or `remote` for a client of a gateway elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The workspace that is proposed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
}

/// Params of `wizard.next`, and without an answer of `wizard.status` and `wizard.cancel`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NextParams {
    /// The wizard.
    pub session_id: String,
    /// The answer to the step that waits; left out, the step is only told again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<StepAnswer>,
}

/// An answer to a step.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepAnswer {
    /// Which step.
    pub step_id: String,
    /// Its value.
    #[serde(default)]
    pub value: Value,
}

/// One question.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// `note`, `select`, `text` or `confirm`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Heading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The question.
    pub message: String,
    /// What can be chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Vec<StepOption>>,
    /// What holds when nothing is changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_value: Option<Value>,
    /// An example.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placeholder: Option<String>,
    /// Whether the answer is a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensitive: Option<bool>,
    /// Who asks: always `client`.
    pub executor: String,
    /// New for every step.
    pub id: String,
}

/// One choice.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StepOption {
    /// What is answered.
    pub value: String,
    /// What is read.
    pub label: String,
    /// More words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
