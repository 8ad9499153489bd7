//! What a server offers, as much of it as a model is told.

use std::collections::HashSet;

use rmcp::{Peer, RoleClient, model::PaginatedRequestParams};
use serde_json::Value;

use super::{McpServer, Offered, without_queries};
use crate::model::ToolSpec;

/// Tools of one server.
const TOOLS_MAX: usize = 128;
/// Pages of its list that are asked for.
const PAGES_MAX: usize = 32;
/// Bytes of what is said of a tool.
const DESCRIPTION_MAX: usize = 2_048;
/// Bytes of the schema of its arguments. A tool with a longer one is left out: half a schema is none.
const SCHEMA_MAX: usize = 32 * 1024;
/// Characters that a model may call.
const NAME_MAX: usize = 64;

/// The tools of a server, under the names that a turn knows them by.
pub(super) async fn of(
    config: &McpServer,
    peer: &Peer<RoleClient>,
) -> Result<Vec<Offered>, String> {
    let mut offered: Vec<Offered> = Vec::new();
    let (mut owns, mut names) = (HashSet::new(), HashSet::new());
    let mut cursor = None;
    for _ in 0..PAGES_MAX {
        let params =
            cursor.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
        let page = peer.list_tools(params).await;
        let page = page.map_err(|error| {
            format!(
                "it does not list its tools: {}",
                cut(&without_queries(&error.to_string()), 300)
            )
        })?;
        for tool in page.tools {
            if offered.len() == TOOLS_MAX {
                tracing::warn!(server = %config.name, kept = TOOLS_MAX, "a server offers too many tools");
                return Ok(offered);
            }
            let parameters = Value::Object((*tool.input_schema).clone());
            if tool.name.len() > 1_024 || parameters.to_string().len() > SCHEMA_MAX {
                tracing::warn!(server = %config.name, tool = cut(&tool.name, NAME_MAX), "a tool is too large and left out");
                continue;
            }
            if !owns.insert(tool.name.to_string()) {
                continue;
            }
            let name = free(&name(&config.label, &tool.name), &mut names);
            let description = tool.description.as_deref().unwrap_or_default();
            offered.push(Offered {
                own: tool.name.to_string(),
                spec: ToolSpec {
                    name,
                    description: cut(description, DESCRIPTION_MAX).to_owned(),
                    parameters,
                },
                peer: peer.clone(),
            });
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(offered)
}

fn name(label: &str, own: &str) -> String {
    let plain = own.chars().map(|letter| match letter {
        'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-' => letter,
        _ => '_',
    });
    let whole: String = format!("mcp__{label}__").chars().chain(plain).collect();
    cut(&whole, NAME_MAX).to_owned()
}

/// A name that nobody has yet. They are compared as the policy does, without regard to case.
fn free(name: &str, taken: &mut HashSet<String>) -> String {
    let mut tried = name.to_owned();
    let mut number = 2;
    while !taken.insert(tried.to_ascii_lowercase()) {
        let suffix = format!("_{number}");
        tried = format!("{}{suffix}", cut(name, NAME_MAX - suffix.len()));
        number += 1;
    }
    tried
}

/// As much of a text as fits.
pub(super) fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_become_plain_short_and_different() {
        let mut taken = HashSet::new();
        let mut named = |own: &str| free(&name("echo", own), &mut taken);
        assert_eq!(named("say"), "mcp__echo__say");
        assert_eq!(named("SAY"), "mcp__echo__SAY_2");
        assert_eq!(named("a b\n\u{202e}é"), "mcp__echo__a_b___");
        let long = named(&"x".repeat(1_000));
        let other = named(&"x".repeat(1_001));
        assert_eq!((long.len(), other.len()), (NAME_MAX, NAME_MAX));
        assert_ne!(long, other);
    }
}
