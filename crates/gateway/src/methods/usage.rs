//! Usage: what was used, by day, by session, by model.
//!
//! Reports are made of sums of quarters of an hour, so they cost what their range costs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use clawgate_core::Dialect;
use clawgate_protocol::ErrorShape;
use clawgate_store::{
    Entry, Read, StoreError, ToolSlot, Transcript, UsageRange, UsageSlot, WaitSlot,
};
use jiff::{civil::Date, tz::TimeZone};
use serde_json::{Map, Value, json};

use super::session::{Held, conversation, is_on, newest_messages, number, said, text};
use crate::{
    clock::now_ms,
    dispatch::{Answer, Call, Reply, later},
};

const DAY_MS: i64 = 86_400_000;
/// Days of a report when nobody says how many, and at most.
const DAYS: i64 = 30;
const DAYS_MAX: i64 = 3_660;
/// Sessions of a report when nobody says how many, and at most.
const SESSIONS: i64 = 50;
const SESSIONS_MAX: i64 = 1_000;
/// Points of a time series, the newest.
const POINTS_MAX: i64 = 2_000;
const LOGS: i64 = 200;
const LOGS_MAX: i64 = 1_000;

/// Days of somebody's calendar.
#[derive(Clone, Debug)]
struct Days {
    zone: TimeZone,
    first: Date,
    last: Date,
}

impl Days {
    /// From what a caller asks for; whatever does not read counts as not asked for.
    fn asked(members: &Map<String, Value>, now_ms: i64) -> Self {
        let zone = zone(members);
        let today = at(now_ms).to_zoned(zone.clone()).date();
        let date = |member: &str| text(members, member)?.parse::<Date>().ok();
        let days = number(members, "days").or_else(|| text(members, "days")?.trim().parse().ok());
        let days = match text(members, "range") {
            Some("7d") => 7,
            Some("90d") => 90,
            Some("1y") => 365,
            Some("all") => DAYS_MAX,
            _ => days.unwrap_or(DAYS).clamp(1, DAYS_MAX),
        };
        let (first, last) = match (date("startDate"), date("endDate")) {
            (Some(first), Some(last)) if first <= last => (first, last),
            _ => (back(today, days - 1), today),
        };
        Self {
            first: first.max(back(last, DAYS_MAX - 1)),
            zone,
            last,
        }
    }

    /// The range in milliseconds, its end not among it.
    fn range(&self, transcript: Option<i64>) -> UsageRange {
        let begin = |day: Date| {
            day.to_zoned(self.zone.clone())
                .map_or(0, |begin| begin.timestamp().as_millisecond())
        };
        UsageRange {
            from_ms: begin(self.first),
            until_ms: begin(self.last.tomorrow().unwrap_or(self.last)),
            transcript,
        }
    }

    /// The day of a time, as it is written.
    fn day(&self, at_ms: i64) -> String {
        at(at_ms).to_zoned(self.zone.clone()).date().to_string()
    }

    /// The original counts one more than there are.
    fn count(&self) -> i64 {
        let range = self.range(None);
        (range.until_ms - range.from_ms + DAY_MS - 1) / DAY_MS + 1
    }
}

fn at(ms: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

fn back(day: Date, days: i64) -> Date {
    day.checked_sub(jiff::Span::new().days(days.clamp(0, DAYS_MAX)))
        .unwrap_or(day)
}

/// UTC, the gateway's own zone, or the one that the caller names.
fn zone(members: &Map<String, Value>) -> TimeZone {
    if let Some(zone) = text(members, "timeZone").and_then(|name| TimeZone::get(name).ok()) {
        return zone;
    }
    match text(members, "mode") {
        Some("gateway") => TimeZone::system(),
        Some("specific") => text(members, "utcOffset")
            .and_then(offset)
            .unwrap_or(TimeZone::UTC),
        _ => TimeZone::UTC,
    }
}

/// `UTC+5:30`
fn offset(text: &str) -> Option<TimeZone> {
    let rest = text.strip_prefix("UTC")?;
    let sign = match rest.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = rest[1..].split_once(':').unwrap_or((&rest[1..], "0"));
    let digits =
        |text: &str| (1..=2).contains(&text.len()) && text.chars().all(|c| c.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = sign * (hours * 3_600 + minutes * 60);
    jiff::tz::Offset::from_seconds(seconds)
        .ok()
        .map(TimeZone::fixed)
}

/// Tokens and money.
#[derive(Clone, Debug, Default)]
struct Sums(UsageSlot);

impl Sums {
    fn add(&mut self, slot: &UsageSlot) {
        let sums = &mut self.0;
        sums.users += slot.users;
        sums.assistants += slot.assistants;
        sums.tool_calls += slot.tool_calls;
        sums.tool_results += slot.tool_results;
        sums.errors += slot.errors;
        sums.uses += slot.uses;
        sums.input += slot.input;
        sums.output += slot.output;
        sums.cache_read += slot.cache_read;
        sums.cache_write += slot.cache_write;
        sums.tokens += slot.tokens;
        sums.cost += slot.cost;
        sums.input_cost += slot.input_cost;
        sums.output_cost += slot.output_cost;
        sums.cache_read_cost += slot.cache_read_cost;
        sums.cache_write_cost += slot.cache_write_cost;
        sums.unpriced += slot.unpriced;
    }

    fn totals(&self) -> Map<String, Value> {
        let sums = &self.0;
        let totals = json!({
            "input": sums.input,
            "output": sums.output,
            "cacheRead": sums.cache_read,
            "cacheWrite": sums.cache_write,
            "totalTokens": sums.tokens,
            "totalCost": money(sums.cost),
            "inputCost": money(sums.input_cost),
            "outputCost": money(sums.output_cost),
            "cacheReadCost": money(sums.cache_read_cost),
            "cacheWriteCost": money(sums.cache_write_cost),
            "missingCostEntries": sums.unpriced,
        });
        match totals {
            Value::Object(totals) => totals,
            _ => Map::new(),
        }
    }

    fn messages(&self) -> Value {
        let sums = &self.0;
        json!({
            "total": sums.users + sums.assistants,
            "user": sums.users,
            "assistant": sums.assistants,
            "toolCalls": sums.tool_calls,
            "toolResults": sums.tool_results,
            "errors": sums.errors,
        })
    }
}

/// A whole number without a point, as the original's JSON has it.
fn money(amount: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "it was looked at")]
    if amount.fract() == 0.0 && amount.abs() < 1e15 {
        json!(amount as i64)
    } else {
        json!(amount)
    }
}

pub(crate) fn status(call: &Call<'_>) -> Answer {
    // No provider is asked for anything before there are agent turns, so there are no quotas.
    Answer::Now(match call.loose() {
        Ok(_) => Reply::json(&json!({"updatedAt": now_ms(), "providers": []})),
        Err(error) => Reply::error(error),
    })
}

pub(crate) fn cost(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    later(call.loose(), move |asked| async move {
        let days = Days::asked(&asked, now_ms());
        let range = days.range(None);
        let slots = gateway.look(move |db| db.usage(&range)).await?;
        let (mut total, mut daily) = (Sums::default(), BTreeMap::<String, Sums>::new());
        for slot in slots.iter().filter(|slot| slot.uses > 0) {
            total.add(slot);
            daily.entry(days.day(slot.slot_ms)).or_default().add(slot);
        }
        let daily: Vec<Value> = daily
            .into_iter()
            // What used nothing is no day of use.
            .filter(|(_, sums)| sums.0.tokens > 0 || sums.0.cost > 0.0 || sums.0.unpriced > 0)
            .map(|(date, sums)| {
                let mut day = sums.totals();
                day.insert("date".to_owned(), json!(date));
                Value::Object(day)
            })
            .collect();
        Ok(Reply::json(&json!({
            "updatedAt": now_ms(),
            "days": days.count(),
            "daily": daily,
            "totals": total.totals(),
        })))
    })
}

/// How long answers took.
#[derive(Clone, Debug, Default)]
struct Waits {
    steps: BTreeMap<i64, i64>,
    count: i64,
    sum_ms: i64,
    min_ms: Option<i64>,
    max_ms: i64,
}

impl Waits {
    fn add(&mut self, slot: &WaitSlot) {
        *self.steps.entry(slot.step_ms).or_default() += slot.answers;
        self.count += slot.answers;
        self.sum_ms += slot.sum_ms;
        self.min_ms = Some(self.min_ms.map_or(slot.min_ms, |min| min.min(slot.min_ms)));
        self.max_ms = self.max_ms.max(slot.max_ms);
    }

    fn shown(&self) -> Value {
        // The step in which the nineteen of twenty are passed; the last one is known exactly.
        let wanted = (self.count * 95 + 99) / 100;
        let mut passed = 0;
        let mut p95 = self.max_ms;
        for (index, (step, answers)) in self.steps.iter().enumerate() {
            passed += answers;
            if passed >= wanted {
                if index + 1 < self.steps.len() {
                    p95 = *step;
                }
                break;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "an average of milliseconds")]
        let average = self.sum_ms as f64 / self.count.max(1) as f64;
        json!({
            "count": self.count,
            "avgMs": money(average),
            "p95Ms": p95,
            "minMs": self.min_ms.unwrap_or(0),
            "maxMs": self.max_ms,
        })
    }
}

/// Everything of one conversation, or of several.
#[derive(Clone, Debug, Default)]
struct Report {
    sums: Sums,
    first_at_ms: Option<i64>,
    last_at_ms: i64,
    days: BTreeMap<String, Sums>,
    models: BTreeMap<(String, String), Sums>,
    model_days: BTreeMap<(String, String, String), Sums>,
    tools: BTreeMap<String, i64>,
    waits: Waits,
    wait_days: BTreeMap<String, Waits>,
}

impl Report {
    fn add(&mut self, days: &Days, slot: &UsageSlot) {
        let day = days.day(slot.slot_ms);
        self.sums.add(slot);
        self.days.entry(day.clone()).or_default().add(slot);
        if slot.uses > 0 {
            let model = (slot.provider.clone(), slot.model.clone());
            let of_day = (day, slot.provider.clone(), slot.model.clone());
            self.models.entry(model).or_default().add(slot);
            self.model_days.entry(of_day).or_default().add(slot);
        }
        let first = self.first_at_ms.unwrap_or(slot.first_at_ms);
        self.first_at_ms = Some(first.min(slot.first_at_ms));
        self.last_at_ms = self.last_at_ms.max(slot.last_at_ms);
    }

    fn add_wait(&mut self, days: &Days, slot: &WaitSlot) {
        self.waits.add(slot);
        let day = days.day(slot.slot_ms);
        self.wait_days.entry(day).or_default().add(slot);
    }

    fn tools(&self) -> Value {
        let mut tools: Vec<(&String, &i64)> = self.tools.iter().collect();
        tools.sort_by(|one, other| other.1.cmp(one.1).then(one.0.cmp(other.0)));
        let listed: Vec<Value> = tools
            .iter()
            .map(|(name, count)| json!({"name": name, "count": count}))
            .collect();
        json!({
            "totalCalls": self.tools.values().sum::<i64>(),
            "uniqueTools": self.tools.len(),
            "tools": listed,
        })
    }

    fn models(&self) -> Vec<Value> {
        let mut models: Vec<Value> = self
            .models
            .iter()
            .map(|((provider, model), sums)| {
                json!({
                    "provider": provider, "model": model, "count": sums.0.uses,
                    "totals": sums.totals(),
                })
            })
            .collect();
        models.sort_by_key(|model| {
            std::cmp::Reverse(model["totals"]["totalTokens"].as_i64().unwrap_or(0))
        });
        models
    }

    fn model_days(&self) -> Vec<Value> {
        self.model_days
            .iter()
            .map(|((date, provider, model), sums)| {
                json!({
                    "date": date, "provider": provider, "model": model,
                    "tokens": sums.0.tokens, "cost": money(sums.0.cost), "count": sums.0.uses,
                })
            })
            .collect()
    }

    fn wait_days(&self) -> Vec<Value> {
        self.wait_days
            .iter()
            .map(|(date, waits)| {
                let mut shown = waits.shown();
                shown["date"] = json!(date);
                shown
            })
            .collect()
    }

    /// As part of a session's row.
    fn shown(&self, session_id: &str) -> Value {
        let mut usage = self.sums.totals();
        let mut put = |member: &str, value: Value| usage.insert(member.to_owned(), value);
        let first = self.first_at_ms.unwrap_or(0);
        put("sessionId", json!(session_id));
        put("firstActivity", json!(first));
        put("lastActivity", json!(self.last_at_ms));
        put("durationMs", json!((self.last_at_ms - first).max(0)));
        put("activityDates", json!(self.days.keys().collect::<Vec<_>>()));
        let each_day = |show: &dyn Fn(&String, &Sums) -> Value| {
            self.days
                .iter()
                .map(|(date, sums)| show(date, sums))
                .collect::<Vec<Value>>()
        };
        put(
            "dailyBreakdown",
            json!(each_day(&|date, sums| {
                json!({"date": date, "tokens": sums.0.tokens, "cost": money(sums.0.cost)})
            })),
        );
        put(
            "dailyMessageCounts",
            json!(each_day(&|date, sums| {
                let mut counts = sums.messages();
                counts["date"] = json!(date);
                counts
            })),
        );
        put("dailyModelUsage", json!(self.model_days()));
        put("messageCounts", self.sums.messages());
        put("modelUsage", json!(self.models()));
        if !self.tools.is_empty() {
            put("toolUsage", self.tools());
        }
        if self.waits.count > 0 {
            put("latency", self.waits.shown());
            put("dailyLatency", json!(self.wait_days()));
        }
        Value::Object(usage)
    }
}

/// What the store tells of a range.
struct Found {
    slots: Vec<UsageSlot>,
    tools: Vec<ToolSlot>,
    waits: Vec<WaitSlot>,
    /// Conversations by their number, with the sessions that have or had them.
    owners: BTreeMap<i64, (Transcript, Held)>,
    reports: BTreeMap<String, Value>,
}

pub(crate) fn sessions(call: &Call<'_>) -> Answer {
    let (gateway, dialect) = (Arc::clone(call.gateway), call.dialect());
    let asked = call.value().and_then(|value| {
        let Value::Object(members) = value else {
            return Err(call.invalid("must be object"));
        };
        for member in ["startDate", "endDate"] {
            let bad = text(&members, member)
                .is_some_and(|date| date.len() != 10 || date.parse::<Date>().is_err());
            if bad {
                let pattern = r#"must match pattern "^\d{4}-\d{2}-\d{2}$""#;
                return Err(call.invalid(&format!("at /{member}: {pattern}")));
            }
        }
        if text(&members, "utcOffset").is_some_and(|text| offset(text).is_none()) {
            let pattern = r#"must match pattern "^UTC[+-]\d{1,2}(?::[0-5]\d)?$""#;
            return Err(call.invalid(&format!("at /utcOffset: {pattern}")));
        }
        if text(&members, "timeZone").is_some_and(|name| TimeZone::get(name).is_err()) {
            return Err(call.invalid("at /timeZone: must be the name of a time zone"));
        }
        let key = match text(&members, "key") {
            Some(_) => Some(call.key(&members, "key")?),
            None => None,
        };
        Ok((key, members))
    });
    later(asked, move |(key, asked)| async move {
        let days = Days::asked(&asked, now_ms());
        let historical = is_on(&asked, "includeHistorical");
        let with_context = is_on(&asked, "includeContextWeight");
        let agent = text(&asked, "agentId").map(|agent| agent.trim().to_lowercase());
        let range = days.range(None);
        let found = gateway
            .look(move |db| {
                find(
                    db,
                    range,
                    |of, held| {
                        (historical || of.live && of.session_id == held.session.session_id)
                            && key
                                .as_ref()
                                .is_none_or(|key| key.as_str() == held.session.key)
                            && agent.as_ref().is_none_or(|agent| *agent == of.agent_id)
                    },
                    with_context,
                )
            })
            .await?;
        let limit = number(&asked, "limit")
            .unwrap_or(SESSIONS)
            .clamp(1, SESSIONS_MAX);
        Ok(Reply::json(&sessions_report(&days, &found, limit, dialect)))
    })
}

fn find(
    db: &Read<'_>,
    mut range: UsageRange,
    wanted: impl Fn(&Transcript, &Held) -> bool,
    with_context: bool,
) -> Result<Found, StoreError> {
    range.transcript = None;
    let mut found = Found {
        slots: db.usage(&range)?,
        tools: db.tool_usage(&range)?,
        waits: db.waits(&range)?,
        owners: BTreeMap::new(),
        reports: BTreeMap::new(),
    };
    let numbers: BTreeSet<i64> = found.slots.iter().map(|slot| slot.transcript).collect();
    for number in numbers {
        let Some(of) = db.transcript(number)? else {
            continue;
        };
        let Some(session) = db.session(&of.session_key)? else {
            continue;
        };
        let held = Held::of(session);
        if wanted(&of, &held) {
            if with_context && let Some(reports) = db.session_reports(&of.session_key)? {
                let report = serde_json::from_str::<Value>(&reports)
                    .ok()
                    .and_then(|mut reports| Some(reports.get_mut("systemPromptReport")?.take()));
                if let Some(report) = report {
                    found.reports.insert(of.session_key.clone(), report);
                }
            }
            found.owners.insert(number, (of, held));
        }
    }
    Ok(found)
}

fn sessions_report(days: &Days, found: &Found, limit: i64, dialect: Dialect) -> Value {
    let (mut total, mut each) = (Report::default(), BTreeMap::<&str, Report>::new());
    let (mut agents, mut channels) = (
        BTreeMap::<&str, Sums>::new(),
        BTreeMap::<String, Sums>::new(),
    );
    let mut providers = BTreeMap::<&str, Sums>::new();
    for slot in &found.slots {
        let Some((of, held)) = found.owners.get(&slot.transcript) else {
            continue;
        };
        total.add(days, slot);
        each.entry(&held.session.key).or_default().add(days, slot);
        agents.entry(&of.agent_id).or_default().add(slot);
        if let Some(channel) = channel(held) {
            channels.entry(channel).or_default().add(slot);
        }
        if slot.uses > 0 {
            providers.entry(&slot.provider).or_default().add(slot);
        }
    }
    for slot in &found.tools {
        if let Some((_, held)) = found.owners.get(&slot.transcript) {
            for report in [&mut total, each.entry(&held.session.key).or_default()] {
                *report.tools.entry(slot.tool.clone()).or_default() += slot.calls;
            }
        }
    }
    for slot in &found.waits {
        if let Some((_, held)) = found.owners.get(&slot.transcript) {
            total.add_wait(days, slot);
            each.entry(&held.session.key)
                .or_default()
                .add_wait(days, slot);
        }
    }
    let by_key: BTreeMap<&str, &Held> = found
        .owners
        .values()
        .map(|(_, held)| (held.session.key.as_str(), held))
        .collect();
    let mut listed: Vec<(&Held, &Report)> = each
        .iter()
        .filter_map(|(key, report)| Some((*by_key.get(key)?, report)))
        .collect();
    listed.sort_by_key(|(held, _)| std::cmp::Reverse(held.session.updated_at_ms));
    listed.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let sessions: Vec<Value> = listed
        .into_iter()
        .map(|(held, report)| session_row(held, report, found.reports.get(&held.session.key)))
        .collect();
    let named = |name: &str, sums: BTreeMap<&str, Sums>, counted: bool| -> Vec<Value> {
        sums.into_iter()
            .map(|(one, sums)| {
                let mut row = json!({name: one, "totals": sums.totals()});
                if counted {
                    row["count"] = json!(sums.0.uses);
                }
                row
            })
            .collect()
    };
    let channels = channels
        .iter()
        .map(|(channel, sums)| (channel.as_str(), sums.clone()));
    let daily: Vec<Value> = total
        .days
        .iter()
        .map(|(date, sums)| {
            json!({
                "date": date,
                "tokens": sums.0.tokens,
                "cost": money(sums.0.cost),
                "messages": sums.0.users + sums.0.assistants,
                "toolCalls": sums.0.tool_calls,
                "errors": sums.0.errors,
            })
        })
        .collect();
    let mut aggregates = json!({
        "messages": total.sums.messages(),
        "tools": total.tools(),
        "byModel": total.models(),
        "byProvider": named("provider", providers, true),
        "byAgent": named("agentId", agents, false),
        "byChannel": named("channel", channels.collect(), false),
        "dailyLatency": total.wait_days(),
        "modelDaily": total.model_days(),
        "daily": daily,
    });
    if total.waits.count > 0 {
        aggregates["latency"] = total.waits.shown();
    }
    let mut answer = json!({
        "updatedAt": now_ms(),
        "startDate": days.first.to_string(),
        "endDate": days.last.to_string(),
        "sessions": sessions,
        "totals": total.sums.totals(),
        "aggregates": aggregates,
    });
    if dialect == Dialect::V4 {
        answer["timeZone"] = json!(days.zone.iana_name());
    }
    answer
}

fn channel(held: &Held) -> Option<String> {
    held.text("channel")
        .or_else(|| held.entry.get("origin")?.get("provider")?.as_str())
        .map(str::to_owned)
}

fn session_row(held: &Held, report: &Report, context: Option<&Value>) -> Value {
    let session = &held.session;
    let mut row = json!({
        "key": session.key,
        "sessionId": session.session_id,
        "updatedAt": session.updated_at_ms,
        "agentId": session.agent_id,
        "usage": report.shown(&session.session_id),
    });
    for member in [
        "label",
        "chatType",
        "origin",
        "modelOverride",
        "providerOverride",
        "modelProvider",
        "model",
    ] {
        if let Some(value) = held.entry.get(member) {
            row[member] = value.clone();
        }
    }
    if let Some(channel) = channel(held) {
        row["channel"] = json!(channel);
    }
    if let Some(context) = context {
        row["contextWeight"] = context.clone();
    }
    row
}

/// The key that a method without a shape is asked about.
fn named_key(
    call: &Call<'_>,
    missing: &str,
) -> Result<
    (
        clawgate_core::session::SessionKey,
        String,
        Map<String, Value>,
    ),
    ErrorShape,
> {
    let members = call.loose()?;
    let named = text(&members, "key")
        .map(str::trim)
        .unwrap_or_default()
        .to_owned();
    if named.is_empty() {
        return Err(ErrorShape::invalid(missing));
    }
    Ok((call.key(&members, "key")?, named, members))
}

pub(crate) fn timeseries(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let asked = named_key(call, "key is required for timeseries");
    later(asked, move |(key, named, _)| async move {
        let found = gateway
            .look(move |db| match conversation(db, key.as_str())? {
                Some(of) => Ok(Some((db.newest_used(&of, POINTS_MAX)?, of))),
                None => Ok(None),
            })
            .await?;
        let Some((entries, of)) = found else {
            return Err(ErrorShape::invalid(format!(
                "No transcript found for session: {named}"
            )));
        };
        let (mut tokens, mut cost) = (0, 0.0);
        let points: Vec<Value> = entries
            .iter()
            .filter_map(|entry| {
                let (used, paid) = entry.used.as_ref()?;
                let paid = paid.unwrap_or(0.0);
                tokens += used.tokens;
                cost += paid;
                Some(json!({
                    "timestamp": entry.at_ms,
                    "input": used.input,
                    "output": used.output,
                    "cacheRead": used.cache_read,
                    "cacheWrite": used.cache_write,
                    "totalTokens": used.tokens,
                    "cost": money(paid),
                    "cumulativeTokens": tokens,
                    "cumulativeCost": money(cost),
                }))
            })
            .collect();
        Ok(Reply::json(
            &json!({"sessionId": of.session_id, "points": points}),
        ))
    })
}

pub(crate) fn logs(call: &Call<'_>) -> Answer {
    let gateway = Arc::clone(call.gateway);
    let asked = named_key(call, "key is required for logs");
    later(asked, move |(key, _, members)| async move {
        let limit = number(&members, "limit").unwrap_or(LOGS).clamp(1, LOGS_MAX);
        let entries = gateway
            .look(move |db| match conversation(db, key.as_str())? {
                Some(of) => newest_messages(db, &of, of.messages, limit),
                None => Ok(Vec::new()),
            })
            .await?;
        let logs: Vec<Value> = entries.iter().map(log).collect();
        Ok(Reply::json(&json!({"logs": logs})))
    })
}

fn log(entry: &Entry) -> Value {
    let mut log = json!({
        "timestamp": entry.at_ms,
        "role": entry.role,
        "content": said(entry),
    });
    if let Some((used, paid)) = &entry.used {
        log["tokens"] = json!(used.tokens);
        log["cost"] = money(paid.unwrap_or(0.0));
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }

    #[test]
    fn days_are_those_of_the_callers_calendar() {
        // 2026-11-23T23:30Z
        let now = 1_795_476_600_000;
        let days = |value: Value| {
            let days = Days::asked(&asked(value), now);
            (days.first.to_string(), days.last.to_string(), days.count())
        };
        let day = |first: &str, last: &str, count| (first.to_owned(), last.to_owned(), count);
        assert_eq!(days(json!({})), day("2026-10-25", "2026-11-23", 31));
        assert_eq!(
            days(json!({"days": 7, "mode": "specific", "utcOffset": "UTC+2"})),
            day("2026-11-18", "2026-11-24", 8)
        );
        assert_eq!(
            days(json!({"days": "3"})),
            day("2026-11-21", "2026-11-23", 4)
        );
        assert_eq!(
            days(json!({"startDate": "2026-11-23", "endDate": "2026-11-23"})),
            day("2026-11-23", "2026-11-23", 2)
        );
        assert_eq!(
            days(json!({"startDate": "2026-11-23", "endDate": "2025-11-23"})).2,
            31,
            "a range that ends before it begins is none"
        );
    }

    #[test]
    fn an_offset_is_one_of_the_wires_form() {
        for good in ["UTC+0", "UTC-11", "UTC+5:30", "UTC+12:45"] {
            assert!(offset(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "UTC",
            "UTC5",
            "+5",
            "UTC+",
            "UTC+5:3:0",
            "UTC+123",
            "UTC+5:é",
        ] {
            assert!(offset(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_quantile_of_few_waits_is_the_longest() {
        let mut waits = Waits::default();
        for ms in [59, 300, 1_121] {
            waits.add(&WaitSlot {
                slot_ms: 0,
                transcript: 1,
                step_ms: ms / 10 * 10,
                answers: 1,
                sum_ms: ms,
                min_ms: ms,
                max_ms: ms,
            });
        }
        let shown = waits.shown();
        assert_eq!(
            (&shown["p95Ms"], &shown["minMs"]),
            (&json!(1121), &json!(59))
        );
    }
}
