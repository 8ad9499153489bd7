//! `config`: reading and changing the operator's file.

use serde::Deserialize;
use serde_json::Value;

use crate::shape::{Field, NON_EMPTY, Shape, optional, required, since_v4};

/// Params of `config.set`.
pub const SET: &[Field] = &[required("raw", NON_EMPTY), optional("baseHash", NON_EMPTY)];

/// Params of `config.apply`.
pub const APPLY: &[Field] = &[
    required("raw", NON_EMPTY),
    optional("baseHash", NON_EMPTY),
    optional("sessionKey", Shape::Text),
    optional("note", Shape::Text),
    optional("restartDelayMs", crate::shape::COUNT),
    since_v4("deliveryContext", DELIVERY_CONTEXT),
];

/// Params of `config.patch`.
pub const PATCH: &[Field] = &[
    required("raw", NON_EMPTY),
    optional("baseHash", NON_EMPTY),
    optional("sessionKey", Shape::Text),
    optional("note", Shape::Text),
    optional("restartDelayMs", crate::shape::COUNT),
    since_v4("deliveryContext", DELIVERY_CONTEXT),
    since_v4(
        "replacePaths",
        Shape::List {
            of: &NON_EMPTY,
            min: 0,
            max: 256,
        },
    ),
];

const DELIVERY_CONTEXT: Shape = Shape::MapOf(&Shape::Any);

/// Params of `config.schema.lookup`.
pub const SCHEMA_LOOKUP: &[Field] = &[required("path", Shape::Str { min: 1, max: 1_024 })];

/// What a path given to `config.schema.lookup` may be made of, as the wire says it.
pub const LOOKUP_PATTERN: &str = r"^[A-Za-z0-9_./\[\]\-*]+$";

/// Whether a path is made of what [`LOOKUP_PATTERN`] says.
pub fn is_lookup_path(path: &str) -> bool {
    !path.is_empty()
        && path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_./[]-*".contains(&byte))
}

/// Params of the writing methods.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteParams {
    /// JSON5: a whole configuration, or a patch.
    pub raw: String,
    /// Hash of the file that the caller saw.
    pub base_hash: Option<String>,
    /// Where the caller wants to be told of it.
    pub session_key: Option<String>,
    /// Why it is changed, for the one who is told.
    pub note: Option<String>,
    /// Where to tell it, as the caller says.
    pub delivery_context: Option<Value>,
    /// Lists that the patch may shorten, as `agents.list[].skills`.
    pub replace_paths: Option<Vec<String>>,
}

/// Params of `config.schema.lookup`.
#[derive(Clone, Debug, Deserialize)]
pub struct LookupParams {
    /// Dotted path; `[]`, `[n]` and `*` stand for items.
    pub path: String,
}
