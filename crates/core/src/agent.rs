//! Agents: their ids, the sessions that belong to them, and who their `IDENTITY.md` says they are.

use clawgate_protocol::agent::Identity;

/// The agent that is always there.
pub const MAIN: &str = "main";

/// Characters of an id at most.
const ID_MAX: usize = 64;

/// The id that a name stands for: lower case, and what an id cannot hold becomes a dash. Nothing
/// left of it is [`MAIN`].
pub fn id(name: &str) -> String {
    let name = name.trim().to_lowercase();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    // One that is an id already stays as it is.
    if !name.is_empty()
        && name.len() <= ID_MAX
        && !name.starts_with(['-', '_'])
        && name.chars().all(fits)
    {
        return name;
    }
    let mut id = String::new();
    let mut within = true;
    for c in name.chars() {
        if fits(c) {
            id.push(c);
        } else if within {
            id.push('-');
        }
        within = fits(c);
    }
    let mut id = id.trim_matches('-').to_owned();
    id.truncate(ID_MAX);
    let id = id.trim_end_matches('-');
    if id.is_empty() {
        MAIN.to_owned()
    } else {
        id.to_owned()
    }
}

/// The agent that a session belongs to, as its key says: `agent:<id>:<rest>`.
pub fn of_session_key(key: &str) -> Option<String> {
    let mut parts = key.trim().split(':').filter(|part| !part.is_empty());
    let is_agents = parts
        .next()
        .is_some_and(|word| word.eq_ignore_ascii_case("agent"));
    let agent = parts.next()?.trim();
    parts.next()?;
    (is_agents && !agent.is_empty()).then(|| id(agent))
}

/// Characters of a shown name, avatar and emoji at most.
const NAME_MAX: usize = 50;
const AVATAR_MAX: usize = 200;
const EMOJI_MAX: usize = 16;

/// Who an agent is, as it is shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// A letter, an emoji, a URL, a data URI or a path in the workspace.
    pub avatar: String,
    /// Its emoji.
    pub emoji: Option<String>,
}

/// What is shown of an agent: the interface's own settings first, then the configuration of the
/// agent, then its file.
pub fn shown(interface: &Identity, configured: &Identity, file: &Identity) -> Shown {
    let name = [interface, configured, file]
        .iter()
        .find_map(|identity| text(identity.name.as_deref(), NAME_MAX))
        .unwrap_or_else(|| "Assistant".to_owned());
    let avatar = [
        &interface.avatar,
        &configured.avatar,
        &configured.emoji,
        &file.avatar,
        &file.emoji,
    ]
    .iter()
    .find_map(|value| text(value.as_deref(), AVATAR_MAX).filter(|value| is_avatar(value)))
    .unwrap_or_else(|| "A".to_owned());
    let emoji = [
        &configured.emoji,
        &file.emoji,
        &configured.avatar,
        &file.avatar,
    ]
    .iter()
    .find_map(|value| text(value.as_deref(), usize::MAX).filter(|value| is_emoji(value)));
    Shown {
        name,
        avatar,
        emoji,
    }
}

fn text(value: Option<&str>, max: usize) -> Option<String> {
    let value = value?.trim();
    (!value.is_empty()).then(|| value.chars().take(max).collect())
}

/// Whether it is an address that a browser loads.
pub fn is_avatar_url(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    ["http://", "https://", "data:image/"]
        .iter()
        .any(|start| lower.starts_with(start))
}

/// Whether it names a file.
pub fn is_avatar_path(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    value.contains(['/', '\\'])
        || [".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".ico"]
            .iter()
            .any(|end| lower.ends_with(end))
}

fn is_avatar(value: &str) -> bool {
    is_avatar_url(value)
        || is_avatar_path(value)
        || (!value.contains(char::is_whitespace) && value.encode_utf16().count() <= 4)
}

fn is_emoji(value: &str) -> bool {
    value.encode_utf16().count() <= EMOJI_MAX
        && !value.is_ascii()
        && !is_avatar_url(value)
        && !is_avatar_path(value)
}

/// Who an `IDENTITY.md` says that an agent is: lines such as `- **Name:** Ann`. The last one of a
/// kind holds; what a template left to be filled in does not count.
pub fn read_identity(text: &str) -> Identity {
    let mut identity = Identity::default();
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix('-').unwrap_or(line).trim();
        let Some((label, value)) = line.split_once(':') else {
            continue;
        };
        let label = label.replace(['*', '_'], "").trim().to_lowercase();
        let value = value.trim().trim_matches(['*', '_']).trim();
        if value.is_empty() || is_left_open(value) {
            continue;
        }
        let place = match label.as_str() {
            "name" => &mut identity.name,
            "theme" => &mut identity.theme,
            "emoji" => &mut identity.emoji,
            "avatar" => &mut identity.avatar,
            _ => continue,
        };
        *place = Some(value.to_owned());
    }
    identity
}

/// A value in brackets is what a template says should stand there.
fn is_left_open(value: &str) -> bool {
    let value = value.trim_matches(['*', '_', ' ']);
    value.starts_with('(') && value.ends_with(')')
}

/// A value as one line of an `IDENTITY.md`: nothing in it begins another.
pub fn identity_line(label: &str, value: &str) -> String {
    let value: Vec<&str> = value.split_whitespace().collect();
    format!("- {label}: {}\n", value.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_of_any_name() {
        for (name, want) in [
            ("Cat Two", "cat-two"),
            ("  main ", "main"),
            ("", "main"),
            ("../../etc", "etc"),
            ("a/b\\c\0d", "a-b-c-d"),
            ("Ünïcode", "n-code"),
            ("猫", "main"),
            ("under_score-1", "under_score-1"),
            ("a--b-", "a--b-"),
        ] {
            assert_eq!(id(name), want, "{name:?}");
        }
        assert!(id(&"x".repeat(500)).len() <= 64);
    }

    #[test]
    fn a_key_names_its_agent() {
        assert_eq!(of_session_key("agent:Main:main").as_deref(), Some("main"));
        assert_eq!(of_session_key("agent:ops:cron:1").as_deref(), Some("ops"));
        for key in ["", "main", "agent:main", "agent::", "cron:main:main"] {
            assert_eq!(of_session_key(key), None, "{key}");
        }
    }

    #[test]
    fn an_identity_file_is_read_as_far_as_it_is_filled_in() {
        let read = read_identity(
            "# Who\n\n- **Name:** _(pick one)_\n- **Emoji:** 🐈\n- Name: Ann: the first\nTheme: calm\r\n- x\n",
        );
        assert_eq!(read.name.as_deref(), Some("Ann: the first"));
        assert_eq!(read.emoji.as_deref(), Some("🐈"));
        assert_eq!(read.theme.as_deref(), Some("calm"));
        assert_eq!(read.avatar, None);
    }

    #[test]
    fn what_is_shown_falls_back_step_by_step() {
        let none = Identity::default();
        let shown_as = shown(&none, &none, &none);
        assert_eq!(
            (shown_as.name.as_str(), shown_as.avatar.as_str()),
            ("Assistant", "A")
        );
        assert_eq!(shown_as.emoji, None);
        let file = read_identity("- Name: Cat Two\n- Emoji: 🐈\n- Avatar: a long sentence\n");
        let shown_as = shown(&none, &none, &file);
        assert_eq!(
            (shown_as.name.as_str(), shown_as.avatar.as_str()),
            ("Cat Two", "🐈")
        );
        assert_eq!(shown_as.emoji.as_deref(), Some("🐈"));
    }

    #[test]
    fn a_line_of_an_identity_cannot_hold_another() {
        assert_eq!(
            identity_line("Name", "Ann\n- Avatar: https://evil"),
            "- Name: Ann - Avatar: https://evil\n"
        );
    }
}
