//! Tools of a turn.

use std::{path::PathBuf, sync::Arc};

use clawgate_agent::ToolSet;

use crate::{Gateway, agents::Agent};

#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) agent: Agent,
    pub(crate) session_key: String,
    pub(crate) session_id: String,
    pub(crate) run_id: String,
    pub(crate) workspace: PathBuf,
    pub(crate) attended: bool,
    pub(crate) allow: Option<Vec<String>>,
    pub(crate) model: String,
    pub(crate) provider: String,
}

pub(crate) fn of_turn(_: &Arc<Gateway>, _: Scene) -> ToolSet {
    ToolSet::default()
}
