//! Presence: who is here, who just left, and what beacons said.

use std::sync::{Mutex, PoisonError};

use clawgate_core::{Dialect, Role};
use clawgate_protocol::{
    connect::Client,
    frame::{StateVersion, to_json},
    scope::ScopeSet,
    system::{PresenceEntry, SystemEventParams},
};

/// How long an entry lives without renewal, milliseconds.
const TTL_MS: i64 = 300_000;
/// Entries kept at most; the oldest make room.
const ENTRIES_MAX: usize = 200;
/// Letters of all entries together, more or less; the oldest make room. Every reader is sent all of them
/// each time that one changes.
const TABLE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Letters of one beacon.
pub(crate) const BEACON_BYTES_MAX: usize = TABLE_BYTES_MAX - 64 * 1024;

/// The gateway's own entry, renewed on each read.
#[derive(Clone, Debug)]
pub(crate) struct SelfEntry(PresenceEntry);

impl SelfEntry {
    /// What this machine is called and runs.
    pub(crate) fn of_this_machine(version: &str) -> Self {
        let uname = rustix::system::uname();
        let host = uname.nodename().to_string_lossy().into_owned();
        let host = host.split('.').next().unwrap_or("gateway").to_owned();
        let ip = primary_ip();
        let text = format!("Gateway: {host} ({ip}) · app {version} · mode gateway · reason self");
        let system = std::env::consts::OS;
        Self(PresenceEntry {
            platform: Some(format!("{system} {}", uname.release().to_string_lossy())),
            device_family: Some(
                match system {
                    "macos" => "Mac",
                    "linux" => "Linux",
                    other => other,
                }
                .to_owned(),
            ),
            model_identifier: Some(
                match std::env::consts::ARCH {
                    "x86_64" => "x64",
                    "aarch64" => "arm64",
                    other => other,
                }
                .to_owned(),
            ),
            host: Some(host),
            ip: Some(ip),
            version: Some(version.to_owned()),
            instance_id: Some(uuid::Uuid::new_v4().to_string()),
            mode: Some("gateway".to_owned()),
            reason: Some("self".to_owned()),
            text,
            ..PresenceEntry::default()
        })
    }
}

/// The address that this machine would use to reach others. No packet is sent for it.
fn primary_ip() -> String {
    let probe = || -> std::io::Result<std::net::IpAddr> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("192.0.2.1:9")?;
        Ok(socket.local_addr()?.ip())
    };
    probe().map_or_else(|_| "127.0.0.1".to_owned(), |ip| ip.to_string())
}

/// Who a session is, for presence.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    pub client: Client,
    pub role: Role,
    pub scopes: ScopeSet,
    pub device_id: Option<String>,
    /// Device id, else the client's instance id, else the connection's.
    pub key: String,
}

impl Here {
    /// One-shot clients and probes come and go unseen; wire 3 tracks the latter, and nobody
    /// misses them.
    pub(crate) fn is_tracked(&self) -> bool {
        !matches!(self.client.mode.as_str(), "cli" | "probe" | "backend")
    }

    fn entry(&self, reason: &str, online_since: Option<i64>, now_ms: i64) -> PresenceEntry {
        let client = &self.client;
        let host = client
            .display_name
            .clone()
            .unwrap_or_else(|| client.id.clone());
        let scopes: Vec<String> = self.scopes.iter().map(ToString::to_string).collect();
        PresenceEntry {
            text: format!("Node: {host} · mode {}", client.mode),
            host: Some(host),
            client_id: Some(client.id.clone()),
            time_zone: client.time_zone.clone(),
            online_since,
            version: Some(client.version.clone()),
            platform: Some(client.platform.clone()),
            device_family: client.device_family.clone(),
            model_identifier: client.model_identifier.clone(),
            mode: Some(client.mode.clone()),
            device_id: self.device_id.clone(),
            roles: Some(vec![self.role.to_string()]),
            scopes: (!scopes.is_empty()).then_some(scopes),
            instance_id: Some(self.key.clone()),
            reason: Some(reason.to_owned()),
            ts: now_ms,
            ..PresenceEntry::default()
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    /// Newest last.
    entries: Vec<(String, PresenceEntry)>,
    version: StateVersion,
}

/// The presence table.
#[derive(Debug)]
pub(crate) struct Presence {
    own: SelfEntry,
    table: Mutex<Table>,
}

impl Presence {
    pub(crate) fn new(own: SelfEntry) -> Self {
        Self {
            own,
            table: Mutex::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters that ride on presence and health events.
    pub(crate) fn version(&self) -> StateVersion {
        self.lock().version
    }

    /// A health refresh happened.
    pub(crate) fn bump_health(&self) -> StateVersion {
        let mut table = self.lock();
        table.version.health += 1;
        table.version
    }

    /// A tracked client came.
    pub(crate) fn came(&self, here: &Here, now_ms: i64) {
        self.put(
            here.key.clone(),
            here.entry("connect", Some(now_ms), now_ms),
            now_ms,
        );
    }

    /// A tracked client went.
    pub(crate) fn went(&self, here: &Here, now_ms: i64) {
        self.put(
            here.key.clone(),
            here.entry("disconnect", None, now_ms),
            now_ms,
        );
    }

    /// A beacon, or a line of text.
    pub(crate) fn beacon(&self, params: &SystemEventParams, now_ms: i64) {
        let text = params.text.clone().unwrap_or_default();
        let said = Beacon::parse(&text);
        let key = params
            .device_id
            .clone()
            .or_else(|| params.instance_id.clone())
            .or_else(|| params.host.clone())
            .or_else(|| said.host.clone())
            .unwrap_or_else(|| text.chars().take(64).collect());
        let entry = PresenceEntry {
            host: params.host.clone().or(said.host),
            ip: params.ip.clone().or(said.ip),
            version: params.version.clone().or(said.version),
            platform: params.platform.clone(),
            device_family: params.device_family.clone(),
            model_identifier: params.model_identifier.clone(),
            last_input_seconds: params.last_input_seconds.or(said.last_input_seconds),
            mode: params.mode.clone().or(said.mode),
            reason: params.reason.clone().or(said.reason),
            tags: params.tags.clone(),
            device_id: params.device_id.clone(),
            roles: params.roles.clone(),
            scopes: params.scopes.clone(),
            instance_id: params.instance_id.clone(),
            text,
            ts: now_ms,
            ..PresenceEntry::default()
        };
        self.put(key, entry, now_ms);
    }

    fn put(&self, key: String, entry: PresenceEntry, now_ms: i64) {
        let mut table = self.lock();
        table
            .entries
            .retain(|(other, entry)| *other != key && now_ms - entry.ts < TTL_MS);
        table.entries.push((key, entry));
        let mut bytes: usize = table.entries.iter().map(bytes_of).sum();
        let mut crowded_out = 0;
        while table.entries.len() - crowded_out > ENTRIES_MAX
            || (bytes > TABLE_BYTES_MAX && crowded_out + 1 < table.entries.len())
        {
            bytes -= bytes_of(&table.entries[crowded_out]);
            crowded_out += 1;
        }
        table.entries.drain(..crowded_out);
        table.version.presence += 1;
    }

    /// Every entry as a reader of a dialect sees it, this gateway first, then newest first.
    pub(crate) fn list(&self, dialect: Dialect, now_ms: i64) -> Vec<PresenceEntry> {
        let mut own = self.own.0.clone();
        own.ts = now_ms;
        match dialect {
            Dialect::V3 => own.instance_id = None,
            Dialect::V4 => own.model_identifier = None,
        }
        let table = self.lock();
        let others = table
            .entries
            .iter()
            .rev()
            .map(|(_, entry)| entry)
            .filter(|entry| now_ms - entry.ts < TTL_MS)
            .cloned()
            .map(|entry| match dialect {
                Dialect::V3 => PresenceEntry {
                    client_id: None,
                    time_zone: None,
                    online_since: None,
                    ..entry
                },
                Dialect::V4 => entry,
            });
        std::iter::once(own).chain(others).collect()
    }

    /// The same as JSON text.
    pub(crate) fn list_json(&self, dialect: Dialect, now_ms: i64) -> String {
        to_json(&self.list(dialect, now_ms))
    }
}

fn bytes_of((key, entry): &(String, PresenceEntry)) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let texts = |list: &Option<Vec<String>>| {
        let list = list.iter().flatten();
        list.map(|text| text.len() + size_of::<String>())
            .sum::<usize>()
    };
    key.len()
        + entry.text.len()
        + [
            &entry.host,
            &entry.ip,
            &entry.version,
            &entry.platform,
            &entry.device_family,
            &entry.model_identifier,
            &entry.mode,
            &entry.reason,
            &entry.device_id,
            &entry.instance_id,
            &entry.client_id,
            &entry.time_zone,
        ]
        .map(text)
        .iter()
        .sum::<usize>()
        + [&entry.tags, &entry.roles, &entry.scopes]
            .map(texts)
            .iter()
            .sum::<usize>()
}

/// What the text line of a beacon says:
/// `Node: host (ip) · app v · last input Ns ago · mode m · reason r`.
#[derive(Debug, Default)]
struct Beacon {
    host: Option<String>,
    ip: Option<String>,
    version: Option<String>,
    last_input_seconds: Option<f64>,
    mode: Option<String>,
    reason: Option<String>,
}

impl Beacon {
    fn parse(text: &str) -> Self {
        let mut beacon = Self::default();
        let Some(line) = text.strip_prefix("Node:") else {
            return beacon;
        };
        for (index, part) in line.split('·').map(str::trim).enumerate() {
            if index == 0 {
                let (host, ip) = match part.split_once('(') {
                    Some((host, rest)) => (host.trim(), rest.strip_suffix(')')),
                    None => (part, None),
                };
                beacon.host = (!host.is_empty()).then(|| host.to_owned());
                beacon.ip = ip.map(str::to_owned);
            } else if let Some(version) = part.strip_prefix("app ") {
                beacon.version = Some(version.to_owned());
            } else if let Some(rest) = part.strip_prefix("last input ") {
                let seconds = rest.trim_end_matches(" ago").trim_end_matches('s');
                beacon.last_input_seconds = seconds.parse().ok();
            } else if let Some(mode) = part.strip_prefix("mode ") {
                beacon.mode = Some(mode.to_owned());
            } else if let Some(reason) = part.strip_prefix("reason ") {
                beacon.reason = Some(reason.to_owned());
            }
        }
        beacon
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beacon_line_is_taken_apart() {
        let beacon = Beacon::parse(
            "Node: kitchen-pi (10.0.0.7) · app 1.2.3 · last input 12s ago · mode node · reason launch",
        );
        assert_eq!(beacon.host.as_deref(), Some("kitchen-pi"));
        assert_eq!(beacon.ip.as_deref(), Some("10.0.0.7"));
        assert_eq!(beacon.version.as_deref(), Some("1.2.3"));
        assert_eq!(beacon.last_input_seconds, Some(12.0));
        assert_eq!(beacon.mode.as_deref(), Some("node"));
        assert_eq!(beacon.reason.as_deref(), Some("launch"));
    }

    #[test]
    fn the_table_is_bounded_and_forgets() {
        let presence = Presence::new(SelfEntry(PresenceEntry::default()));
        for n in 0..1_000 {
            let params = SystemEventParams {
                text: Some(format!("{n}")),
                ..SystemEventParams::default()
            };
            presence.beacon(&params, n);
        }
        assert_eq!(presence.list(Dialect::V4, 1_000).len(), ENTRIES_MAX + 1);
        assert_eq!(presence.list(Dialect::V4, 1_000)[1].text, "999");
        assert_eq!(presence.list(Dialect::V4, TTL_MS + 1_000).len(), 1);
    }

    #[test]
    fn long_beacons_crowd_out_older_ones() {
        let presence = Presence::new(SelfEntry(PresenceEntry::default()));
        for n in 0..10 {
            let params = SystemEventParams {
                text: Some(format!("{n} {}", "x".repeat(500_000))),
                ..SystemEventParams::default()
            };
            presence.beacon(&params, n);
        }
        let list = presence.list(Dialect::V4, 10);
        assert_eq!(list.len(), 4 + 1);
        assert!(list[1].text.starts_with("9 "));
        let longest = SystemEventParams {
            text: Some("x".repeat(BEACON_BYTES_MAX)),
            ..SystemEventParams::default()
        };
        presence.beacon(&longest, 11);
        assert_eq!(presence.list(Dialect::V4, 12).len(), 1 + 1);
    }
}
