//! Transcripts: entries appended in order, with the totals kept beside them, so that a page, a
//! preview or a title costs the same at ten messages and at a hundred thousand.

use std::collections::HashMap;

use rusqlite::{OptionalExtension as _, Row, named_params};

use crate::{Read, StoreError, Tx, usage};

/// Characters of the beginnings that are kept for titles and previews.
const BEGINNING_MAX: usize = 240;
/// Newest matches of a search that are ranked.
const RANKED_MAX: i64 = 1_000;

/// One conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// Its number here.
    pub number: i64,
    /// Whose.
    pub agent_id: String,
    /// Its id.
    pub session_id: String,
    /// The key under which it was begun.
    pub session_key: String,
    /// Whether a session has it now.
    pub live: bool,
    /// Milliseconds.
    pub created_at_ms: i64,
    /// First line of the file it came from, a JSON object.
    pub header: Option<String>,
    /// The entry that the next one follows.
    pub leaf_id: Option<String>,
    /// Number of the last entry.
    pub lines: i64,
    /// Number of the last message.
    pub messages: i64,
    /// Number of the last entry that a compaction cut away.
    pub cut_lines: i64,
    /// Number of the last message that a compaction cut away.
    pub cut_messages: i64,
    /// Beginning of the first thing that a person said.
    pub first_text: Option<String>,
    /// Beginning of the last thing that anybody said.
    pub last_text: Option<String>,
    /// Time of the first entry, milliseconds.
    pub first_at_ms: Option<i64>,
    /// Time of the last entry, milliseconds.
    pub last_at_ms: Option<i64>,
}

/// What a message used, tokens and money.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Used {
    /// Tokens read.
    pub input: i64,
    /// Tokens written.
    pub output: i64,
    /// Tokens read from a cache.
    pub cache_read: i64,
    /// Tokens written to a cache.
    pub cache_write: i64,
    /// All of them.
    pub tokens: i64,
    /// What it cost, if it says.
    pub cost: Option<Cost>,
}

/// What a message cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// For what was read.
    pub input: f64,
    /// For what was written.
    pub output: f64,
    /// For what came from a cache.
    pub cache_read: f64,
    /// For what went into a cache.
    pub cache_write: f64,
    /// All of it.
    pub total: f64,
}

/// What a new entry follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Parent {
    /// The last one.
    #[default]
    Leaf,
    /// What it says itself.
    Given(Option<String>),
}

/// An entry to append.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewEntry {
    /// Its id, unique in its transcript.
    pub id: String,
    /// What it follows.
    pub parent: Parent,
    /// `message`, `compaction`, `model_change`, …
    pub kind: String,
    /// Who speaks, of a message.
    pub role: Option<String>,
    /// Milliseconds.
    pub at_ms: i64,
    /// The run that it is of.
    pub run_id: Option<String>,
    /// Under which it is appended once.
    pub idempotency_key: Option<String>,
    /// The message, or the members of another entry: JSON.
    pub body: String,
    /// Members of a message's entry besides the known ones, a JSON object.
    pub extra: Option<String>,
    /// What was said, without markup.
    pub text: Option<String>,
    /// Who answered.
    pub provider: Option<String>,
    /// With what.
    pub model: Option<String>,
    /// Names of the tools that it calls.
    pub tool_calls: Vec<String>,
    /// Whether it is a failure.
    pub is_error: bool,
    /// What it used.
    pub used: Option<Used>,
}

/// What became of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is the entry of this line, and the message of this number if it is one.
    New {
        /// Number of the entry.
        line: i64,
        /// Number of the message.
        message: Option<i64>,
    },
    /// An entry of its idempotency key is there, with this id.
    Before(String),
}

/// An entry as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Number among the entries.
    pub line: i64,
    /// Number among the messages, if it is one.
    pub message: Option<i64>,
    /// Its id.
    pub id: String,
    /// What it follows.
    pub parent_id: Option<String>,
    /// `message`, …
    pub kind: String,
    /// Who speaks.
    pub role: Option<String>,
    /// Milliseconds.
    pub at_ms: i64,
    /// See [`NewEntry::body`].
    pub body: String,
    /// See [`NewEntry::extra`].
    pub extra: Option<String>,
    /// What was said.
    pub text: Option<String>,
    /// What it used; the cost is the total alone.
    pub used: Option<(Used, Option<f64>)>,
}

/// What was put away under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Its name.
    pub name: String,
    /// Number of the transcript.
    pub transcript: i64,
    /// `reset`, `deleted` or `compacted`.
    pub reason: String,
    /// Milliseconds.
    pub at_ms: i64,
    /// First entry.
    pub first_line: i64,
    /// Last entry.
    pub last_line: i64,
}

/// A message that a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The session.
    pub session_key: String,
    /// Its conversation.
    pub session_id: String,
    /// Id of the entry.
    pub entry_id: String,
    /// Who speaks.
    pub role: String,
    /// Milliseconds.
    pub at_ms: i64,
    /// The place, cut.
    pub snippet: String,
    /// How well it fits; more is better.
    pub score: f64,
}

const COLUMNS: &str = "transcript, agent_id, session_id, session_key, live, created_at_ms, header,
    leaf_id, lines, messages, cut_lines, cut_messages, first_text, last_text, first_at_ms,
    last_at_ms";
const ENTRY_COLUMNS: &str = "line, message, entry_id, parent_id, kind, role, at_ms, body, extra,
    text, input, output, cache_read, cache_write, tokens, cost";

fn transcript(row: &Row<'_>) -> rusqlite::Result<Transcript> {
    Ok(Transcript {
        number: row.get(0)?,
        agent_id: row.get(1)?,
        session_id: row.get(2)?,
        session_key: row.get(3)?,
        live: row.get(4)?,
        created_at_ms: row.get(5)?,
        header: row.get(6)?,
        leaf_id: row.get(7)?,
        lines: row.get(8)?,
        messages: row.get(9)?,
        cut_lines: row.get(10)?,
        cut_messages: row.get(11)?,
        first_text: row.get(12)?,
        last_text: row.get(13)?,
        first_at_ms: row.get(14)?,
        last_at_ms: row.get(15)?,
    })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let tokens: Option<i64> = row.get(14)?;
    let used = match tokens {
        None => None,
        Some(tokens) => Some((
            Used {
                input: row.get(10)?,
                output: row.get(11)?,
                cache_read: row.get(12)?,
                cache_write: row.get(13)?,
                tokens,
                cost: None,
            },
            row.get(15)?,
        )),
    };
    Ok(Entry {
        line: row.get(0)?,
        message: row.get(1)?,
        id: row.get(2)?,
        parent_id: row.get(3)?,
        kind: row.get(4)?,
        role: row.get(5)?,
        at_ms: row.get(6)?,
        body: row.get(7)?,
        extra: row.get(8)?,
        text: row.get(9)?,
        used,
    })
}

/// At most so many characters of a text.
fn beginning(text: &str) -> String {
    text.trim().chars().take(BEGINNING_MAX).collect()
}

/// Words of a person as a query of the index: each must be there. Control characters part words
/// as in the index; a NUL would end the query within a quotation.
fn match_words(query: &str) -> String {
    let words: Vec<String> = query
        .split(|letter: char| letter.is_whitespace() || letter.is_control())
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .take(32)
        .map(|word| format!("\"{}\"", word.replace('"', "\"\"")))
        .collect();
    words.join(" ")
}

/// The words of a text, about as the index parts it.
fn tokens(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// How well a text fits that has all of the words: better with each time that one of them stands there,
/// less so with its length. (That of BM25, with a hundred words for the usual length and no word
/// rarer than another.)
fn fit(text: &str, wanted: &[String]) -> f64 {
    let text = text.to_lowercase();
    let (mut long, mut times) = (0_u32, vec![0_u32; wanted.len()]);
    for word in text
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        long += 1;
        for (times, wanted) in times.iter_mut().zip(wanted) {
            *times += u32::from(word == wanted);
        }
    }
    let room = 1.2 * (0.25 + 0.75 * f64::from(long) / 100.0);
    times
        .into_iter()
        // One that is not seen here stands there in another spelling: the index knows letters without
        // their accents as well.
        .map(|times| f64::from(times.max(1)))
        .map(|times| times * 2.2 / (times + room))
        .sum()
}

impl Read<'_> {
    /// The conversation that a session has now.
    ///
    /// # Errors
    /// The database's.
    pub fn live_transcript(
        &self,
        agent_id: &str,
        session_id: &str,
    ) -> Result<Option<Transcript>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM transcripts
                 WHERE agent_id = ?1 AND session_id = ?2 AND live = 1"
            ))
            .and_then(|mut s| s.query_row((agent_id, session_id), transcript).optional())
            .map_err(StoreError::doing("reading a transcript"))
    }

    /// A conversation of an id, put away or not, the newest first.
    ///
    /// # Errors
    /// The database's.
    pub fn transcript_of_id(
        &self,
        agent_id: &str,
        session_id: &str,
    ) -> Result<Option<Transcript>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM transcripts WHERE session_id = ?2 AND agent_id = ?1
                 ORDER BY live DESC, transcript DESC LIMIT 1"
            ))
            .and_then(|mut s| s.query_row((agent_id, session_id), transcript).optional())
            .map_err(StoreError::doing("reading a transcript"))
    }

    /// A conversation by its number.
    ///
    /// # Errors
    /// The database's.
    pub fn transcript(&self, number: i64) -> Result<Option<Transcript>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM transcripts WHERE transcript = ?1"
            ))
            .and_then(|mut s| s.query_row([number], transcript).optional())
            .map_err(StoreError::doing("reading a transcript"))
    }

    /// What stands for the messages before a number, if those were summed up: the number of the
    /// first message that is still told to a model, and the summary.
    ///
    /// # Errors
    /// The database's.
    pub fn summed_up(&self, of: &Transcript) -> Result<Option<(i64, String)>, StoreError> {
        self.db
            .prepare_cached("SELECT told_from, summary FROM transcripts WHERE transcript = ?1")
            .and_then(|mut s| {
                s.query_row([of.number], |row| {
                    Ok(row.get::<_, Option<i64>>(0)?.zip(row.get(1)?))
                })
            })
            .map_err(StoreError::doing("reading a summary"))
    }

    /// Hands over messages from the one of number `last` backwards, newest first, until `take`
    /// says `false`. Nothing that is not handed over is read.
    ///
    /// # Errors
    /// The database's.
    pub fn messages_back(
        &self,
        of: &Transcript,
        last: i64,
        mut take: impl FnMut(Entry) -> bool,
    ) -> Result<(), StoreError> {
        let doing = StoreError::doing("reading messages");
        let mut statement = self
            .db
            .prepare_cached(&format!(
                "SELECT {ENTRY_COLUMNS} FROM transcript_entries
                 WHERE transcript = ?1 AND message <= ?2 AND message > ?3 ORDER BY message DESC"
            ))
            .map_err(&doing)?;
        let mut rows = statement
            .query((of.number, last, of.cut_messages))
            .map_err(&doing)?;
        while let Some(row) = rows.next().map_err(&doing)? {
            if !take(entry(row).map_err(&doing)?) {
                break;
            }
        }
        Ok(())
    }

    /// Messages after the one of number `after`, oldest first, `limit` at most.
    ///
    /// # Errors
    /// The database's.
    pub fn messages_after(
        &self,
        of: &Transcript,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Entry>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {ENTRY_COLUMNS} FROM transcript_entries
                 WHERE transcript = ?1 AND message > ?2 ORDER BY message LIMIT ?3"
            ))
            .and_then(|mut s| {
                s.query_map((of.number, after.max(of.cut_messages), limit), entry)?
                    .collect()
            })
            .map_err(StoreError::doing("reading messages"))
    }

    /// Entries after the one of line `after` up to `last`, oldest first, `limit` at most.
    ///
    /// # Errors
    /// The database's.
    pub fn entries_after(
        &self,
        number: i64,
        after: i64,
        last: i64,
        limit: i64,
    ) -> Result<Vec<Entry>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {ENTRY_COLUMNS} FROM transcript_entries
                 WHERE transcript = ?1 AND line > ?2 AND line <= ?3 ORDER BY line LIMIT ?4"
            ))
            .and_then(|mut s| s.query_map((number, after, last, limit), entry)?.collect())
            .map_err(StoreError::doing("reading entries"))
    }

    /// The newest entries that used something, oldest first, `limit` at most.
    ///
    /// # Errors
    /// The database's.
    pub fn newest_used(&self, of: &Transcript, limit: i64) -> Result<Vec<Entry>, StoreError> {
        let mut entries: Vec<Entry> = self
            .db
            .prepare_cached(&format!(
                "SELECT {ENTRY_COLUMNS} FROM transcript_entries
                 WHERE transcript = ?1 AND tokens IS NOT NULL AND line > ?2
                 ORDER BY line DESC LIMIT ?3"
            ))
            .and_then(|mut s| {
                s.query_map((of.number, of.cut_lines, limit), entry)?
                    .collect()
            })
            .map_err(StoreError::doing("reading what was used"))?;
        entries.reverse();
        Ok(entries)
    }

    /// One entry by its id.
    ///
    /// # Errors
    /// The database's.
    pub fn entry(&self, of: &Transcript, id: &str) -> Result<Option<Entry>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {ENTRY_COLUMNS} FROM transcript_entries
                 WHERE transcript = ?1 AND entry_id = ?2 AND line > ?3"
            ))
            .and_then(|mut s| s.query_row((of.number, id, of.cut_lines), entry).optional())
            .map_err(StoreError::doing("reading an entry"))
    }

    /// What was put away under a name.
    ///
    /// # Errors
    /// The database's.
    pub fn archive(&self, name: &str) -> Result<Option<Archive>, StoreError> {
        self.db
            .prepare_cached(
                "SELECT name, transcript, reason, at_ms, first_line, last_line
                 FROM transcript_archives WHERE name = ?1",
            )
            .and_then(|mut s| s.query_row([name], archive).optional())
            .map_err(StoreError::doing("reading an archive"))
    }

    /// Messages of people and agents in which every word of `query` stands, best first. Of many
    /// matches the newest are ranked.
    ///
    /// How often a word stands in all messages does not count: the index would have to go through all
    /// of them to say it, half a million for a word that is in every other one of a million.
    ///
    /// # Errors
    /// The database's.
    pub fn search_messages(
        &self,
        query: &str,
        agent_id: Option<&str>,
        keys: &[String],
        limit: i64,
    ) -> Result<Vec<Hit>, StoreError> {
        let words = match_words(query);
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let doing = StoreError::doing("searching");
        let wanted = tokens(&words);
        let keys = serde_json::to_string(keys).expect("a list of texts always prints");
        let mut hits: Vec<(i64, Hit)> = self
            .db
            .prepare_cached(
                "SELECT s.session_key, t.session_id, e.entry_id, e.role, e.at_ms, e.seq, e.text
                 FROM (SELECT rowid AS seq FROM transcript_search
                       WHERE transcript_search MATCH ?1 ORDER BY rowid DESC LIMIT ?4) found
                 JOIN transcript_entries e ON e.seq = found.seq
                 JOIN transcripts t ON t.transcript = e.transcript AND t.live = 1
                     AND e.line > t.cut_lines
                 JOIN sessions s ON s.session_id = t.session_id AND s.agent_id = t.agent_id
                     AND s.is_run = 0
                 WHERE (?2 IS NULL OR t.agent_id = ?2)
                     AND (?3 = '[]' OR s.session_key IN (SELECT value FROM json_each(?3)))",
            )
            .and_then(|mut s| {
                s.query_map((&words, agent_id, keys, RANKED_MAX), |row| {
                    let text = row.get_ref(6)?.as_str_or_null()?.unwrap_or_default();
                    let hit = Hit {
                        session_key: row.get(0)?,
                        session_id: row.get(1)?,
                        entry_id: row.get(2)?,
                        role: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
                        at_ms: row.get(4)?,
                        snippet: String::new(),
                        score: fit(text, &wanted),
                    };
                    Ok((row.get(5)?, hit))
                })?
                .collect()
            })
            .map_err(&doing)?;
        hits.sort_by(|(seq, hit), (other_seq, other)| {
            other.score.total_cmp(&hit.score).then(other_seq.cmp(seq))
        });
        hits.truncate(usize::try_from(limit).unwrap_or_default());
        // The place is looked for in what is shown only: it takes longer than all the rest. One walk
        // over the matches from the oldest of those on is less than a search for each of them.
        let seqs: Vec<i64> = hits.iter().map(|(seq, _)| *seq).collect();
        let shown = serde_json::to_string(&seqs).expect("a list of numbers always prints");
        let mut places: HashMap<i64, String> = self
            .db
            .prepare_cached(
                "SELECT rowid, snippet(transcript_search, 0, '', '', '…', 24) FROM transcript_search
                 WHERE transcript_search MATCH ?1 AND rowid >= ?2
                     AND +rowid IN (SELECT value FROM json_each(?3))",
            )
            .and_then(|mut s| {
                let from = seqs.iter().min();
                s.query_map((&words, from, shown), |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .map_err(&doing)?;
        let placed = |(seq, hit): (i64, Hit)| Hit {
            snippet: places.remove(&seq).unwrap_or_default(),
            ..hit
        };
        Ok(hits.into_iter().map(placed).collect())
    }
}

impl Tx<'_> {
    /// Begins a conversation. There must be no live one of its id.
    ///
    /// # Errors
    /// The database's.
    pub fn begin_transcript(
        &self,
        agent_id: &str,
        session_id: &str,
        session_key: &str,
        header: Option<&str>,
        now_ms: i64,
    ) -> Result<Transcript, StoreError> {
        self.db
            .prepare_cached(&format!(
                "INSERT INTO transcripts (agent_id, session_id, session_key, live, created_at_ms,
                     header)
                 VALUES (?1, ?2, ?3, 1, ?4, ?5) RETURNING {COLUMNS}"
            ))
            .and_then(|mut s| {
                s.query_row(
                    (agent_id, session_id, session_key, now_ms, header),
                    transcript,
                )
            })
            .map_err(StoreError::doing("beginning a transcript"))
    }

    /// Appends an entry and adds it to the totals. `of` is brought up to date.
    ///
    /// # Errors
    /// The database's, also when its id is there already.
    pub fn append(&self, of: &mut Transcript, new: &NewEntry) -> Result<Appended, StoreError> {
        let doing = StoreError::doing("appending to a transcript");
        if let Some(key) = &new.idempotency_key {
            let before: Option<String> = self
                .db
                .prepare_cached(
                    "SELECT entry_id FROM transcript_entries
                     WHERE transcript = ?1 AND idempotency_key = ?2",
                )
                .and_then(|mut s| s.query_row((of.number, key), |row| row.get(0)).optional())
                .map_err(&doing)?;
            if let Some(id) = before {
                return Ok(Appended::Before(id));
            }
        }
        let line = of.lines + 1;
        let message = (new.kind == "message").then_some(of.messages + 1);
        let parent = match &new.parent {
            Parent::Leaf => of.leaf_id.clone(),
            Parent::Given(parent) => parent.clone(),
        };
        let used = new.used.as_ref();
        self.db
            .prepare_cached(
                "INSERT INTO transcript_entries (transcript, line, message, entry_id, parent_id,
                     kind, role, at_ms, run_id, idempotency_key, body, extra, text, input, output,
                     cache_read, cache_write, tokens, cost)
                 VALUES (:transcript, :line, :message, :id, :parent, :kind, :role, :at, :run, :key,
                     :body, :extra, :text, :input, :output, :cache_read, :cache_write, :tokens,
                     :cost)",
            )
            .and_then(|mut s| {
                s.execute(named_params! {
                    ":transcript": of.number, ":line": line, ":message": message, ":id": new.id,
                    ":parent": parent, ":kind": new.kind, ":role": new.role, ":at": new.at_ms,
                    ":run": new.run_id, ":key": new.idempotency_key, ":body": new.body,
                    ":extra": new.extra, ":text": new.text,
                    ":input": used.map(|used| used.input), ":output": used.map(|used| used.output),
                    ":cache_read": used.map(|used| used.cache_read),
                    ":cache_write": used.map(|used| used.cache_write),
                    ":tokens": used.map(|used| used.tokens),
                    ":cost": used.and_then(|used| used.cost).map(|cost| cost.total),
                })
            })
            .map_err(&doing)?;
        let spoken = matches!(new.role.as_deref(), Some("user" | "assistant"));
        if let Some(text) = new
            .text
            .as_deref()
            .filter(|text| spoken && !text.is_empty())
        {
            self.db
                .prepare_cached("INSERT INTO transcript_search (rowid, text) VALUES (?1, ?2)")
                .and_then(|mut s| s.execute((self.db.last_insert_rowid(), text)))
                .map_err(&doing)?;
        }
        self.count_usage(of.number, new)?;
        let text = new.text.as_deref().filter(|text| !text.trim().is_empty());
        let said = text.filter(|_| spoken).map(beginning);
        let is_user = new.role.as_deref() == Some("user");
        self.db
            .prepare_cached(
                "UPDATE transcripts SET lines = :line, messages = coalesce(:message, messages),
                     leaf_id = :id, first_at_ms = coalesce(first_at_ms, :at),
                     last_at_ms = max(coalesce(last_at_ms, :at), :at),
                     last_user_at_ms = CASE WHEN :is_user THEN :at ELSE last_user_at_ms END,
                     first_text = CASE WHEN first_text IS NULL AND :is_user THEN :said
                         ELSE first_text END,
                     last_text = coalesce(:said, last_text)
                 WHERE transcript = :transcript",
            )
            .and_then(|mut s| {
                s.execute(named_params! {
                    ":transcript": of.number, ":line": line, ":message": message, ":id": new.id,
                    ":at": new.at_ms, ":is_user": is_user, ":said": said,
                })
            })
            .map_err(&doing)?;
        of.lines = line;
        of.messages = message.unwrap_or(of.messages);
        of.leaf_id = Some(new.id.clone());
        Ok(Appended::New { line, message })
    }

    fn count_usage(&self, number: i64, new: &NewEntry) -> Result<(), StoreError> {
        let last_user_at_ms: Option<i64> = if new.role.as_deref() == Some("assistant") {
            self.db
                .prepare_cached("SELECT last_user_at_ms FROM transcripts WHERE transcript = ?1")
                .and_then(|mut s| s.query_row([number], |row| row.get(0)))
                .map_err(StoreError::doing("reading a transcript"))?
        } else {
            None
        };
        usage::count(self.db, number, new, last_user_at_ms)
    }

    /// Puts a conversation away under a name; no session has it afterwards.
    ///
    /// # Errors
    /// The database's.
    pub fn put_transcript_away(
        &self,
        of: &Transcript,
        archive: Option<(&str, &str)>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let doing = StoreError::doing("putting a transcript away");
        self.db
            .prepare_cached("UPDATE transcripts SET live = 0 WHERE transcript = ?1")
            .and_then(|mut s| s.execute([of.number]))
            .map_err(&doing)?;
        match archive {
            None => Ok(()),
            Some((name, reason)) => {
                self.keep_archive(of.number, name, reason, of.cut_lines + 1, of.lines, now_ms)
            }
        }
    }

    /// Has a summary stand for the messages before a number. They stay where they are, for people.
    ///
    /// # Errors
    /// The database's.
    pub fn sum_up(&self, of: &Transcript, told_from: i64, summary: &str) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE transcripts SET told_from = ?2, summary = ?3 WHERE transcript = ?1",
            )
            .and_then(|mut s| s.execute((of.number, told_from, summary)))
            .map(drop)
            .map_err(StoreError::doing("keeping a summary"))
    }

    /// Cuts a conversation to its last entries and puts the others away under a name.
    ///
    /// # Errors
    /// The database's.
    pub fn compact_transcript(
        &self,
        of: &Transcript,
        keep_lines: i64,
        name: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let doing = StoreError::doing("compacting a transcript");
        let cut = (of.lines - keep_lines).max(of.cut_lines);
        self.keep_archive(of.number, name, "compacted", of.cut_lines + 1, cut, now_ms)?;
        // The last message that was cut is the one before the first that stays.
        self.db
            .prepare_cached(
                "UPDATE transcripts SET cut_lines = ?2, cut_messages = coalesce(
                     (SELECT message FROM transcript_entries
                      WHERE transcript = ?1 AND line > ?2 AND message IS NOT NULL
                      ORDER BY line LIMIT 1) - 1, messages)
                 WHERE transcript = ?1",
            )
            .and_then(|mut s| s.execute((of.number, cut)))
            .map(drop)
            .map_err(&doing)
    }

    fn keep_archive(
        &self,
        number: i64,
        name: &str,
        reason: &str,
        first_line: i64,
        last_line: i64,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO transcript_archives (name, transcript, reason, at_ms, first_line,
                     last_line)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .and_then(|mut s| s.execute((name, number, reason, now_ms, first_line, last_line)))
            .map(drop)
            .map_err(StoreError::doing("writing an archive"))
    }
}

impl Read<'_> {
    /// What was put away before a time, oldest first, `limit` at most.
    ///
    /// # Errors
    /// The database's.
    pub fn archives_before(&self, before_ms: i64, limit: i64) -> Result<Vec<Archive>, StoreError> {
        self.db
            .prepare_cached(
                "SELECT name, transcript, reason, at_ms, first_line, last_line
                 FROM transcript_archives WHERE at_ms < ?1 ORDER BY at_ms LIMIT ?2",
            )
            .and_then(|mut s| s.query_map((before_ms, limit), archive)?.collect())
            .map_err(StoreError::doing("reading archives"))
    }
}

impl Tx<'_> {
    /// Erases what was put away under a name. What it used stays counted.
    ///
    /// # Errors
    /// The database's.
    pub fn erase_archive(&self, archive: &Archive) -> Result<(), StoreError> {
        let doing = StoreError::doing("erasing an archive");
        let lines = (archive.transcript, archive.first_line, archive.last_line);
        for sql in [
            // The index forgets a text only when it is told which.
            "INSERT INTO transcript_search (transcript_search, rowid, text)
                 SELECT 'delete', seq, text FROM transcript_entries
                 WHERE transcript = ?1 AND line BETWEEN ?2 AND ?3 AND text <> ''
                     AND role IN ('user', 'assistant')",
            "DELETE FROM transcript_entries WHERE transcript = ?1 AND line BETWEEN ?2 AND ?3",
        ] {
            self.db
                .prepare_cached(sql)
                .and_then(|mut s| s.execute(lines))
                .map_err(&doing)?;
        }
        self.db
            .prepare_cached(
                "UPDATE transcripts SET header = NULL, first_text = NULL, last_text = NULL
                 WHERE transcript = ?1 AND live = 0",
            )
            .and_then(|mut s| s.execute([archive.transcript]))
            .map_err(&doing)?;
        self.db
            .prepare_cached("DELETE FROM transcript_archives WHERE name = ?1")
            .and_then(|mut s| s.execute([&archive.name]))
            .map(drop)
            .map_err(&doing)
    }
}

fn archive(row: &Row<'_>) -> rusqlite::Result<Archive> {
    Ok(Archive {
        name: row.get(0)?,
        transcript: row.get(1)?,
        reason: row.get(2)?,
        at_ms: row.get(3)?,
        first_line: row.get(4)?,
        last_line: row.get(5)?,
    })
}
