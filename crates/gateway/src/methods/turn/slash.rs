//! Commands of a chat: each is another method of the same caller, and its answer one last word in the
//! chat.

use std::sync::Arc;

use clawgate_core::{Dialect, session::SessionKey, slash::Slash};
use clawgate_protocol::{ErrorShape, agent::ChatSendParams, event::Event};
use clawgate_store::RunClaim;
use serde_json::{Value, json};

use super::send;
use crate::{
    Gateway,
    clock::now_ms,
    dispatch::{Answer, Call, Reply, later},
    hub::Way,
    methods::session::{DefaultModel, Held, Refused},
};

const HELP: &str = "/new [message] - another conversation\n/status - this session and its model\n\
    /model [provider/model] - which model answers here\n/think [level] - how much is thought\n\
    /compact - put older messages away\n/stop - stop what goes on";

/// Does what a command says.
pub(super) fn answer(
    call: &Call<'_>,
    slash: Slash,
    key: &SessionKey,
    params: &ChatSendParams,
) -> Answer {
    let at = json!({"key": key.as_str()});
    let does = slash.method().map(|method| {
        let mut params = at;
        match &slash {
            Slash::Model(Some(model)) => params["model"] = json!(model),
            Slash::Think(Some(level)) => params["thinkingLevel"] = json!(level),
            _ => {}
        }
        call.other(method, &params)
    });
    // What follows is said in the new conversation.
    let follows = match &slash {
        Slash::New(rest) if !rest.trim().is_empty() => {
            let params = ChatSendParams {
                message: rest.clone(),
                session_id: None,
                expected_leaf_entry_id: None,
                ..params.clone()
            };
            Some(send(call, key.clone(), params))
        }
        _ => None,
    };
    let (gateway, key) = (Arc::clone(call.gateway), key.clone());
    let (run_id, written) = (params.idempotency_key.clone(), params.session_key.clone());
    later(Ok(()), move |()| async move {
        let done = match does {
            Some(does) => Some(does.reply().await.outcome?),
            None => None,
        };
        if let Some(follows) = follows {
            return follows
                .reply()
                .await
                .outcome
                .map(|payload| Reply::made(payload.to_string()));
        }
        let words = match slash {
            Slash::Help => HELP.to_owned(),
            Slash::Status => status(&gateway, &key).await?,
            Slash::New(_) => "A new conversation has begun.".to_owned(),
            Slash::Model(None) => format!("Model: {}", model(&gateway, &key).await?),
            Slash::Model(Some(_)) => format!("Model: {}", model(&gateway, &key).await?),
            Slash::Think(None) => format!("Thinking: {}", thinking(&gateway, &key).await?),
            Slash::Think(Some(level)) => format!("Thinking: {level}"),
            Slash::Compact => match done.and_then(|done| serde_json::from_str::<Value>(&done).ok())
            {
                Some(done) if done["compacted"] == true => {
                    format!("Older messages are put away as {}.", done["archived"])
                }
                _ => "There is nothing to put away.".to_owned(),
            },
        };
        said(&gateway, &key, run_id, written, words).await
    })
}

/// The last word of a command, once for each key.
async fn said(
    gateway: &Arc<Gateway>,
    key: &SessionKey,
    run_id: String,
    written: String,
    words: String,
) -> Result<Reply, ErrorShape> {
    let (id, of) = (run_id.clone(), key.as_str().to_owned());
    let claim = gateway
        .store
        .write("answering a command", move |tx| {
            let now = now_ms();
            let claim = tx.claim_run(&id, &of, None, now)?;
            if claim == RunClaim::Claimed {
                let result = json!({"runId": id, "status": "ok", "summary": "completed"});
                tx.end_run(&id, "ok", Some(&result.to_string()), now)?;
            }
            Ok::<_, Refused>(claim)
        })
        .await
        .map_err(Refused::shape)?;
    if let RunClaim::Before(_) = claim {
        return Ok(Reply::json(&json!({"runId": run_id, "status": "ok"})));
    }
    let event = json!({
        "runId": run_id, "sessionKey": written, "seq": 0, "state": "final",
        "message": {
            "role": "assistant", "content": [{"type": "text", "text": words}],
            "timestamp": now_ms(),
        },
    });
    let payload = |dialect| match dialect {
        Dialect::V3 => event.to_string(),
        Dialect::V4 => {
            let mut event = event.clone();
            event["sessionKey"] = json!(key.as_str());
            event["agentId"] = json!(key.agent());
            event.to_string()
        }
    };
    let way = Way {
        event: Event::Chat,
        numbered: true,
        droppable: false,
    };
    gateway.hub.publish_if(way, payload, |_| true);
    Ok(Reply::json(&json!({"runId": run_id, "status": "started"})))
}

async fn held(gateway: &Gateway, key: &SessionKey) -> Result<Option<Held>, ErrorShape> {
    let key = key.as_str().to_owned();
    let session = gateway.look(move |db| db.session(&key)).await?;
    Ok(session.map(Held::of))
}

async fn model(gateway: &Gateway, key: &SessionKey) -> Result<String, ErrorShape> {
    let default = DefaultModel::of(&gateway.config());
    let (provider, model) = match held(gateway, key).await? {
        Some(held) => held.model(&default),
        None => (default.provider, default.model),
    };
    Ok(match (provider, model) {
        (Some(provider), Some(model)) => format!("{provider}/{model}"),
        (_, Some(model)) => model,
        _ => "none is configured; set agents.defaults.model.primary".to_owned(),
    })
}

async fn thinking(gateway: &Gateway, key: &SessionKey) -> Result<String, ErrorShape> {
    let default = DefaultModel::of(&gateway.config()).thinking;
    let held = held(gateway, key).await?;
    let own = held.as_ref().and_then(|held| held.text("thinkingLevel"));
    Ok(own
        .map(str::to_owned)
        .or(default)
        .unwrap_or_else(|| "off".to_owned()))
}

async fn status(gateway: &Gateway, key: &SessionKey) -> Result<String, ErrorShape> {
    let model = model(gateway, key).await?;
    let held = held(gateway, key).await?;
    let tokens = held
        .as_ref()
        .and_then(|held| held.entry.get("totalTokens")?.as_i64());
    let (running, waiting) = gateway.turns.counts();
    Ok(format!(
        "clawgate {}\nSession: {}\nConversation: {}\nModel: {model}\nThinking: {}\nTokens: {}\nTurns: \
         {running} running, {waiting} waiting",
        crate::VERSION,
        key.as_str(),
        held.as_ref()
            .map_or("none yet", |held| held.session.session_id.as_str()),
        thinking(gateway, key).await?,
        tokens.unwrap_or(0),
    ))
}
