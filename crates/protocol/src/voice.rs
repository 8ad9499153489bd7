//! Talk mode and speech.

use crate::shape::{Field, Shape, optional, required};

/// `talk.config`.
pub const TALK_CONFIG: &[Field] = &[optional("includeSecrets", Shape::Bool)];
/// `talk.mode`.
pub const TALK_MODE: &[Field] = &[
    required("enabled", Shape::Bool),
    optional("phase", Shape::Str { min: 0, max: 64 }),
];
/// The speech services that the original knows by name.
pub const SPEECH_PROVIDERS: [&str; 3] = ["openai", "elevenlabs", "edge"];
