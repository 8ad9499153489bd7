//! The end of a gateway: everybody is told, everybody is closed, nothing hangs.

use std::time::Duration;

use clawgate_testkit::{Client, Close, Connect, Device, TOKEN, gateway};
use serde_json::{Value, json};

#[test]
fn sigterm_tells_every_session_and_closes_it_1012() {
    let mut gateway = gateway!();
    let node = Connect::new(4)
        .token(TOKEN)
        .client("node-host", "node")
        .role("node")
        .scopes(&[]);
    let mut clients: Vec<(u32, Client)> = vec![
        (3, gateway.owner(3)),
        (4, gateway.owner(4)),
        (
            3,
            gateway.welcome(&Connect::new(3).token(TOKEN).scopes(&[])).0,
        ),
        (
            4,
            gateway.welcome(&Connect::new(4).token(TOKEN).scopes(&[])).0,
        ),
        (4, gateway.welcome(&node.device(&Device::new())).0),
    ];
    let mut unknown = gateway.client();
    gateway.terminate();
    for (protocol, client) in &mut clients {
        let event = client.event("shutdown");
        let payload = if *protocol == 3 {
            json!({"reason": "gateway stopping", "restartExpectedMs": null})
        } else {
            json!({"reason": "gateway stopping"})
        };
        assert_eq!(event["payload"], payload, "wire {protocol}");
        assert!(event["seq"].is_u64());
        assert_eq!(
            client.closed(),
            Close::new(1012, "service restart"),
            "wire {protocol}"
        );
    }
    assert_eq!(unknown.closed(), Close::new(1012, "service restart"));
    let ended = gateway.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_stop_takes_no_longer_for_peers_that_do_not_read_or_answer() {
    let mut gateway = gateway!();
    let deaf: Vec<Client> = (0..20).map(|_| gateway.owner(3)).collect();
    let half: Vec<Client> = (0..20).map(|_| gateway.client()).collect();
    let mut plain = std::net::TcpStream::connect(gateway.address()).unwrap();
    std::io::Write::write_all(&mut plain, b"GET / HT").unwrap();
    gateway.terminate();
    let ended = gateway.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.took < Duration::from_secs(5), "{:?}", ended.took);
    drop((deaf, half, plain));
}

#[test]
fn a_stop_leaves_one_database_file_and_no_lock_in_the_way() {
    let mut gateway = gateway!();
    gateway
        .owner(4)
        .call("set-heartbeats", &json!({"enabled": true}));
    gateway.terminate();
    assert_eq!(gateway.ended().code, Some(0));
    let names: Vec<String> = gateway
        .home()
        .state_entries()
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(names.contains(&"clawgate.sqlite".to_owned()), "{names:?}");
    assert!(
        !names.iter().any(|name| name.ends_with("-wal")),
        "{names:?}"
    );
    gateway.restart();
    gateway.owner(4).call("health", &json!({}));
}

#[test]
fn sigterm_right_after_the_start_is_not_lost() {
    for _ in 0..5 {
        let mut gateway = gateway!();
        gateway.terminate();
        assert_eq!(gateway.ended().code, Some(0));
    }
}

#[test]
fn calls_in_flight_are_answered_or_cut_and_what_was_answered_stands() {
    let mut gateway = gateway!();
    let mut client = gateway.owner(4);
    let ids: Vec<String> = (0..200)
        .map(|n| {
            let params = json!({"name": format!("t{n}"), "scopes": ["operator.read"]});
            client.send("tokens.create", &params)
        })
        .collect();
    gateway.terminate();
    let answered: Vec<Value> = ids
        .iter()
        .map_while(|id| match client.answer(id) {
            clawgate_testkit::Call::Ok(payload) => Some(payload),
            _ => None,
        })
        .collect();
    assert_eq!(gateway.ended().code, Some(0));
    gateway.restart();
    let list = gateway.owner(4).call("tokens.list", &json!({}));
    let names: Vec<&Value> = list["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| &token["name"])
        .collect();
    for token in &answered {
        assert!(
            names.contains(&&token["record"]["name"]),
            "{token} was answered and is gone"
        );
    }
}
