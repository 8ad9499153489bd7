//! Notes of workspaces, to be searched: passages of files with their lines. What is kept here is
//! made from the files and can be made again.

use rusqlite::params;

use crate::{Read, StoreError, Tx};

/// A file as it was last looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryFile {
    /// Below the workspace.
    pub path: String,
    /// When it was changed, milliseconds since the epoch.
    pub mtime_ms: i64,
    /// Its bytes.
    pub size: i64,
}

/// A passage of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPassage {
    /// Its first line, from 1.
    pub first_line: i64,
    /// Its last line.
    pub last_line: i64,
    /// What it says.
    pub text: String,
}

/// A passage that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryHit {
    /// Of which file.
    pub path: String,
    /// The passage.
    pub passage: MemoryPassage,
    /// How well it fits; more is better.
    pub score: f64,
}

impl Read<'_> {
    /// The files of a workspace that are known.
    ///
    /// # Errors
    /// The database's.
    pub fn memory_files(&self, workspace: &str) -> Result<Vec<MemoryFile>, StoreError> {
        self.db
            .prepare_cached("SELECT path, mtime_ms, size FROM memory_files WHERE workspace = ?1")
            .and_then(|mut statement| {
                statement
                    .query_map([workspace], |row| {
                        Ok(MemoryFile {
                            path: row.get(0)?,
                            mtime_ms: row.get(1)?,
                            size: row.get(2)?,
                        })
                    })?
                    .collect()
            })
            .map_err(StoreError::doing("listing notes"))
    }

    /// Passages of a workspace in which some word of `query` stands, best first.
    ///
    /// # Errors
    /// The database's.
    pub fn search_memory(
        &self,
        workspace: &str,
        query: &str,
        limit: i64,
    ) -> Result<Vec<MemoryHit>, StoreError> {
        let words = some_word(query);
        if words.is_empty() {
            return Ok(Vec::new());
        }
        self.db
            .prepare_cached(
                "SELECT path, first_line, last_line, text, -bm25(memory_search)
                 FROM memory_search WHERE memory_search MATCH ?1 AND workspace = ?2
                 ORDER BY bm25(memory_search), path, first_line LIMIT ?3",
            )
            .and_then(|mut statement| {
                statement
                    .query_map(params![words, workspace, limit], |row| {
                        Ok(MemoryHit {
                            path: row.get(0)?,
                            passage: MemoryPassage {
                                first_line: row.get(1)?,
                                last_line: row.get(2)?,
                                text: row.get(3)?,
                            },
                            score: row.get(4)?,
                        })
                    })?
                    .collect()
            })
            .map_err(StoreError::doing("searching notes"))
    }
}

impl Tx<'_> {
    /// Takes a file as it is now in the place of what it was.
    ///
    /// # Errors
    /// The database's.
    pub fn index_memory_file(
        &self,
        workspace: &str,
        file: &MemoryFile,
        passages: &[MemoryPassage],
    ) -> Result<(), StoreError> {
        self.forget_memory_file(workspace, &file.path)?;
        let index = || {
            self.db
                .prepare_cached(
                    "INSERT INTO memory_files (workspace, path, mtime_ms, size)
                     VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![workspace, file.path, file.mtime_ms, file.size])?;
            let mut insert = self.db.prepare_cached(
                "INSERT INTO memory_search (text, workspace, path, first_line, last_line)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for passage in passages {
                insert.execute(params![
                    passage.text,
                    workspace,
                    file.path,
                    passage.first_line,
                    passage.last_line
                ])?;
            }
            Ok(())
        };
        index().map_err(StoreError::doing("indexing a note"))
    }

    /// Forgets a file that is gone.
    ///
    /// # Errors
    /// The database's.
    pub fn forget_memory_file(&self, workspace: &str, path: &str) -> Result<(), StoreError> {
        let forget = || {
            for statement in [
                "DELETE FROM memory_search WHERE workspace = ?1 AND path = ?2",
                "DELETE FROM memory_files WHERE workspace = ?1 AND path = ?2",
            ] {
                self.db
                    .prepare_cached(statement)?
                    .execute(params![workspace, path])?;
            }
            Ok(())
        };
        forget().map_err(StoreError::doing("forgetting a note"))
    }
}

/// A query for any of the words of a text, each as itself; those that begin so count too.
fn some_word(query: &str) -> String {
    let words: Vec<String> = query
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(32)
        .map(|word| format!("\"{word}\"*"))
        .collect();
    words.join(" OR ")
}
