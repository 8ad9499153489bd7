//! The onboarding wizard.

use std::sync::Arc;

use clawgate_core::wizard::{Choice, Known, Mode};
use clawgate_protocol::{
    ErrorShape,
    wizard::{NextParams, StartParams},
};
use serde_json::json;

use super::agent::on_disk;
use crate::{
    Gateway, agents,
    clock::now_ms,
    dispatch::{Answer, Call, Reply, later, now},
    error,
    hub::Link,
    settings::{AUTH_CHANGED, Change},
    wizard::{Turn, WizardError, patch},
};

fn words(error: WizardError) -> ErrorShape {
    match error {
        WizardError::Busy => ErrorShape::unavailable("wizard already running"),
        WizardError::NotFound => ErrorShape::invalid("wizard not found"),
        WizardError::NoSuchStep => ErrorShape::invalid("Error: wizard: no pending step"),
        WizardError::Wrong(problem) => ErrorShape::invalid(format!("Error: wizard: {problem}"))
            .with_details(json!({"code": "WIZARD_ANSWER_INVALID"})),
    }
}

pub(crate) fn start(call: &Call<'_>) -> Answer {
    now(|| {
        let params: StartParams = call.typed()?;
        let config = call.gateway.config();
        let mode = match params.mode.as_deref() {
            Some("remote") => Mode::Remote,
            _ => Mode::Local,
        };
        let asked = params.workspace.as_deref().map(str::trim);
        let workspace = match asked.filter(|asked| !asked.is_empty()) {
            Some(asked) => {
                agents::asked_workspace(asked, call.gateway.state.path())
                    .map_err(|problem| call.invalid(&problem))?;
                asked.to_owned()
            }
            None => {
                let roster = call.gateway.roster();
                roster.default_agent().workspace.display().to_string()
            }
        };
        let known = Known {
            mode,
            existing: config.snapshot.exists,
            port: config.port,
            workspace,
        };
        let (id, step) = call.gateway.wizards.start(known, now_ms()).map_err(words)?;
        Ok(Reply::json(&json!({
            "sessionId": id, "done": false, "step": step, "status": "running",
        })))
    })
}

pub(crate) fn next(call: &Call<'_>) -> Answer {
    let turn = call.typed::<NextParams>().and_then(|params| {
        let state = call.gateway.state.path();
        let judge = |path: &str| agents::asked_workspace(path, state).map(drop);
        call.gateway
            .wizards
            .next(&params.session_id, params.answer.as_ref(), now_ms(), judge)
            .map_err(words)
    });
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    later(turn, move |turn| async move {
        let (answer, ends_caller) = match turn {
            Turn::Ask(step) => (
                json!({"done": false, "step": step, "status": "running"}),
                false,
            ),
            Turn::Declined => (
                json!({"done": true, "status": "cancelled", "error": "cancelled"}),
                false,
            ),
            Turn::Write(choice) => match write(&gateway, &link, &choice).await {
                Ok(ends_caller) => (json!({"done": true, "status": "done"}), ends_caller),
                Err(error) => (
                    json!({"done": true, "status": "error", "error": error.message}),
                    false,
                ),
            },
        };
        let reply = Reply::json(&answer);
        Ok(if ends_caller {
            reply.closing(AUTH_CHANGED.0, AUTH_CHANGED.1)
        } else {
            reply
        })
    })
}

/// Writes the choice, and makes the workspace. Whether the caller's session ends by it.
async fn write(
    gateway: &Arc<Gateway>,
    link: &Arc<Link>,
    choice: &Choice,
) -> Result<bool, ErrorShape> {
    let change = Change::Merge(patch(choice));
    let changed = gateway.change_settings_by(link, None, change).await?;
    let ends_caller = changed.ends_caller;
    if choice.mode == Mode::Remote {
        return Ok(ends_caller);
    }
    let gateway = Arc::clone(gateway);
    on_disk("making a workspace", move || {
        let parsed = &changed.config.snapshot.parsed;
        let roster = gateway.roster();
        let workspace = &roster.default_agent().workspace;
        crate::workspace::Workspace::make(workspace, agents::wants_templates(parsed), false)
            .map(drop)
            .map_err(|error| error::internal("making a workspace", &error))
    })
    .await?;
    Ok(ends_caller)
}

pub(crate) fn cancel(call: &Call<'_>) -> Answer {
    now(|| {
        let params: NextParams = call.typed()?;
        call.gateway
            .wizards
            .cancel(&params.session_id, now_ms())
            .map_err(words)?;
        Ok(Reply::json(
            &json!({"status": "cancelled", "error": "cancelled"}),
        ))
    })
}

pub(crate) fn status(call: &Call<'_>) -> Answer {
    now(|| {
        let params: NextParams = call.typed()?;
        if !call
            .gateway
            .wizards
            .is_running(&params.session_id, now_ms())
        {
            return Err(words(WizardError::NotFound));
        }
        Ok(Reply::json(&json!({"status": "running"})))
    })
}
