//! Authority that is taken away while a thousand sessions live by it and by other: all that are
//! concerned are over before the call is answered, and nobody else notices.
//!
//! `CLAWGATE_OVERLOAD=full` takes a thousand, otherwise a part of that.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{ops::Range, sync::Mutex};

use clawgate_testkit::{
    Call, Client, Close, Connect, Device, Message, TOKEN, TestGateway, gateway,
};
use serde_json::{Value, json};

const READ_AND_ADMIN: &[&str] = &["operator.admin", "operator.read"];

/// Sessions that live by one credential.
struct Group {
    name: &'static str,
    clients: Vec<Client>,
    /// What they may call.
    method: &'static str,
}

/// How a session of a group connects, by the number of the wire.
type Door<'a> = Box<dyn Fn(u32) -> Connect + Sync + 'a>;

impl Group {
    /// Opens so many of a thousand, of both dialects by turns, a few at a time.
    fn open(
        gateway: &TestGateway,
        name: &'static str,
        of_a_thousand: usize,
        method: &'static str,
        door: &Door<'_>,
    ) -> Self {
        let is_full = std::env::var("CLAWGATE_OVERLOAD").is_ok_and(|it| it == "full");
        let all = if is_full {
            of_a_thousand
        } else {
            of_a_thousand.div_ceil(4)
        };
        let opened = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let parts: [Range<usize>; 4] =
                [0, 1, 2, 3].map(|part| all * part / 4..all * (part + 1) / 4);
            for part in parts {
                let opened = &opened;
                scope.spawn(move || {
                    for n in part {
                        let protocol = if n % 2 == 0 { 3 } else { 4 };
                        let client = gateway.welcome(&door(protocol)).0;
                        opened.lock().unwrap().push(client);
                    }
                });
            }
        });
        Self {
            name,
            clients: opened.into_inner().unwrap(),
            method,
        }
    }

    /// Each of them is answered.
    #[track_caller]
    fn is_served(&mut self) {
        for client in &mut self.clients {
            client.call(self.method, &json!({}));
        }
    }

    /// Each of them asks a few things and does not wait for the answers.
    fn press(&mut self) {
        for client in &mut self.clients {
            for _ in 0..5 {
                client.send(self.method, &json!({}));
            }
        }
    }

    /// The answer is there. Each of them hears the close, and nothing that happened after the answer.
    #[track_caller]
    fn end_with(self, close: &Close, marker: &str) -> usize {
        let count = self.clients.len();
        for mut client in self.clients {
            // What it asks now, it asks in vain.
            let late = client.send(
                "cron.add",
                &json!({
                    "name": "late", "schedule": {"kind": "every", "everyMs": 3_600_000},
                    "sessionTarget": "main", "payload": {"kind": "systemEvent", "text": "late"},
                }),
            );
            let end = loop {
                match client.socket.read() {
                    Message::Text(text) => {
                        assert!(!text.contains(marker), "{}: {text}", self.name);
                        let frame: Value = serde_json::from_str(&text).unwrap();
                        assert_ne!(frame["id"], late.as_str(), "{}: {frame}", self.name);
                    }
                    Message::Closed(close) => break close,
                    _ => {}
                }
            };
            assert_eq!(&end, close, "{}", self.name);
        }
        count
    }
}

/// A device that is paired here, and the token that it got.
fn paired(gateway: &TestGateway, role: &str, scopes: &[&str]) -> (Device, String) {
    let device = Device::new();
    let connect = Connect::new(4)
        .token(TOKEN)
        .device(&device)
        .role(role)
        .scopes(scopes);
    let connect = if role == "node" {
        connect.client("node-host", "node")
    } else {
        connect
    };
    let (_, hello) = gateway.welcome(&connect);
    let token = hello.device_token().unwrap().to_owned();
    (device, token)
}

fn by_device<'a>(device: &'a Device, token: &'a str) -> Door<'a> {
    Box::new(move |protocol| {
        Connect::new(protocol)
            .device(device)
            .auth("deviceToken", token)
            .scopes(READ_AND_ADMIN)
    })
}

fn by_node<'a>(device: &'a Device, token: &'a str) -> Door<'a> {
    Box::new(move |protocol| {
        Connect::new(protocol)
            .client("node-host", "node")
            .device(device)
            .auth("deviceToken", token)
            .role("node")
            .scopes(&[])
    })
}

#[test]
fn whoever_loses_authority_is_over_before_the_answer_and_all_others_are_served() {
    clawgate_testkit::raise_descriptor_limit();
    let gateway = gateway!();
    let mut owner = gateway.owner(4);
    let (phone, phone_token) = paired(&gateway, "operator", READ_AND_ADMIN);
    let (tablet, tablet_token) = paired(&gateway, "operator", READ_AND_ADMIN);
    let (laptop, laptop_token) = paired(&gateway, "operator", READ_AND_ADMIN);
    let (pi, pi_token) = paired(&gateway, "node", &[]);
    let made = owner.call(
        "tokens.create",
        &json!({"name": "ci", "scopes": READ_AND_ADMIN}),
    );
    let ci = made["token"].as_str().unwrap().to_owned();
    let open =
        |name, count, method, door: Door<'_>| Group::open(&gateway, name, count, method, &door);
    let by_api_token: Door<'_> =
        Box::new(|protocol| Connect::new(protocol).token(&ci).scopes(READ_AND_ADMIN));
    let by_secret: Door<'_> =
        Box::new(|protocol| Connect::new(protocol).token(TOKEN).scopes(READ_AND_ADMIN));
    let mut groups = vec![
        open("rotated", 300, "status", by_device(&phone, &phone_token)),
        open("revoked", 200, "status", by_device(&tablet, &tablet_token)),
        open("removed", 60, "skills.bins", by_node(&pi, &pi_token)),
        open("api token", 200, "status", by_api_token),
        open("shared secret", 200, "status", by_secret),
        open("others", 40, "status", by_device(&laptop, &laptop_token)),
    ];
    let all: usize = groups.iter().map(|group| group.clients.len()).sum();
    // Authority that no act here takes away.
    let (mut acting, _) = gateway.welcome(&by_device(&laptop, &laptop_token)(4));
    let changed = |acting: &mut Client| {
        let hash = acting.call("config.get", &json!({}))["hash"].clone();
        let raw = json!({"gateway": {"auth": {"token": "another-secret-of-thirty-two-letters"}}});
        json!({"raw": raw.to_string(), "baseHash": hash})
    };
    let auth_changed = Close::new(4001, "gateway auth changed");
    let device = |device: &Device| json!({"deviceId": device.id(), "role": "operator"});
    let patch = changed(&mut acting);
    let acts = [
        ("device.token.rotate", device(&phone), auth_changed.clone()),
        ("device.token.revoke", device(&tablet), auth_changed.clone()),
        (
            "device.pair.remove",
            json!({"deviceId": pi.id()}),
            Close::new(4001, "device removed"),
        ),
        ("tokens.revoke", json!({"name": "ci"}), auth_changed.clone()),
        ("config.patch", patch, auth_changed),
    ];
    let mut ended = 0;
    for (method, params, close) in acts {
        let mut concerned = groups.remove(0);
        concerned.press();
        for others in &mut groups {
            others.press();
        }
        let actor = if method == "config.patch" {
            &mut acting
        } else {
            &mut owner
        };
        let answered = actor.try_call(method, &params);
        assert!(matches!(answered, Call::Ok(_)), "{method}: {answered:?}");
        // Answered: from here on nothing is for them, and nothing of theirs is done.
        let marker = format!("marker-of-{}", method.replace('.', "-"));
        actor.call("system-event", &json!({"text": format!("Node: {marker}")}));
        let count = concerned.end_with(&close, &marker);
        println!("{method}: {count} of {all} sessions over before the answer");
        ended += count;
        for others in &mut groups {
            others.is_served();
        }
    }
    let jobs = acting.call("cron.list", &json!({"includeDisabled": true}));
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(0), "{jobs}");
    println!(
        "{ended} ended, {} others stayed",
        groups
            .iter()
            .map(|group| group.clients.len())
            .sum::<usize>()
    );
    assert_eq!(groups.len(), 1);
}
