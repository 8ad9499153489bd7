//! What was used: sums of quarters of an hour, kept with each append, so that a report costs what
//! its range costs and not what was ever said.

use rusqlite::{Connection, named_params};

use crate::{Read, StoreError, transcript::NewEntry};

/// Length of a slot, milliseconds: days of every time zone begin with one.
pub const SLOT_MS: i64 = 900_000;
/// An answer that came later after what a person said was none to it.
const WAIT_MAX_MS: i64 = 12 * 3_600_000;

/// Sums of one conversation with one model in one slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsageSlot {
    /// Its beginning, milliseconds.
    pub slot_ms: i64,
    /// Number of the transcript.
    pub transcript: i64,
    /// Who answered; empty for what people and tools said.
    pub provider: String,
    /// With what.
    pub model: String,
    /// Messages of people.
    pub users: i64,
    /// Messages of the agent.
    pub assistants: i64,
    /// Calls of tools.
    pub tool_calls: i64,
    /// Results of tools.
    pub tool_results: i64,
    /// Failures.
    pub errors: i64,
    /// Messages that say what they used.
    pub uses: i64,
    /// Tokens.
    pub input: i64,
    /// Tokens.
    pub output: i64,
    /// Tokens.
    pub cache_read: i64,
    /// Tokens.
    pub cache_write: i64,
    /// All tokens.
    pub tokens: i64,
    /// Money, all of it.
    pub cost: f64,
    /// Money for input.
    pub input_cost: f64,
    /// Money for output.
    pub output_cost: f64,
    /// Money for reads of a cache.
    pub cache_read_cost: f64,
    /// Money for writes to a cache.
    pub cache_write_cost: f64,
    /// Uses that do not say what they cost.
    pub unpriced: i64,
    /// First entry, milliseconds.
    pub first_at_ms: i64,
    /// Last entry, milliseconds.
    pub last_at_ms: i64,
}

/// Calls of one tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolSlot {
    /// Number of the transcript.
    pub transcript: i64,
    /// Which.
    pub tool: String,
    /// How many.
    pub calls: i64,
}

/// How long answers took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitSlot {
    /// Its beginning, milliseconds.
    pub slot_ms: i64,
    /// Number of the transcript.
    pub transcript: i64,
    /// They took about this long, milliseconds.
    pub step_ms: i64,
    /// How many.
    pub answers: i64,
    /// All of them together.
    pub sum_ms: i64,
    /// The shortest.
    pub min_ms: i64,
    /// The longest.
    pub max_ms: i64,
}

/// Which usage.
#[derive(Clone, Debug, Default)]
pub struct UsageRange {
    /// From here on, milliseconds.
    pub from_ms: i64,
    /// Before this, milliseconds.
    pub until_ms: i64,
    /// Of one conversation.
    pub transcript: Option<i64>,
}

/// Two digits of a number of milliseconds.
fn step(ms: i64) -> i64 {
    let mut unit = 1;
    while ms / unit >= 100 {
        unit *= 10;
    }
    ms / unit * unit
}

/// Adds an entry to the sums of its slot.
pub(crate) fn count(
    db: &Connection,
    transcript: i64,
    new: &NewEntry,
    last_user_at_ms: Option<i64>,
) -> Result<(), StoreError> {
    let doing = StoreError::doing("counting usage");
    let role = new.role.as_deref();
    if new.kind != "message" || !matches!(role, Some("user" | "assistant" | "toolResult")) {
        return Ok(());
    }
    let slot_ms = new.at_ms.div_euclid(SLOT_MS) * SLOT_MS;
    let used = new.used.clone().unwrap_or_default();
    let cost = used.cost.unwrap_or_default();
    let calls = i64::try_from(new.tool_calls.len()).unwrap_or(i64::MAX);
    db.prepare_cached(
        "INSERT INTO usage_slots (slot_ms, transcript, provider, model, users, assistants,
             tool_calls, tool_results, errors, uses, input, output, cache_read, cache_write, tokens,
             cost, input_cost, output_cost, cache_read_cost, cache_write_cost, unpriced,
             first_at_ms, last_at_ms)
         VALUES (:slot, :transcript, :provider, :model, :user, :assistant, :calls, :result, :error,
             :uses, :input, :output, :cache_read, :cache_write, :tokens, :cost, :input_cost,
             :output_cost, :cache_read_cost, :cache_write_cost, :unpriced, :at, :at)
         ON CONFLICT (slot_ms, transcript, provider, model) DO UPDATE SET
             users = users + excluded.users, assistants = assistants + excluded.assistants,
             tool_calls = tool_calls + excluded.tool_calls,
             tool_results = tool_results + excluded.tool_results,
             errors = errors + excluded.errors, uses = uses + excluded.uses,
             input = input + excluded.input, output = output + excluded.output,
             cache_read = cache_read + excluded.cache_read,
             cache_write = cache_write + excluded.cache_write,
             tokens = tokens + excluded.tokens, cost = cost + excluded.cost,
             input_cost = input_cost + excluded.input_cost,
             output_cost = output_cost + excluded.output_cost,
             cache_read_cost = cache_read_cost + excluded.cache_read_cost,
             cache_write_cost = cache_write_cost + excluded.cache_write_cost,
             unpriced = unpriced + excluded.unpriced,
             first_at_ms = min(first_at_ms, excluded.first_at_ms),
             last_at_ms = max(last_at_ms, excluded.last_at_ms)",
    )
    .and_then(|mut s| {
        s.execute(named_params! {
            ":slot": slot_ms, ":transcript": transcript,
            ":provider": new.provider.as_deref().unwrap_or_default(),
            ":model": new.model.as_deref().unwrap_or_default(),
            ":user": role == Some("user"), ":assistant": role == Some("assistant"),
            ":calls": calls, ":result": role == Some("toolResult"), ":error": new.is_error,
            ":uses": new.used.is_some(), ":input": used.input, ":output": used.output,
            ":cache_read": used.cache_read, ":cache_write": used.cache_write,
            ":tokens": used.tokens, ":cost": cost.total, ":input_cost": cost.input,
            ":output_cost": cost.output, ":cache_read_cost": cost.cache_read,
            ":cache_write_cost": cost.cache_write,
            ":unpriced": new.used.is_some() && used.cost.is_none(), ":at": new.at_ms,
        })
    })
    .map_err(&doing)?;
    for tool in &new.tool_calls {
        db.prepare_cached(
            "INSERT INTO usage_tools (slot_ms, transcript, tool, calls) VALUES (?1, ?2, ?3, 1)
             ON CONFLICT (slot_ms, transcript, tool) DO UPDATE SET calls = calls + 1",
        )
        .and_then(|mut s| s.execute((slot_ms, transcript, tool)))
        .map_err(&doing)?;
    }
    let wait = last_user_at_ms
        .filter(|_| role == Some("assistant"))
        .map(|asked| (new.at_ms - asked).max(0))
        .filter(|wait| *wait <= WAIT_MAX_MS);
    if let Some(wait) = wait {
        db.prepare_cached(
            "INSERT INTO usage_waits (slot_ms, transcript, step_ms, answers, sum_ms, min_ms, max_ms)
             VALUES (?1, ?2, ?3, 1, ?4, ?4, ?4)
             ON CONFLICT (slot_ms, transcript, step_ms) DO UPDATE SET answers = answers + 1,
                 sum_ms = sum_ms + excluded.sum_ms, min_ms = min(min_ms, excluded.min_ms),
                 max_ms = max(max_ms, excluded.max_ms)",
        )
        .and_then(|mut s| s.execute((slot_ms, transcript, step(wait), wait)))
        .map_err(&doing)?;
    }
    Ok(())
}

impl Read<'_> {
    /// Sums in a range, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub fn usage(&self, range: &UsageRange) -> Result<Vec<UsageSlot>, StoreError> {
        let columns = "slot_ms, transcript, provider, model, users, assistants, tool_calls,
            tool_results, errors, uses, input, output, cache_read, cache_write, tokens, cost,
            input_cost, output_cost, cache_read_cost, cache_write_cost, unpriced, first_at_ms,
            last_at_ms";
        self.ranged(columns, "usage_slots", range, |row| {
            Ok(UsageSlot {
                slot_ms: row.get(0)?,
                transcript: row.get(1)?,
                provider: row.get(2)?,
                model: row.get(3)?,
                users: row.get(4)?,
                assistants: row.get(5)?,
                tool_calls: row.get(6)?,
                tool_results: row.get(7)?,
                errors: row.get(8)?,
                uses: row.get(9)?,
                input: row.get(10)?,
                output: row.get(11)?,
                cache_read: row.get(12)?,
                cache_write: row.get(13)?,
                tokens: row.get(14)?,
                cost: row.get(15)?,
                input_cost: row.get(16)?,
                output_cost: row.get(17)?,
                cache_read_cost: row.get(18)?,
                cache_write_cost: row.get(19)?,
                unpriced: row.get(20)?,
                first_at_ms: row.get(21)?,
                last_at_ms: row.get(22)?,
            })
        })
    }

    /// Calls of tools in a range.
    ///
    /// # Errors
    /// The database's.
    pub fn tool_usage(&self, range: &UsageRange) -> Result<Vec<ToolSlot>, StoreError> {
        self.ranged("transcript, tool, calls", "usage_tools", range, |row| {
            Ok(ToolSlot {
                transcript: row.get(0)?,
                tool: row.get(1)?,
                calls: row.get(2)?,
            })
        })
    }

    /// How long answers took in a range.
    ///
    /// # Errors
    /// The database's.
    pub fn waits(&self, range: &UsageRange) -> Result<Vec<WaitSlot>, StoreError> {
        let columns = "slot_ms, transcript, step_ms, answers, sum_ms, min_ms, max_ms";
        self.ranged(columns, "usage_waits", range, |row| {
            Ok(WaitSlot {
                slot_ms: row.get(0)?,
                transcript: row.get(1)?,
                step_ms: row.get(2)?,
                answers: row.get(3)?,
                sum_ms: row.get(4)?,
                min_ms: row.get(5)?,
                max_ms: row.get(6)?,
            })
        })
    }

    fn ranged<T>(
        &self,
        columns: &str,
        table: &str,
        range: &UsageRange,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let of = if range.transcript.is_some() {
            "AND transcript = ?3"
        } else {
            "AND ?3 IS NULL"
        };
        self.db
            .prepare_cached(&format!(
                "SELECT {columns} FROM {table} WHERE slot_ms >= ?1 AND slot_ms < ?2 {of}
                 ORDER BY slot_ms"
            ))
            .and_then(|mut s| {
                s.query_map((range.from_ms, range.until_ms, range.transcript), read)?
                    .collect()
            })
            .map_err(StoreError::doing("reading usage"))
    }
}
