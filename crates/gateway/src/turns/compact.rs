//! What no longer fits into a model's window is summed up: by the model itself, once, before the turn
//! that needs the room. The messages stay in the transcript, for people.

use std::sync::Arc;

use clawgate_agent::{Answer, Message, Model, Request, Usage};
use clawgate_store::{NewEntry, StoreError, Transcript};
use serde_json::json;

use super::{
    Run,
    past::{self, Past},
};
use crate::{Gateway, clock::now_ms, methods::session::Held, transcript::new_entry_id};

/// Bytes of what is summed up that a model is told at most; of more, the newest.
const TOLD_MAX: usize = 192 << 10;
/// Bytes of a tool's result among it.
const RESULT_MAX: usize = 1_000;
/// Tokens of a summary.
const SUMMARY_TOKENS: u32 = 2_000;
/// Bytes of a summary that are kept.
const SUMMARY_MAX: usize = 24 << 10;
const SYSTEM: &str = "You keep the memory of a conversation between a person and an assistant. Write down \
    what has to be known to go on with it: what the person wants and likes, what was decided and why, \
    what was done with which result, names, numbers, paths and open ends. Use short plain sentences in \
    the language of the conversation, and nothing that is not in it.";

/// Makes room: sums up what came before the newest half of what fits. When that fails, the past is
/// told as far as it fits, without a summary.
pub(super) async fn make_room(
    gateway: &Arc<Gateway>,
    run: &Arc<Run>,
    of: &Transcript,
    model: &Model,
    past: Past,
    room: usize,
) -> Past {
    run.voice
        .tells(gateway, "compaction", &json!({"phase": "start"}));
    let summed = sum_up(gateway, run, of, model, room).await;
    let done = summed.is_ok();
    run.voice.tells(
        gateway,
        "compaction",
        &json!({"phase": "end", "willRetry": false, "completed": done}),
    );
    match summed {
        Ok(shorter) => shorter,
        Err(why) => {
            tracing::warn!(
                run = run.id(),
                why,
                "older messages could not be summed up; they are left out"
            );
            past
        }
    }
}

async fn sum_up(
    gateway: &Arc<Gateway>,
    run: &Arc<Run>,
    of: &Transcript,
    model: &Model,
    room: usize,
) -> Result<Past, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let looked = of.clone();
    let (from, before) = gateway
        .store
        .read(move |db| {
            let kept = past::read(db, &looked, room / 2)?;
            let before = past::before(db, &looked, kept.from, TOLD_MAX)?;
            Ok((kept.from, before))
        })
        .await
        .map_err(|error| said(&error))?;
    if before.is_empty() {
        return Err("there is nothing before what is kept".to_owned());
    }
    let (summary, usage) = ask(gateway, run, model, &before).await?;
    let (of, key, id) = (of.clone(), run.key().clone(), run.id().to_owned());
    gateway
        .store
        .write("keeping a summary", move |tx| {
            let now = now_ms();
            let mut of = tx.read().transcript(of.number)?.unwrap_or(of);
            tx.sum_up(&of, from, &summary)?;
            let mut entry_id = new_entry_id();
            while tx.read().entry(&of, &entry_id)?.is_some() {
                entry_id = new_entry_id();
            }
            let body = json!({
                "summary": summary,
                "firstKeptMessage": from,
                "usage": {"input": usage.input, "output": usage.output},
            });
            let entry = NewEntry {
                id: entry_id,
                kind: "compaction".to_owned(),
                at_ms: now,
                run_id: Some(id),
                body: body.to_string(),
                ..NewEntry::default()
            };
            tx.append(&mut of, &entry)?;
            if let Some(session) = tx.read().session(key.as_str())? {
                let mut held = Held::of(session);
                let before = held
                    .entry
                    .get("compactionCount")
                    .and_then(serde_json::Value::as_i64);
                held.entry
                    .insert("compactionCount".to_owned(), json!(before.unwrap_or(0) + 1));
                held.keep(tx, &key)?;
            }
            past::read(&tx.read(), &of, room)
        })
        .await
        .map_err(|error: StoreError| said(&error))
}

async fn ask(
    gateway: &Arc<Gateway>,
    run: &Arc<Run>,
    model: &Model,
    before: &[Message],
) -> Result<(String, Usage), String> {
    let models = gateway.turns.models().map_err(|shape| shape.message)?;
    let model = Model {
        output_max: Some(
            model
                .output_max
                .unwrap_or(SUMMARY_TOKENS)
                .min(SUMMARY_TOKENS),
        ),
        ..model.clone()
    };
    let told = [Message::user(written(before))];
    let request = Request {
        system: SYSTEM,
        messages: &told,
        tools: &[],
    };
    let mut nothing = |_: clawgate_agent::Delta<'_>| {};
    let asked = tokio::select! {
        biased;
        () = run.stop.cancelled() => return Err("the turn was stopped".to_owned()),
        asked = models.ask(&model, &request, &mut nothing) => asked,
    };
    let answer: Answer = asked.map_err(|failure| failure.message)?;
    let mut summary = answer.text.trim().to_owned();
    if summary.is_empty() {
        return Err("the model summed it up in no words".to_owned());
    }
    if let Some((end, _)) = summary.char_indices().find(|(at, _)| *at >= SUMMARY_MAX) {
        summary.truncate(end);
    }
    Ok((summary, answer.usage))
}

/// A conversation as a text.
fn written(messages: &[Message]) -> String {
    let mut text = String::new();
    for message in messages {
        let (who, words) = match message {
            Message::User(said) => ("Person", said.text.clone()),
            Message::Answer(answer) => {
                let calls = answer.calls.iter();
                let calls = calls.map(|call| format!("[calls {} {}]", call.name, call.arguments));
                let words = std::iter::once(answer.text.clone()).chain(calls);
                ("Assistant", words.collect::<Vec<_>>().join(" "))
            }
            Message::ToolResult(result) => {
                let words: String = result.text.chars().take(RESULT_MAX).collect();
                ("Tool", words)
            }
        };
        text.push_str(who);
        text.push_str(": ");
        text.push_str(words.trim());
        text.push_str("\n\n");
    }
    text
}
