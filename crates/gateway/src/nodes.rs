//! Owner of the nodes: which are here, what they may be asked to run, and what was asked of them.
//!
//! The database holds what was approved and what waits for approval; this follows the commits in
//! their order. Sessions and running commands are in memory: they end with the sockets. A command is
//! bound to the session that got it, so that nobody else answers for it and its end is the command's.

mod invoke;
mod pair;
mod work;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use clawgate_core::{
    DeviceId, Dialect, Role,
    node::{self, CommandRules, Declaring, Surface},
    pairing::Device,
    session::SessionKey,
};
use clawgate_protocol::{
    connect::Client,
    event::Event,
    frame::{EventParts, to_json},
    node::{About, NodeView, PendingNode, TRIGGERS_DEFAULT, Withheld},
};
use clawgate_store::{NodeOrigin, NodeRequest, Store, StoreError};
use serde_json::json;

pub(crate) use invoke::{Done, Failure, Invoke};
pub(crate) use pair::NodeError;

use crate::{
    clock::now_ms,
    hub::{Hub, Principal},
    pairing::Arrival,
    state::Keys,
};

/// Where the wake words are kept.
const WAKE_WORDS_SETTING: &str = "voicewake";
/// Sessions whose chat one node follows at most.
const FOLLOWED_MAX: usize = 64;

/// What a node declares by connecting.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub node_id: DeviceId,
    pub surface: Surface,
    pub remote_ip: Option<String>,
    pub permissions: Option<BTreeMap<String, bool>>,
    pub path_env: Option<String>,
}

/// A session of a node.
#[derive(Debug)]
struct LiveNode {
    conn_id: String,
    dialect: Dialect,
    client: Client,
    declared: Declared,
    connected_at_ms: i64,
    /// Sessions whose events it wants, by key, and what it calls each.
    followed: BTreeMap<String, String>,
}

/// A node that is here, as a command needs to know it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub conn_id: String,
    pub platform: String,
    pub device_family: Option<String>,
    pub declared: Surface,
    pub approved: Surface,
}

#[derive(Debug, Default)]
struct State {
    /// Sessions by node, the newest last: it is the one that is asked.
    live: HashMap<String, Vec<LiveNode>>,
    /// What was approved for a node when it last connected, and since.
    approved: HashMap<String, Surface>,
    /// The request that would approve more.
    asked: HashMap<String, String>,
    invokes: invoke::Invokes,
    wake_words: Vec<String>,
}

/// Handle of the nodes.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    store: Store,
    hub: Hub,
    keys: Arc<Keys>,
    state: Arc<Mutex<State>>,
}

impl Nodes {
    /// Reads what is kept.
    pub(crate) fn open(store: &Store, hub: &Hub, keys: &Arc<Keys>) -> Result<Self, StoreError> {
        let kept = store.read_blocking(|db| db.setting(WAKE_WORDS_SETTING))?;
        let wake_words = kept
            .and_then(|text| serde_json::from_str::<Vec<String>>(&text).ok())
            .unwrap_or_else(|| TRIGGERS_DEFAULT.map(str::to_owned).to_vec());
        Ok(Self {
            store: store.clone(),
            hub: hub.clone(),
            keys: Arc::clone(keys),
            state: Arc::new(Mutex::new(State {
                wake_words,
                ..State::default()
            })),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave it half-done, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds what an arriving node declares against what was approved. What goes beyond is asked for,
    /// and not invoked until somebody approves it.
    pub(crate) async fn declare(
        &self,
        arrival: &Arrival,
        client: &Client,
    ) -> Result<Declared, StoreError> {
        let now = now_ms();
        let id = arrival.device_id.clone();
        let surface = arrival.claims.surface.clone();
        let request = PendingNode {
            request_id: uuid::Uuid::new_v4().to_string(),
            node_id: id.to_string(),
            about: about(client, &surface, arrival.claims.remote_ip.clone()),
            silent: None,
            is_repair: true,
            ts: now,
        };
        let (declared, state) = (surface.clone(), Arc::clone(&self.state));
        let (gone, new) = self
            .store
            .write_then(
                "holding a node's commands against its approval",
                move |tx| {
                    let approved = tx.read().node_surface(&id)?;
                    let approved = approved.map(|row| row.surface).unwrap_or_default();
                    let asked = tx
                        .read()
                        .node_request_of(id.as_str(), NodeOrigin::Declared)?;
                    let shown = asked.as_ref().map(|asked| shown(&asked.record));
                    let (gone, new, waits) =
                        match node::declare(&approved, shown.as_ref(), &declared) {
                            Declaring::Approved => {
                                if let Some(asked) = &asked {
                                    tx.drop_node_request(&asked.request_id)?;
                                }
                                (asked, None, None)
                            }
                            Declaring::Asked => (None, None, asked.map(|asked| asked.request_id)),
                            Declaring::Ask => {
                                tx.keep_node_request(&NodeRequest {
                                    request_id: request.request_id.clone(),
                                    node_id: request.node_id.clone(),
                                    origin: NodeOrigin::Declared,
                                    record: to_json(&request),
                                    asked_at_ms: now,
                                })?;
                                let waits = request.request_id.clone();
                                (asked, Some(request), Some(waits))
                            }
                        };
                    Ok::<_, StoreError>((id, approved, gone, new, waits))
                },
                move |(id, approved, gone, new, waits)| {
                    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.follow(id.as_str(), approved, waits);
                    (gone, new)
                },
            )
            .await?;
        if let Some(gone) = gone {
            self.publish_resolved(&gone.request_id, &gone.node_id, "rejected");
        }
        if let Some(new) = new {
            tracing::info!(
                node = %new.node_id, request = %new.request_id,
                "a node declares more than was approved"
            );
            self.hub
                .publish(Event::NodePairRequested, &to_json(&new), None);
        }
        Ok(Declared {
            node_id: arrival.device_id.clone(),
            surface,
            remote_ip: arrival.claims.remote_ip.clone(),
            permissions: None,
            path_env: None,
        })
    }

    /// A node's session begins.
    pub(crate) fn came(&self, principal: &Principal, client: &Client, declared: &Declared) {
        let live = LiveNode {
            conn_id: principal.conn_id.clone(),
            dialect: principal.dialect,
            client: client.clone(),
            declared: declared.clone(),
            connected_at_ms: now_ms(),
            followed: BTreeMap::new(),
        };
        let key = declared.node_id.to_string();
        self.lock().live.entry(key).or_default().push(live);
    }

    /// A session ended. What was asked of it ends too.
    pub(crate) fn went(&self, conn_id: &str) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.live.retain(|_, sessions| {
            sessions.retain(|live| live.conn_id != conn_id);
            !sessions.is_empty()
        });
        state.invokes.session_ended(conn_id);
    }

    /// A node that is here.
    pub(crate) fn target(&self, node_id: &str) -> Option<Target> {
        let state = self.lock();
        let live = state.live.get(node_id)?.last()?;
        Some(Target {
            conn_id: live.conn_id.clone(),
            platform: live.client.platform.clone(),
            device_family: live.client.device_family.clone(),
            declared: live.declared.surface.clone(),
            approved: state.approved.get(node_id).cloned().unwrap_or_default(),
        })
    }

    /// Every known node: paired in that role, or here. Those that are here first, then by name.
    pub(crate) async fn views(&self, rules: &CommandRules) -> Result<Vec<NodeView>, StoreError> {
        let (devices, names) = self
            .store
            .read(|db| Ok((db.devices()?, db.node_names()?)))
            .await?;
        let names: HashMap<String, String> = names.into_iter().collect();
        let state = self.lock();
        let mut views: Vec<NodeView> = devices
            .iter()
            .filter(|device| device.approved_for(Role::Node).is_some())
            .map(|device| state.view(device, &names, rules))
            .collect();
        let key = |view: &NodeView| {
            let name = view.display_name.as_deref().unwrap_or(&view.node_id);
            (!view.connected, name.to_lowercase(), view.node_id.clone())
        };
        views.sort_by_key(key);
        Ok(views)
    }

    /// A node wants the events of a session, which it calls `written`, or wants them no more.
    /// `false` when it wants too many.
    pub(crate) fn follow(
        &self,
        conn_id: &str,
        session: &SessionKey,
        written: &str,
        wants: bool,
    ) -> bool {
        let mut state = self.lock();
        let mut sessions = state.live.values_mut().flatten();
        let Some(live) = sessions.find(|live| live.conn_id == conn_id) else {
            return true;
        };
        let key = session.as_str();
        if !wants {
            live.followed.remove(key);
            return true;
        }
        if live.followed.len() >= FOLLOWED_MAX && !live.followed.contains_key(key) {
            return false;
        }
        live.followed.insert(key.to_owned(), written.to_owned());
        true
    }

    /// Sends an event of a session to the nodes that follow it, unnumbered: `payload` for a dialect
    /// and what the node calls the session.
    pub(crate) fn tell_followers(
        &self,
        session: &SessionKey,
        event: Event,
        payload: impl Fn(Dialect, &str) -> String,
    ) {
        self.tell_followers_of(session.as_str(), event, payload);
    }

    /// The same by the canonical key.
    pub(crate) fn tell_followers_of(
        &self,
        session: &str,
        event: Event,
        mut payload: impl FnMut(Dialect, &str) -> String,
    ) {
        let followers: Vec<(String, Dialect, String)> = {
            let state = self.lock();
            let sessions = state.live.values().flatten();
            sessions
                .filter_map(|live| {
                    let written = live.followed.get(session)?;
                    Some((live.conn_id.clone(), live.dialect, written.clone()))
                })
                .collect()
        };
        for (conn_id, dialect, written) in followers {
            self.hub.tell(&conn_id, event, &payload(dialect, &written));
        }
    }

    /// The wake words.
    pub(crate) fn wake_words(&self) -> Vec<String> {
        self.lock().wake_words.clone()
    }

    /// The same as the event that a node gets right after its hello.
    pub(crate) fn wake_words_frame(&self) -> String {
        let payload = json!({"triggers": self.wake_words()}).to_string();
        EventParts::new(Event::VoicewakeChanged.name(), &payload, None).frame(None)
    }

    /// Keeps other wake words, and tells everybody who may know.
    pub(crate) async fn set_wake_words(&self, words: Vec<String>) -> Result<(), StoreError> {
        let text = to_json(&words);
        let (kept, state) = (words.clone(), Arc::clone(&self.state));
        self.store
            .write_then(
                "keeping wake words",
                move |tx| tx.set_setting(WAKE_WORDS_SETTING, &text),
                move |()| {
                    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.wake_words = kept;
                },
            )
            .await?;
        let payload = json!({"triggers": words}).to_string();
        self.hub.publish(Event::VoicewakeChanged, &payload, None);
        Ok(())
    }

    fn publish_resolved(&self, request_id: &str, node_id: &str, decision: &str) {
        let payload = json!({
            "requestId": request_id, "nodeId": node_id, "decision": decision, "ts": now_ms(),
        });
        self.hub
            .publish(Event::NodePairResolved, &payload.to_string(), None);
    }
}

impl State {
    /// What the database says about a node from now on.
    fn follow(&mut self, node_id: &str, approved: Surface, waits: Option<String>) {
        self.approved.insert(node_id.to_owned(), approved);
        match waits {
            Some(request) => self.asked.insert(node_id.to_owned(), request),
            None => self.asked.remove(node_id),
        };
    }

    fn view(
        &self,
        device: &Device,
        names: &HashMap<String, String>,
        rules: &CommandRules,
    ) -> NodeView {
        let id = device.device_id.as_str();
        let stored = &device.claims;
        let live = self.live.get(id).and_then(|sessions| sessions.last());
        let claimed = live.map(|live| &live.client);
        let named = names.get(id).cloned();
        let mut view = NodeView {
            node_id: id.to_owned(),
            display_name: named
                .or_else(|| claimed.and_then(|client| client.display_name.clone()))
                .or_else(|| stored.display_name.clone()),
            platform: claimed
                .map(|client| client.platform.clone())
                .or_else(|| stored.platform.clone()),
            device_family: claimed
                .and_then(|client| client.device_family.clone())
                .or_else(|| stored.device_family.clone()),
            remote_ip: match live {
                Some(live) => live.declared.remote_ip.clone(),
                None => stored.remote_ip.clone(),
            },
            paired: true,
            connected: live.is_some(),
            pending_request_id: self.asked.get(id).cloned(),
            ..NodeView::default()
        };
        let Some(live) = live else {
            return view;
        };
        view.version = Some(live.client.version.clone());
        view.model_identifier = live.client.model_identifier.clone();
        view.path_env = live.declared.path_env.clone();
        view.permissions = live.declared.permissions.clone();
        view.connected_at_ms = Some(live.connected_at_ms);
        let declared = &live.declared.surface;
        view.caps = declared.caps().to_vec();
        let nothing = Surface::default();
        let approved = self.approved.get(id).unwrap_or(&nothing);
        let (platform, family) = (view.platform.as_deref(), view.device_family.as_deref());
        for command in declared
            .commands()
            .iter()
            .filter(|name| !node::is_reserved(name))
        {
            let allowed = rules.allows(command, platform, family);
            let reason = match node::may_run(command, allowed, declared, approved) {
                Ok(()) => {
                    view.commands.push(command.clone());
                    continue;
                }
                Err(node::Withheld::NotApproved) => "not-approved",
                Err(_) => "not-allowed",
            };
            view.withheld.push(Withheld {
                command: command.clone(),
                reason: reason.to_owned(),
            });
        }
        view
    }
}

fn about(client: &Client, surface: &Surface, remote_ip: Option<String>) -> About {
    About {
        display_name: client.display_name.clone(),
        platform: Some(client.platform.clone()),
        version: Some(client.version.clone()),
        device_family: client.device_family.clone(),
        model_identifier: client.model_identifier.clone(),
        caps: Some(surface.caps().to_vec()),
        commands: Some(surface.commands().to_vec()),
        remote_ip,
        ..About::default()
    }
}

/// What a request shows to whoever decides it.
fn shown(record: &str) -> Surface {
    let about = serde_json::from_str::<PendingNode>(record).map(|request| request.about);
    let about = about.unwrap_or_default();
    Surface::new(
        &about.caps.unwrap_or_default(),
        &about.commands.unwrap_or_default(),
    )
}
