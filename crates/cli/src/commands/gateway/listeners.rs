//! Who listens on a port of this machine, as the kernel tells it.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use serde_json::{Value, json};

/// A program that listens. What another user's program is cannot be seen by everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) address: String,
    pub(crate) pid: Option<u32>,
    pub(crate) ppid: Option<u32>,
    pub(crate) command: Option<String>,
    pub(crate) command_line: Option<String>,
    pub(crate) user: Option<String>,
}

impl Listener {
    /// Whether it is a gateway of ours, by its name.
    pub(crate) fn is_gateway(&self) -> bool {
        let is =
            |text: &Option<String>, name| text.as_deref().is_some_and(|t: &str| t.contains(name));
        is(&self.command, "clawgate") || is(&self.command, "openclaw")
    }

    /// The original's members.
    pub(crate) fn to_json(&self) -> Value {
        let mut json = serde_json::Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                json.insert(name.to_owned(), value);
            }
        };
        put("pid", self.pid.map(Value::from));
        put("command", self.command.clone().map(Value::from));
        put("address", Some(self.address.clone().into()));
        put("commandLine", self.command_line.clone().map(Value::from));
        put("user", self.user.clone().map(Value::from));
        put("ppid", self.ppid.map(Value::from));
        Value::Object(json)
    }

    /// On one line.
    pub(crate) fn words(&self) -> String {
        match (&self.command, self.pid) {
            (Some(command), Some(pid)) => format!("{command} (process {pid}) on {}", self.address),
            _ => format!("a program of another user on {}", self.address),
        }
    }
}

/// What to say about a port that is taken.
pub(crate) fn hints(listeners: &[Listener]) -> Value {
    if listeners.is_empty() {
        json!([])
    } else if listeners.iter().any(Listener::is_gateway) {
        json!([
            "Gateway already running locally. Stop it (clawgate gateway stop) or use a different port."
        ])
    } else {
        json!(["Another process is listening on this port."])
    }
}

/// Every program that listens on a port. Nothing, where the system does not tell.
pub(crate) fn on_port(port: u16) -> Vec<Listener> {
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        sockets.extend(
            text.lines()
                .skip(1)
                .filter_map(|line| listening(line, port)),
        );
    }
    let mut found: Vec<Listener> = sockets
        .iter()
        .map(|(address, _)| Listener {
            address: address.clone(),
            ..Listener::default()
        })
        .collect();
    let inodes: Vec<String> = sockets
        .iter()
        .map(|(_, inode)| format!("socket:[{inode}]"))
        .collect();
    if found.is_empty() {
        return found;
    }
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let descriptors = fs::read_dir(process.path().join("fd"));
        for descriptor in descriptors.into_iter().flatten().flatten() {
            let Ok(leads_to) = fs::read_link(descriptor.path()) else {
                continue;
            };
            let at = inodes.iter().position(|inode| Path::new(inode) == leads_to);
            if let Some(at) = at {
                describe(&mut found[at], pid);
            }
        }
    }
    found
}

/// Address and inode of a line of the kernel's table, if it listens on that port.
fn listening(line: &str, port: u16) -> Option<(String, String)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
    let (host, at) = address.split_once(':')?;
    if *state != "0A" || u16::from_str_radix(at, 16).ok()? != port {
        return None;
    }
    // Words of four bytes in the order of this machine.
    let mut bytes = Vec::new();
    for at in (0..host.len()).step_by(8) {
        let word = u32::from_str_radix(host.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let host = match *bytes.as_slice() {
        [a, b, c, d] => std::net::Ipv4Addr::new(a, b, c, d).to_string(),
        _ => {
            let bytes: [u8; 16] = bytes.try_into().ok()?;
            format!("[{}]", std::net::Ipv6Addr::from(bytes))
        }
    };
    Some((format!("{host}:{port}"), (*inode).to_owned()))
}

fn describe(listener: &mut Listener, pid: u32) {
    let own = Path::new("/proc").join(pid.to_string());
    let text = |name: &str| fs::read_to_string(own.join(name)).ok();
    listener.pid = Some(pid);
    listener.command = text("comm").map(|name| name.trim().to_owned());
    listener.command_line = text("cmdline")
        .map(|line| without_secrets(line.split('\0').filter(|word| !word.is_empty())));
    listener.ppid = text("stat").and_then(|stat| {
        // The name before it may hold anything but ends with the last bracket.
        let (_, rest) = stat.rsplit_once(") ")?;
        rest.split_whitespace().nth(1)?.parse().ok()
    });
    let owner = fs::metadata(&own).ok().map(|meta| meta.uid());
    listener.user = owner.map(user_name);
}

/// A command line without what stands behind options that take secrets.
fn without_secrets<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut shown = Vec::new();
    let mut hide = false;
    for word in words {
        let is_secret = ["--token", "--password"].contains(&word);
        let joined = ["--token=", "--password="]
            .iter()
            .find(|option| word.starts_with(*option));
        shown.push(match joined {
            _ if hide => "…".to_owned(),
            Some(option) => format!("{option}…"),
            None => word.to_owned(),
        });
        hide = is_secret && !hide;
    }
    shown.join(" ")
}

fn user_name(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut words = line.split(':');
        let name = words.next()?;
        (words.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_found_with_its_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = on_port(port);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].address, format!("127.0.0.1:{port}"));
        assert_eq!(found[0].pid, Some(std::process::id()));
        assert!(found[0].ppid.is_some() && found[0].user.is_some());
        drop(listener);
        assert_eq!(on_port(port), []);
    }

    #[test]
    fn a_command_line_is_shown_without_its_secrets() {
        let words = ["clawgate", "--token", "a", "--password=b", "--port", "1"];
        let shown = without_secrets(words.into_iter());
        assert_eq!(shown, "clawgate --token … --password=… --port 1");
    }
}
