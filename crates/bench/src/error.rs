//! Why a measurement could not be taken.

/// One reason for all scenarios.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The system refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The system's words.
        source: std::io::Error,
    },
    /// A peer answered something else than what was measured.
    #[error("{0}")]
    Unexpected(String),
    /// The binary under test does not have what is measured. Not a failure.
    #[error("skipped: {0}")]
    Skipped(String),
}

/// Says what was being done when an io error came.
pub trait Doing<T> {
    /// Names the act.
    fn doing(self, doing: &'static str) -> Result<T, BenchError>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T, BenchError> {
        self.map_err(|source| BenchError::Io { doing, source })
    }
}
