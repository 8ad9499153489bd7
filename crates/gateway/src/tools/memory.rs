//! `memory_search` and `memory_get`: the notes of a workspace, `MEMORY.md` and what lies in
//! `memory/`.
//!
//! The files are the truth. What is searched is brought up to date from them at each search, by
//! their time and size, and everything is bounded: files, their bytes, passages.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clawgate_agent::{Output, Tool, ToolSpec, Working};
use clawgate_store::{MemoryFile, MemoryPassage};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Scene;
use crate::{Gateway, workspace::Workspace};

/// Files that are looked at.
const FILES_MAX: usize = 1_000;
/// Bytes of one of them.
const BYTES_MAX: usize = 1024 * 1024;
/// Lines of a passage.
const PASSAGE_LINES: usize = 20;
/// Results when nobody says how many.
const RESULTS: u64 = 6;
const RESULTS_MAX: u64 = 50;
/// Characters of one result.
const SHOWN_MAX: usize = 1_500;
/// Lines that are read when nobody says how many.
const LINES: u64 = 200;

#[derive(Clone)]
struct Memory {
    gateway: Arc<Gateway>,
    workspace: PathBuf,
}

struct Search(Memory, ToolSpec);
struct Get(Memory, ToolSpec);

/// The tools of a turn.
pub(super) fn tools(gateway: &Arc<Gateway>, scene: &Scene) -> Vec<Arc<dyn Tool>> {
    let memory = Memory {
        gateway: Arc::clone(gateway),
        workspace: scene.workspace.clone(),
    };
    let search = ToolSpec {
        name: "memory_search".to_owned(),
        description: "Searches your notes (MEMORY.md and memory/*.md of the workspace) for words \
                      and gives back the passages that fit best."
            .to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {
                "query": {"type": "string"},
                "maxResults": {"type": "number"},
            },
            "required": ["query"],
        }),
    };
    let get = ToolSpec {
        name: "memory_get".to_owned(),
        description: "Reads lines of one of your notes.".to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "As memory_search gives it."},
                "from": {"type": "number", "description": "First line, from 1."},
                "lines": {"type": "number"},
            },
            "required": ["path"],
        }),
    };
    vec![
        Arc::new(Search(memory.clone(), search)),
        Arc::new(Get(memory, get)),
    ]
}

/// Whether a path is one of a note.
fn is_note(path: &str) -> bool {
    let plain = |name: &str| {
        !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
    };
    matches!(path, "MEMORY.md" | "memory.md")
        || path
            .strip_prefix("memory/")
            .is_some_and(|name| plain(name) && name.ends_with(".md"))
}

/// The notes that are there.
fn notes(workspace: &Path) -> Vec<MemoryFile> {
    let mut paths = vec!["MEMORY.md".to_owned(), "memory.md".to_owned()];
    if let Ok(entries) = std::fs::read_dir(workspace.join("memory")) {
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .map(|name| format!("memory/{name}"))
            .filter(|path| is_note(path));
        let mut names: Vec<String> = names.take(FILES_MAX * 4).collect();
        // Those of the last days first, where names are dates.
        names.sort_by(|a, b| b.cmp(a));
        paths.extend(names);
    }
    paths
        .into_iter()
        .filter_map(|path| {
            use std::os::unix::fs::MetadataExt as _;
            let metadata = std::fs::symlink_metadata(workspace.join(&path)).ok()?;
            metadata.is_file().then(|| MemoryFile {
                path,
                mtime_ms: metadata
                    .mtime()
                    .saturating_mul(1_000)
                    .saturating_add(metadata.mtime_nsec() / 1_000_000),
                size: i64::try_from(metadata.len()).unwrap_or(i64::MAX),
            })
        })
        .take(FILES_MAX)
        .collect()
}

/// A text in passages, each of whole lines.
fn passages(text: &str) -> Vec<MemoryPassage> {
    let lines: Vec<&str> = text.lines().collect();
    let mut passages = Vec::new();
    let mut first = 0;
    for (index, line) in lines.iter().enumerate() {
        let begins = line.starts_with('#') && index > first;
        if begins || index - first >= PASSAGE_LINES {
            passages.push((first, index));
            first = index;
        }
    }
    passages.push((first, lines.len()));
    passages
        .into_iter()
        .map(|(from, to)| MemoryPassage {
            first_line: i64::try_from(from + 1).unwrap_or(i64::MAX),
            last_line: i64::try_from(to).unwrap_or(i64::MAX),
            text: lines[from..to].join("\n"),
        })
        .filter(|passage| !passage.text.trim().is_empty())
        .collect()
}

impl Memory {
    fn name(&self) -> String {
        self.workspace.display().to_string()
    }

    /// Brings what is searched up to date.
    async fn update(&self) -> Result<(), String> {
        let (name, workspace) = (self.name(), self.workspace.clone());
        let failed = |error: &dyn std::fmt::Display| format!("notes cannot be searched: {error}");
        let wanted = name.clone();
        let known = self.gateway.store.read(move |db| db.memory_files(&wanted));
        let known = known.await.map_err(|error| failed(&error))?;
        let looked = tokio::task::spawn_blocking(move || {
            let there = notes(&workspace);
            let gone: Vec<String> = known
                .iter()
                .filter(|file| !there.iter().any(|note| note.path == file.path))
                .map(|file| file.path.clone())
                .collect();
            let open = Workspace::open(&workspace).ok().flatten();
            let changed: Vec<(MemoryFile, Vec<MemoryPassage>)> = there
                .into_iter()
                .filter(|note| !known.contains(note))
                .filter_map(|note| {
                    // One that may not be read is known as empty until it changes.
                    let bytes = open.as_ref()?.read_below(&note.path, BYTES_MAX);
                    let bytes = bytes.ok().flatten().unwrap_or_default();
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    Some((note, passages(&text)))
                })
                .collect();
            (gone, changed)
        });
        let (gone, changed) = looked.await.map_err(|died| failed(&died))?;
        if gone.is_empty() && changed.is_empty() {
            return Ok(());
        }
        self.gateway
            .store
            .write("indexing notes", move |tx| {
                for path in &gone {
                    tx.forget_memory_file(&name, path)?;
                }
                for (file, passages) in &changed {
                    tx.index_memory_file(&name, file, passages)?;
                }
                Ok::<_, clawgate_store::StoreError>(())
            })
            .await
            .map_err(|error| failed(&error))
    }

    async fn search(&self, arguments: &Value) -> Result<Output, String> {
        let query = arguments["query"].as_str().map(str::trim);
        let query = query.filter(|query| !query.is_empty());
        let query = query.ok_or("\"query\" is missing")?.to_owned();
        let limit = arguments["maxResults"].as_u64().unwrap_or(RESULTS);
        let limit = i64::try_from(limit.clamp(1, RESULTS_MAX)).unwrap_or(1);
        self.update().await?;
        let name = self.name();
        let found = self
            .gateway
            .store
            .read(move |db| db.search_memory(&name, &query, limit))
            .await
            .map_err(|error| error.to_string())?;
        let results: Vec<Value> = found
            .iter()
            .map(|hit| {
                let snippet: String = hit.passage.text.chars().take(SHOWN_MAX).collect();
                json!({
                    "path": hit.path, "startLine": hit.passage.first_line,
                    "endLine": hit.passage.last_line, "score": hit.score, "snippet": snippet,
                })
            })
            .collect();
        let shown: Vec<String> = results
            .iter()
            .map(|hit| {
                format!(
                    "{}:{}-{}\n{}",
                    hit["path"].as_str().unwrap_or_default(),
                    hit["startLine"],
                    hit["endLine"],
                    hit["snippet"].as_str().unwrap_or_default()
                )
            })
            .collect();
        Ok(Output {
            text: if shown.is_empty() {
                "nothing in your notes has these words".to_owned()
            } else {
                shown.join("\n\n")
            },
            details: Some(json!({"results": results})),
            is_error: false,
        })
    }

    async fn get(&self, arguments: &Value) -> Result<Output, String> {
        let path = arguments["path"].as_str().unwrap_or_default().trim();
        let path = path.trim_start_matches("./").to_owned();
        if !is_note(&path) {
            return Err(format!(
                "\"{path}\" is no note; notes are MEMORY.md and memory/NAME.md"
            ));
        }
        let number = |key: &str| arguments[key].as_u64();
        let from = usize::try_from(number("from").unwrap_or(1).max(1)).unwrap_or(usize::MAX);
        let lines = usize::try_from(number("lines").unwrap_or(LINES)).unwrap_or(usize::MAX);
        let (workspace, wanted) = (self.workspace.clone(), path.clone());
        let read = tokio::task::spawn_blocking(move || {
            let open = Workspace::open(&workspace)
                .map_err(|error| error.to_string())?
                .ok_or("there is no workspace")?;
            open.read_below(&wanted, BYTES_MAX)
                .map_err(|error| error.to_string())
        });
        let bytes = read.await.map_err(|died| died.to_string())?;
        let bytes = bytes?.ok_or_else(|| format!("{path} is not there"))?;
        let text = String::from_utf8_lossy(&bytes);
        let part: Vec<&str> = text.lines().skip(from - 1).take(lines).collect();
        let part = part.join("\n");
        let shown: String = part.chars().take(50_000).collect();
        Ok(Output {
            details: Some(json!({"path": path, "from": from})),
            text: shown,
            is_error: false,
        })
    }
}

impl Tool for Search {
    fn spec(&self) -> &ToolSpec {
        &self.1
    }

    fn call<'a>(&'a self, arguments: &'a Value, _stop: &'a CancellationToken) -> Working<'a> {
        Box::pin(async move {
            self.0
                .search(arguments)
                .await
                .unwrap_or_else(Output::failed)
        })
    }
}

impl Tool for Get {
    fn spec(&self) -> &ToolSpec {
        &self.1
    }

    fn call<'a>(&'a self, arguments: &'a Value, _stop: &'a CancellationToken) -> Working<'a> {
        Box::pin(async move { self.0.get(arguments).await.unwrap_or_else(Output::failed) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_notes_are_notes() {
        for path in ["MEMORY.md", "memory.md", "memory/2026-11-28.md"] {
            assert!(is_note(path), "{path}");
        }
        for path in [
            "SOUL.md",
            "memory/../SOUL.md",
            "memory/a/b.md",
            "memory/.x.md",
            "memory/a.txt",
            "/etc/passwd",
            "memory/",
            "",
        ] {
            assert!(!is_note(path), "{path}");
        }
    }

    #[test]
    fn passages_are_whole_lines_and_begin_with_headings() {
        let text = "a\n# One\nb\n# Two\n".to_owned() + &"c\n".repeat(30);
        let found = passages(&text);
        let lines: Vec<(i64, i64)> = found
            .iter()
            .map(|passage| (passage.first_line, passage.last_line))
            .collect();
        assert_eq!(lines, [(1, 1), (2, 3), (4, 23), (24, 34)]);
        assert!(passages("").is_empty());
    }
}
