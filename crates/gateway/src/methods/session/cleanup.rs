//! What is old goes: sessions that nobody touched are put away, and what was put away long ago is erased.
//! Only what is asked for with `enforce`, or where the configuration says so; otherwise it is counted.

use std::sync::Arc;

use clawgate_core::session::SessionKey;
use clawgate_protocol::ErrorShape;
use clawgate_store::{Session, SessionFilter};
use serde_json::{Map, Value, json};

use super::{free_name, is_on, text, told};
use crate::{
    Gateway,
    clock::now_ms,
    config::Config,
    dispatch::{Answer, Call, Reply, later},
    hub::Link,
};

const DAY_MS: i64 = 86_400_000;
/// Age after which a session, or what was put away, is old.
const PRUNE_AFTER_MS: i64 = 30 * DAY_MS;
/// Sessions of one agent that are kept, the newest.
const ENTRIES_MAX: i64 = 500;
/// Sessions looked at, and archives erased, in one transaction.
const AT_ONCE: i64 = 100;

/// `session.maintenance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Maintenance {
    enforce: bool,
    prune_after_ms: i64,
    entries_max: i64,
}

impl Maintenance {
    fn of(config: &Config) -> Self {
        let at = |member: &str| {
            let maintenance = config.snapshot.parsed.pointer("/session/maintenance")?;
            maintenance.get(member)
        };
        let days = at("pruneDays")
            .and_then(Value::as_i64)
            .map(|days| days.saturating_mul(DAY_MS));
        let span = at("pruneAfter").and_then(|span| match span {
            Value::String(text) => parse_span(text),
            other => other.as_i64().map(|days| days.saturating_mul(DAY_MS)),
        });
        Self {
            enforce: at("mode").and_then(Value::as_str) == Some("enforce"),
            prune_after_ms: span.or(days).filter(|ms| *ms > 0).unwrap_or(PRUNE_AFTER_MS),
            entries_max: at("maxEntries")
                .and_then(Value::as_i64)
                .filter(|max| *max > 0)
                .unwrap_or(ENTRIES_MAX),
        }
    }
}

/// `30d`, `12h`, `90m`.
fn parse_span(text: &str) -> Option<i64> {
    let text = text.trim();
    let units = [("d", DAY_MS), ("h", 3_600_000), ("m", 60_000)];
    let (digits, unit) = units
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    digits.parse::<i64>().ok()?.checked_mul(unit)
}

/// What goes or would go of one agent.
#[derive(Clone, Debug, Default)]
struct Going {
    before: i64,
    pruned: Vec<Session>,
    capped: Vec<Session>,
}

pub(crate) fn cleanup(call: &Call<'_>) -> Answer {
    let (gateway, link) = (Arc::clone(call.gateway), Arc::clone(call.link));
    let rules = Maintenance::of(&gateway.config());
    let asked = call.members().and_then(|members| {
        let active = match text(&members, "activeKey") {
            Some(_) => Some(call.key(&members, "activeKey")?),
            None => None,
        };
        Ok((active, members))
    });
    later(asked, move |(active, members)| async move {
        let enforce = rules.enforce || is_on(&members, "enforce");
        let agents = agents(&gateway, &members).await?;
        let mut stores = Vec::new();
        for agent in agents {
            let going = find(&gateway, &agent, rules, active.clone()).await?;
            if enforce {
                put_away(&gateway, &link, &going).await?;
            }
            let gone = going.pruned.len() + going.capped.len();
            let after = going.before - i64::try_from(gone).unwrap_or(0);
            stores.push(json!({
                "agentId": agent,
                "storePath": gateway.health.sessions_path(),
                "mode": if enforce { "enforce" } else { "warn" },
                "dryRun": !enforce,
                "beforeCount": going.before,
                "afterCount": after,
                "missing": 0,
                "pruned": going.pruned.len(),
                "capped": going.capped.len(),
                "diskBudget": null,
                "wouldMutate": gone > 0,
            }));
        }
        let erased = if enforce {
            erase(&gateway, &link, now_ms() - rules.prune_after_ms).await?
        } else {
            0
        };
        let mut answer = if is_on(&members, "allAgents") {
            json!({
                "allAgents": true,
                "mode": if enforce { "enforce" } else { "warn" },
                "dryRun": !enforce,
                "stores": stores,
            })
        } else {
            stores.into_iter().next().unwrap_or_default()
        };
        answer["archivesErased"] = json!(erased);
        Ok(Reply::json(&answer))
    })
}

/// Whose sessions are meant.
async fn agents(
    gateway: &Gateway,
    members: &Map<String, Value>,
) -> Result<Vec<String>, ErrorShape> {
    if is_on(members, "allAgents") {
        let counts = gateway.look(|db| db.session_counts()).await?;
        return Ok(counts.into_iter().map(|(agent, _)| agent).collect());
    }
    let named = text(members, "agent").map(|agent| agent.trim().to_lowercase());
    Ok(vec![
        named.unwrap_or_else(|| gateway.default_agent().to_owned()),
    ])
}

/// The main session and the one that the caller is in stay, whatever their age.
async fn find(
    gateway: &Gateway,
    agent: &str,
    rules: Maintenance,
    active: Option<SessionKey>,
) -> Result<Going, ErrorShape> {
    let agent = agent.to_owned();
    let old_ms = now_ms() - rules.prune_after_ms;
    gateway
        .look(move |db| {
            let main = SessionKey::main_of(&agent);
            let stays = |session: &Session| {
                session.key == main.as_str()
                    || active
                        .as_ref()
                        .is_some_and(|key| key.as_str() == session.key)
            };
            let counts = db.session_counts()?;
            let mut going = Going {
                before: counts
                    .iter()
                    .find(|(one, _)| *one == agent)
                    .map_or(0, |(_, count)| *count),
                ..Going::default()
            };
            let mut place = 0;
            loop {
                let page = db.session_page(&SessionFilter {
                    agent_id: Some(agent.clone()),
                    with_runs: true,
                    offset: place,
                    limit: AT_ONCE,
                    ..SessionFilter::default()
                })?;
                if page.is_empty() {
                    return Ok(going);
                }
                for listed in page {
                    place += 1;
                    if stays(&listed.session) {
                        continue;
                    }
                    if listed.session.updated_at_ms < old_ms {
                        going.pruned.push(listed.session);
                    } else if place > rules.entries_max {
                        going.capped.push(listed.session);
                    }
                }
            }
        })
        .await
}

async fn put_away(
    gateway: &Arc<Gateway>,
    link: &Arc<Link>,
    going: &Going,
) -> Result<(), ErrorShape> {
    let sessions: Vec<Session> = going.pruned.iter().chain(&going.capped).cloned().collect();
    for session in sessions {
        let default = super::DefaultModel::of(&gateway.config());
        gateway
            .change(link, "cleaning sessions up", move |tx| {
                let now = now_ms();
                let found = tx.read().session(&session.key)?;
                // One that was touched meanwhile is not old any more.
                if found.is_none_or(|found| found.updated_at_ms != session.updated_at_ms) {
                    return Ok(((), None));
                }
                let (agent, id) = (&session.agent_id, &session.session_id);
                if let Some(of) = tx.read().live_transcript(agent, id)? {
                    let name = free_name(tx, &of, "deleted", now)?;
                    tx.put_transcript_away(&of, Some((&name, "deleted")), now)?;
                }
                tx.remove_session(&session.key)?;
                let told = match SessionKey::read(&session.key, None, agent) {
                    Ok(key) => told(tx, &key, "delete", &default)?,
                    Err(_) => None,
                };
                Ok(((), told))
            })
            .await?;
    }
    Ok(())
}

/// Erases what was put away before a time, a part at a time, so that others get their turn.
async fn erase(
    gateway: &Arc<Gateway>,
    link: &Arc<Link>,
    before_ms: i64,
) -> Result<usize, ErrorShape> {
    let mut erased = 0;
    loop {
        let found = gateway
            .look(move |db| db.archives_before(before_ms, AT_ONCE))
            .await?;
        if found.is_empty() {
            return Ok(erased);
        }
        for archive in found {
            gateway
                .change(link, "erasing what was put away", move |tx| {
                    tx.erase_archive(&archive)?;
                    Ok(((), None))
                })
                .await?;
            erased += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_days_hours_and_minutes() {
        assert_eq!(parse_span("30d"), Some(30 * DAY_MS));
        assert_eq!(parse_span(" 12h "), Some(DAY_MS / 2));
        assert_eq!(parse_span("90m"), Some(5_400_000));
        for bad in ["", "d", "30", "-", "1y", "99999999999999999999d", "3é"] {
            assert_eq!(parse_span(bad), None, "{bad}");
        }
    }
}
