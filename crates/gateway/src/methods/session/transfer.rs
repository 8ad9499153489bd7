//! Conversations out into the original's file format and in from it, by pages of lines.

use std::sync::Arc;

use clawgate_protocol::ErrorShape;
use serde_json::{Value, json};

use super::{Held, Refused, number, text, told};
use crate::{
    clock::now_ms,
    dispatch::{Answer, Call, Reply, later},
    transcript::{FILE_VERSION, header_of, line_of, read_line},
};

/// Lines and bytes of one page.
const LINES: i64 = 500;
const BYTES_MAX: usize = 4 << 20;

pub(crate) fn export(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let asked = call.members().and_then(|members| {
        let key = match (text(&members, "key"), text(&members, "archive")) {
            (Some(_), None) => Some(call.key(&members, "key")?),
            (None, Some(_)) => None,
            _ => return Err(ErrorShape::invalid("Provide either key or archive")),
        };
        Ok((key, members))
    });
    later(asked, move |(key, members)| async move {
        let archive = text(&members, "archive").map(str::to_owned);
        let after = number(&members, "after").unwrap_or(0);
        let found = gateway
            .look(move |db| {
                let (of, first, last) = match (&key, &archive) {
                    (Some(key), _) => match super::conversation(db, key.as_str())? {
                        Some(of) => {
                            let (cut, lines) = (of.cut_lines, of.lines);
                            (of, cut, lines)
                        }
                        None => return Ok(None),
                    },
                    (None, Some(name)) => {
                        let Some(archive) = db.archive(name)? else {
                            return Ok(None);
                        };
                        let Some(of) = db.transcript(archive.transcript)? else {
                            return Ok(None);
                        };
                        (of, archive.first_line - 1, archive.last_line)
                    }
                    (None, None) => return Ok(None),
                };
                let entries = db.entries_after(of.number, after.max(first), last, LINES)?;
                Ok(Some((of, entries, last)))
            })
            .await?;
        let Some((of, entries, last)) = found else {
            return Err(ErrorShape::invalid("nothing of that name has been said")
                .with_details(json!({"code": "TRANSCRIPT_NOT_FOUND"})));
        };
        let (mut lines, mut bytes, mut through) = (Vec::new(), 0, last);
        for entry in &entries {
            bytes += entry.body.len();
            if bytes > BYTES_MAX && !lines.is_empty() {
                break;
            }
            lines.push(line_of(entry).to_string());
            through = entry.line;
        }
        let next = (through < last).then_some(through);
        Ok(Reply::json(&json!({
            "sessionId": of.session_id,
            "header": header_of(&of).to_string(),
            "lines": lines,
            "next": next,
        })))
    })
}

pub(crate) fn import(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let default = call.default_model();
    let asked = call
        .members()
        .and_then(|members| Ok((call.key(&members, "key")?, members)));
    later(asked, move |(key, members)| async move {
        let (id, entries) = gateway
            .change(&link, "importing a conversation", move |tx| {
                let now = now_ms();
                let mut held = match super::held(tx, &key)? {
                    Some(held) => held,
                    None => Held::new(&key, now),
                };
                let session = &held.session;
                if let Some(of) = tx
                    .read()
                    .live_transcript(&session.agent_id, &session.session_id)?
                    && of.lines > of.cut_lines
                {
                    return Err(Refused::Said(
                        ErrorShape::invalid("the session has a conversation; reset it first")
                            .with_details(json!({"code": "SESSION_NOT_EMPTY"})),
                    ));
                }
                held.session.updated_at_ms = now;
                held.keep(tx, &key)?;
                let session = &held.session;
                let lines = members["lines"].as_array().into_iter().flatten();
                let mut of = None;
                let mut at_ms = now;
                let mut entries = 0_i64;
                for (index, line) in lines.filter_map(Value::as_str).enumerate() {
                    if line.trim().is_empty() {
                        continue;
                    }
                    let bad = |why: &str| {
                        Refused::Said(
                            ErrorShape::invalid(format!("line {}: {why}", index + 1)).with_details(
                                json!({"code": "LINE_UNREADABLE", "line": index + 1}),
                            ),
                        )
                    };
                    let value: Value =
                        serde_json::from_str(line).map_err(|_| bad("it is not JSON"))?;
                    let is_header = value.get("type").and_then(Value::as_str) == Some("session");
                    if is_header {
                        if of.is_some() {
                            return Err(bad("a second beginning of a file"));
                        }
                        let version = value.get("version").and_then(Value::as_u64).unwrap_or(1);
                        if version > FILE_VERSION {
                            return Err(bad("its version is newer than this program knows"));
                        }
                        let header = value.to_string();
                        of = Some(begin(tx, session, Some(&header), now)?);
                        continue;
                    }
                    let mut into = match of.take() {
                        Some(of) => of,
                        None => begin(tx, session, None, now)?,
                    };
                    let new = read_line(value, at_ms).map_err(bad)?;
                    if tx.read().entry(&into, &new.id)?.is_some() {
                        return Err(bad("its id stands there twice"));
                    }
                    at_ms = new.at_ms;
                    tx.append(&mut into, &new)?;
                    entries += 1;
                    of = Some(into);
                }
                let told = told(tx, &key, "import", &default)?;
                Ok(((held.session.session_id.clone(), entries), told))
            })
            .await?;
        Ok(Reply::json(
            &json!({"ok": true, "sessionId": id, "entries": entries}),
        ))
    })
}

/// The empty conversation that a session has, or a new one.
fn begin(
    tx: &clawgate_store::Tx<'_>,
    session: &clawgate_store::Session,
    header: Option<&str>,
    now_ms: i64,
) -> Result<clawgate_store::Transcript, clawgate_store::StoreError> {
    let (agent, id) = (&session.agent_id, &session.session_id);
    match tx.read().live_transcript(agent, id)? {
        Some(of) => Ok(of),
        None => tx.begin_transcript(agent, id, &session.key, header, now_ms),
    }
}
