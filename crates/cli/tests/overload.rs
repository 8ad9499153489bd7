//! What peers that mean no good can make the gateway hold and do, against what docs/overload.md says:
//! memory, the close that each of them gets, and `health` for everybody else meanwhile.
//!
//! Counts are small here; `CLAWGATE_OVERLOAD=full` takes those of a bad day (10,000 half-open sockets,
//! 1,000 clients that never read, a million requests).

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]
#![expect(clippy::print_stdout, reason = "what was held is the result")]

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use clawgate_testkit::{
    Call, Client, Close, Connect, Frame, Message, Opcode, PATIENCE, TOKEN, TestGateway, Upgrade,
    dial_from, gateway,
};
use serde_json::json;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

// What docs/overload.md says.
/// A socket without a hello: a request's head and a first message.
const BEFORE_HELLO: u64 = 160 * KIB;
/// Sockets without a hello, all together.
const SOCKETS_BEFORE_HELLO: u64 = 4_096;
/// One that said hello, beside what is counted among all.
const SESSION: u64 = 64 * KIB;
/// Events and answers that wait, all together.
const OUTGOING: u64 = 2 * 128 * MIB;
/// Messages that come in, all together.
const INCOMING: u64 = 256 * MIB;
/// Largest message.
const MESSAGE: usize = 25 * 1024 * 1024;
/// What the values of one message take while it is read.
const VALUES: u64 = 64 * MIB;
/// What each of the gateway's threads keeps of large blocks that were freed.
const KEPT_OF_FREED: u64 = 50 * MIB;
/// What a debug build and small blocks add.
const SLACK: u64 = 64 * MIB;

/// Threads of a gateway here.
fn threads() -> u64 {
    std::thread::available_parallelism().map_or(2, |it| it.get().clamp(2, 4)) as u64
}

fn is_full() -> bool {
    std::env::var("CLAWGATE_OVERLOAD").is_ok_and(|it| it == "full")
}

/// So many on a bad day, so many otherwise.
fn count(full: usize, small: usize) -> usize {
    if is_full() { full } else { small }
}

/// Bytes of a line of the process's status.
fn status(gateway: &TestGateway, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let found = status.lines().find_map(|it| it.strip_prefix(line)).unwrap();
    let kb = found.trim_start_matches(':').trim().trim_end_matches(" kB");
    kb.parse::<u64>().unwrap() * KIB
}

/// The most that it ever held.
fn peak(gateway: &TestGateway) -> u64 {
    status(gateway, "VmHWM")
}

fn resident(gateway: &TestGateway) -> u64 {
    status(gateway, "VmRSS")
}

#[track_caller]
fn held_at_most(what: &str, gateway: &TestGateway, base: u64, more: u64) {
    let (peak, bound) = (peak(gateway), base + more + SLACK);
    println!(
        "{what}: {} MiB at the most, {} MiB now, {} MiB allowed",
        peak / MIB,
        resident(gateway) / MIB,
        bound / MIB
    );
    assert!(peak <= bound, "{} MiB", peak / MIB);
}

/// Somebody who behaves and asks for `health` all the time; each answer has its own deadline.
struct Watcher {
    over: Arc<AtomicBool>,
    asking: JoinHandle<(usize, Duration)>,
}

impl Watcher {
    fn beside(gateway: &TestGateway) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut client = gateway.welcome(&quiet(4)).0;
        let asking = std::thread::spawn({
            let over = Arc::clone(&over);
            move || {
                let (mut answers, mut slowest) = (0, Duration::ZERO);
                while !over.load(Ordering::Acquire) {
                    let asked = Instant::now();
                    client.call("health", &json!({}));
                    slowest = slowest.max(asked.elapsed());
                    answers += 1;
                }
                (answers, slowest)
            }
        });
        Self { over, asking }
    }

    /// It was answered throughout.
    #[track_caller]
    fn was_served(self) {
        self.over.store(true, Ordering::Release);
        let (answers, slowest) = self.asking.join().unwrap();
        println!("health: {answers} answers, the slowest took {slowest:?}");
        assert!(answers > 0);
    }
}

/// A client without any scope: no event but those for everybody.
fn quiet(protocol: u32) -> Connect {
    Connect::new(protocol).token(TOKEN).scopes(&[])
}

fn reader(protocol: u32) -> Connect {
    Connect::new(protocol)
        .token(TOKEN)
        .scopes(&["operator.read"])
}

/// Whether the other end has closed or reset it.
fn is_over(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.read(&mut [0; 1024]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// Reads in the background until the close.
fn closing(mut client: Client) -> JoinHandle<Close> {
    std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            match client.socket.read_within(Duration::from_secs(5)) {
                Some(Message::Closed(close)) => return close,
                Some(_) => {}
                None => assert!(Instant::now() < deadline, "it is not closed"),
            }
        }
    })
}

#[test]
fn e11_half_open_sockets_of_many_addresses_are_bounded_and_leave_clients_served() {
    clawgate_testkit::raise_descriptor_limit();
    let gateway = gateway!();
    let base = resident(&gateway);
    let watcher = Watcher::beside(&gateway);
    let all = count(10_000, 4_500);
    let mut open = Vec::new();
    for n in 0..all {
        // A thousand of each address, so that no address's own bound is met first.
        let source = [127, 0, 0, 2 + u8::try_from(n / 1_000).unwrap()];
        let mut stream = dial_from(source, gateway.address());
        // Silence, half a head, or all of one that is never used.
        let said = match n % 3 {
            0 => String::new(),
            1 => format!(
                "GET / HTTP/1.1\r\nHost: x\r\nX-Much: {}",
                "x".repeat(16_000)
            ),
            _ => Upgrade::new().text(gateway.address()),
        };
        let _ = stream.write_all(said.as_bytes());
        open.push(stream);
    }
    let deadline = Instant::now() + PATIENCE;
    let counted = |open: &mut Vec<TcpStream>| {
        let over = open.iter_mut().map(is_over);
        over.filter(|it| !it).count()
    };
    let most = usize::try_from(SOCKETS_BEFORE_HELLO).unwrap();
    let mut left = counted(&mut open);
    while left > most {
        assert!(Instant::now() < deadline, "{left} are open");
        left = counted(&mut open);
    }
    println!("{all} tried, {left} are held");
    assert!(left < all, "the ones above were dropped");
    held_at_most(
        "half-open sockets",
        &gateway,
        base,
        SOCKETS_BEFORE_HELLO * BEFORE_HELLO,
    );
    watcher.was_served();
    drop(open);
    // The gateway sees them go when it comes to it.
    while !is_alive(&gateway) {
        assert!(Instant::now() < deadline);
    }
    gateway.owner(4).call("health", &json!({}));
}

/// Whether somebody who comes now is answered.
fn is_alive(gateway: &TestGateway) -> bool {
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer.starts_with(b"HTTP/1.1 200 ")
}

#[test]
fn a_first_message_that_comes_byte_by_byte_is_ended_by_the_clock() {
    let gateway = gateway!(json!({"gateway": {
        "auth": {"mode": "token", "token": TOKEN}, "handshakeTimeoutMs": 3_000,
    }}));
    let watcher = Watcher::beside(&gateway);
    let frame = Frame::new(Opcode::Text, "x".repeat(60_000)).bytes();
    let mut slow: Vec<JoinHandle<()>> = Vec::new();
    for _ in 0..20 {
        let mut client = gateway.client();
        let mut writer = client.socket.writer();
        let frame = frame.clone();
        slow.push(std::thread::spawn(move || {
            let writing = std::thread::spawn(move || drip(&mut writer, &frame));
            assert_eq!(client.closed(), Close::new(1000, ""));
            drop(client);
            writing.join().unwrap();
        }));
    }
    for one in slow {
        one.join().unwrap();
    }
    watcher.was_served();
}

#[test]
fn e44_a_body_that_comes_byte_by_byte_is_answered_408_and_holds_up_nobody() {
    const HOOK: &str = "hook-secret-0001";
    let gateway = gateway!(json!({
        "gateway": {
            "auth": {"mode": "token", "token": TOKEN},
            "http": {"endpoints": {"chatCompletions": {"enabled": true}}},
        },
        "hooks": {"enabled": true, "token": HOOK},
    }));
    let watcher = Watcher::beside(&gateway);
    let doors = [
        ("/v1/chat/completions", TOKEN),
        ("/tools/invoke", TOKEN),
        ("/hooks/wake", HOOK),
    ];
    let slow: Vec<JoinHandle<()>> = (0..21)
        .map(|n| {
            let (path, secret) = doors[n % doors.len()];
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {secret}\r\n\
                 Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n",
                gateway.address()
            );
            let mut stream = TcpStream::connect(gateway.address()).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().unwrap();
                let writing = std::thread::spawn(move || drip(&mut writer, &vec![b' '; 100_000]));
                let wait = Some(Duration::from_secs(60));
                stream.set_read_timeout(wait).unwrap();
                let mut answer = [0; 1024];
                let bytes = stream.read(&mut answer).unwrap();
                let answer = String::from_utf8_lossy(&answer[..bytes]).into_owned();
                assert!(answer.starts_with("HTTP/1.1 408 "), "{path}: {answer}");
                drop(stream);
                writing.join().unwrap();
            })
        })
        .collect();
    for one in slow {
        one.join().unwrap();
    }
    watcher.was_served();
}

/// Writes a byte, waits for the other end to say something for a while, writes the next.
fn drip(stream: &mut TcpStream, bytes: &[u8]) {
    let wait = std::sync::mpsc::channel::<()>();
    for byte in bytes {
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        let _ = wait.1.recv_timeout(Duration::from_millis(500));
    }
}

#[test]
fn clients_that_subscribe_and_never_read_are_held_together_and_closed_1008() {
    clawgate_testkit::raise_descriptor_limit();
    let gateway = gateway!();
    let mut acting = gateway.owner(4);
    let lazy: Vec<Client> = (0..count(1_000, 300))
        .map(|n| gateway.welcome(&reader(if n % 2 == 0 { 3 } else { 4 })).0)
        .collect();
    let base = resident(&gateway);
    let watcher = Watcher::beside(&gateway);
    // Each presence event is as large as the longest beacon from now on.
    let text = format!("Node: heavy · {}", "x".repeat(1024 * 1024));
    for _ in 0..60 {
        acting.send("system-event", &json!({"text": text}));
        let mut answered = false;
        while !answered {
            match acting.socket.read() {
                Message::Text(text) => answered = text.starts_with(r#"{"type":"res""#),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    gateway.says("slow consumer");
    acting.call("health", &json!({"probe": true}));
    held_at_most(
        "clients that never read",
        &gateway,
        base,
        threads() * OUTGOING + lazy.len() as u64 * SESSION,
    );
    watcher.was_served();
    let said = gateway.stderr().matches("slow consumer").count();
    println!("{said} of {} were closed", lazy.len());
    drop(lazy);
}

#[test]
fn a_client_that_reads_nothing_of_its_answers_is_held_back_and_closed_1008() {
    let gateway = gateway!();
    let watcher = Watcher::beside(&gateway);
    let client = gateway.welcome(&quiet(3)).0;
    let base = resident(&gateway);
    let requests = count(1_000_000, 100_000);
    let mut writer = client.socket.writer();
    let frame = Frame::new(Opcode::Text, r#"{"type":"req","id":"1","method":"health"}"#).bytes();
    // It is not taken further than the buffers of the system go.
    let writing = std::thread::spawn(move || {
        writer
            .set_write_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        (0..requests / 100)
            .take_while(|_| writer.write_all(&frame.repeat(100)).is_ok())
            .count()
            * 100
    });
    gateway.says_within("slow consumer", Duration::from_secs(60));
    held_at_most("a million requests", &gateway, base, SESSION + MIB);
    // It reads at last, and finds what it was told.
    let close = closing(client);
    assert_eq!(close.join().unwrap(), Close::new(1008, "slow consumer"));
    println!("{} of {requests} were sent", writing.join().unwrap());
    watcher.was_served();
}

#[test]
fn messages_of_25_mib_side_by_side_are_bounded_and_the_largest_sender_is_closed_1013() {
    let gateway = gateway!();
    let base = resident(&gateway);
    let watcher = Watcher::beside(&gateway);
    let all = count(40, 14);
    // All but the last byte: what was sent is held.
    let message = Frame::new(Opcode::Text, vec![b' '; MESSAGE]).bytes();
    let hogs: Vec<JoinHandle<(Client, bool)>> = (0..all)
        .map(|_| {
            let client = gateway.welcome(&quiet(4)).0;
            let mut writer = client.socket.writer();
            let message = message[..message.len() - 1].to_vec();
            std::thread::spawn(move || {
                let sent = writer.write_all(&message).is_ok();
                (client, sent)
            })
        })
        .collect();
    let hogs: Vec<(Client, bool)> = hogs.into_iter().map(|it| it.join().unwrap()).collect();
    let mut closed = 0;
    let mut open = Vec::new();
    for (mut client, _) in hogs {
        match client.socket.read_within(Duration::from_millis(500)) {
            Some(Message::Closed(close)) => {
                assert_eq!(close, Close::new(1013, "too much is being sent at once"));
                closed += 1;
            }
            _ => open.push(client),
        }
    }
    println!("{closed} of {all} were closed");
    assert!((all - 11..=all - 9).contains(&closed), "{closed}");
    assert!(!open.is_empty());
    held_at_most(
        "large messages",
        &gateway,
        base,
        INCOMING + threads() * KEPT_OF_FREED + all as u64 * SESSION,
    );
    watcher.was_served();
}

#[test]
fn amid_a_long_message_a_session_is_told_answered_and_ended_like_any_other() {
    for protocol in [3, 4] {
        let gateway = gateway!();
        let mut sender = gateway.owner(protocol);
        let mut other = gateway.owner(protocol);
        let waits = json!({"runId": "nobody-knows-it", "timeoutMs": 300});
        let waiting = sender.send("agent.wait", &waits);
        let text = format!(
            r#"{{"type":"req","id":"long","method":"cron.status","params":{{"x":"{}"}}}}"#,
            "x".repeat(1 << 20)
        );
        let message = Frame::new(Opcode::Text, text.into_bytes()).bytes();
        let (last, before) = message.split_last().unwrap();
        let mut writer = sender.socket.writer();
        writer.write_all(before).unwrap();
        other.call(
            "cron.add",
            &json!({"name": "n", "schedule": {"kind": "every", "everyMs": 3_600_000},
                "sessionTarget": "main", "payload": {"kind": "systemEvent", "text": "t"}}),
        );
        assert_eq!(sender.event("cron")["payload"]["action"], "added");
        let answer = sender.answer(&waiting);
        assert!(
            matches!(&answer, Call::Ok(payload) if payload["status"] == "timeout"),
            "{answer:?}"
        );
        writer.write_all(&[*last]).unwrap();
        let answer = sender.response();
        assert_eq!(answer["id"], "long");
        assert_eq!(answer["error"]["code"], "INVALID_REQUEST", "{answer}");
        // What comes after it is heard, and one that never ends does not keep the gateway.
        sender.call("health", &json!({}));
        writer.write_all(before).unwrap();
        other.call("health", &json!({}));
        gateway.terminate();
        assert_eq!(sender.closed(), Close::new(1012, "service restart"));
    }
}

#[test]
fn what_a_large_message_took_is_given_back_while_its_sender_stays() {
    let gateway = gateway!();
    let base = resident(&gateway);
    let text = format!(
        r#"{{"type":"req","id":"big","method":"health","params":{{"x":"{}"}}}}"#,
        "x".repeat(MESSAGE - 100)
    );
    let mut stay = Vec::new();
    for _ in 0..count(40, 10) {
        // Wire 3 sends no pings, which nobody here answers while others are looked after.
        let mut client = gateway.welcome(&quiet(3)).0;
        let answer = client.raw(&text);
        assert_eq!(answer["id"], "big", "{answer}");
        // What comes after it is heard as well.
        client.call("health", &json!({}));
        stay.push(client);
    }
    let now = resident(&gateway);
    println!("{} MiB before, {} MiB after", base / MIB, now / MIB);
    assert!(
        now < base + threads() * KEPT_OF_FREED + SLACK,
        "{} MiB",
        now / MIB
    );
    for client in &mut stay {
        client.call("health", &json!({}));
    }
}

#[test]
fn a_few_letters_that_stand_for_much_memory_are_refused_unread() {
    let gateway = gateway!();
    let watcher = Watcher::beside(&gateway);
    let mut client = gateway.owner(4);
    let base = resident(&gateway);
    for part in ["[0],", r#"{"":0},"#, "0,"] {
        let text = format!(
            r#"{{"type":"req","id":"many","method":"health","params":[{}0]}}"#,
            part.repeat((MESSAGE - 100) / part.len())
        );
        let answer = client.raw(&text);
        assert_eq!(answer["id"], "many");
        assert_eq!(answer["error"]["code"], "INVALID_REQUEST", "{answer}");
    }
    held_at_most("many values", &gateway, base, VALUES + 2 * MESSAGE as u64);
    watcher.was_served();
}
