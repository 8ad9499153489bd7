//! From a URL to hello-ok: TCP, TLS, upgrade, challenge, connect.

use std::{io, time::Duration};

use clawgate_protocol::{
    ReceivedError,
    connect::{LOCAL_PROOF_CAPABILITY, ReceivedHello},
    frame::{self, Received},
    proof::ProofText,
};
use futures_util::{SinkExt as _, StreamExt as _};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

use crate::{
    client::{ConnectOptions, Offer, Session, Timings},
    clock, driver,
    endpoint::{EndpointError, parse_fingerprint},
    error::{ClientError, CloseInfo, Waiting},
    tls,
};

/// Above the gateway's own limit, so that what it may send is never refused here.
const MESSAGE_BYTES_MAX: usize = frame::PAYLOAD_BYTES_MAX + 1024 * 1024;
/// How long a refused connect waits for the close that tells code and reason.
const CLOSE_AFTER_REFUSAL: Duration = Duration::from_millis(300);
const CONNECT_ID: &str = "connect";

/// Connects once, with exactly what is offered.
///
/// # Errors
/// [`ClientError`]; which variant says how far it came.
pub async fn connect(options: &ConnectOptions<'_>, offer: &Offer) -> Result<Session, ClientError> {
    let endpoint = options.endpoint;
    endpoint.check_plaintext(options.allow_private_plaintext)?;
    let pinned = options.tls_fingerprint.map(parse_fingerprint).transpose()?;
    if pinned.is_some() && !endpoint.is_secure() {
        return Err(EndpointError::FingerprintWithoutTls(endpoint.to_string()).into());
    }
    let started = clock::instant();
    let deadline = started + options.handshake_within;
    let tcp = until(deadline, options, Waiting::Connection, dial(options)).await?;
    let tcp = tcp.map_err(|source| ClientError::Connect { source })?;
    if endpoint.is_secure() {
        let wrapped = tls::wrap(tcp, endpoint.host(), pinned);
        let stream = until(deadline, options, Waiting::Connection, wrapped).await?;
        let stream = stream.map_err(|source| ClientError::Connect { source })?;
        Box::pin(greet(stream, options, offer, started)).await
    } else {
        Box::pin(greet(tcp, options, offer, started)).await
    }
}

async fn dial(options: &ConnectOptions<'_>) -> io::Result<TcpStream> {
    let mut failure = None;
    for host in options.endpoint.dial_hosts() {
        match TcpStream::connect((host, options.endpoint.port())).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            // The first address is the one that a person expects to read about.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

async fn until<T>(
    deadline: Instant,
    options: &ConnectOptions<'_>,
    waiting: Waiting,
    future: impl Future<Output = T>,
) -> Result<T, ClientError> {
    timeout_at(deadline, future)
        .await
        .map_err(|_| ClientError::Timeout {
            waiting,
            after: options.handshake_within,
        })
}

async fn greet<S>(
    stream: S,
    options: &ConnectOptions<'_>,
    offer: &Offer,
    started: Instant,
) -> Result<Session, ClientError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let deadline = started + options.handshake_within;
    let connected = clock::instant() - started;
    let config = WebSocketConfig::default()
        .read_buffer_size(32 * 1024)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let upgrade = client_async_with_config(options.endpoint.request_url(), stream, Some(config));
    let (mut socket, _) = until(deadline, options, Waiting::Upgrade, upgrade)
        .await?
        .map_err(upgrade_error)?;

    let challenge = until(
        deadline,
        options,
        Waiting::Challenge,
        challenge(&mut socket),
    )
    .await??;
    let challenged = clock::instant() - started;
    let params = connect_params(options, offer, &challenge)?;
    let text = frame::request(CONNECT_ID, "connect", Some(&params.to_string()));
    socket
        .send(Message::text(text))
        .await
        .map_err(|error| transport(&error))?;
    let hello = until(deadline, options, Waiting::Hello, hello(&mut socket)).await??;
    let timings = Timings {
        connected,
        challenged,
        hello: clock::instant() - started,
    };
    Ok(Session::start(
        socket,
        hello,
        &options.scopes,
        timings,
        options.answer_within,
    ))
}

struct Challenge {
    nonce: String,
    /// The gateway's clock: signing with it leaves no room for a skewed clock here.
    ts: u64,
    takes_local_proof: bool,
}

impl Challenge {
    fn of(payload: &Value) -> Result<Self, ClientError> {
        let nonce = payload["nonce"].as_str().unwrap_or_default();
        if nonce.is_empty() {
            return Err(ClientError::Protocol(
                "a challenge without a nonce".to_owned(),
            ));
        }
        let capabilities = payload["capabilities"].as_array();
        Ok(Self {
            nonce: nonce.to_owned(),
            ts: payload["ts"].as_u64().unwrap_or_else(clock::now_ms),
            takes_local_proof: capabilities
                .into_iter()
                .flatten()
                .any(|name| name == LOCAL_PROOF_CAPABILITY),
        })
    }
}

/// The connect request of somebody who has a WebSocket of their own, for the text of the challenge that
/// came over it: what [`connect`] would say.
///
/// # Errors
/// The challenge does not read, or a proof that is offered is not taken there.
pub fn connect_text(
    options: &ConnectOptions<'_>,
    offer: &Offer,
    challenge: &str,
) -> Result<String, ClientError> {
    let Ok(Received::Event { event, payload, .. }) = serde_json::from_str(challenge) else {
        return Err(ClientError::Protocol(
            "a message that is no challenge".to_owned(),
        ));
    };
    if event != "connect.challenge" {
        return Err(ClientError::Protocol(format!("a {event} for a challenge")));
    }
    let params = connect_params(options, offer, &Challenge::of(&payload)?)?;
    Ok(frame::request(
        CONNECT_ID,
        "connect",
        Some(&params.to_string()),
    ))
}

async fn challenge<S>(socket: &mut WebSocketStream<S>) -> Result<Challenge, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let Received::Event { event, payload, .. } = receive(socket).await? else {
            return Err(ClientError::Protocol(
                "an answer before any question".to_owned(),
            ));
        };
        if event != "connect.challenge" {
            continue;
        }
        return Challenge::of(&payload);
    }
}

fn connect_params(
    options: &ConnectOptions<'_>,
    offer: &Offer,
    challenge: &Challenge,
) -> Result<Value, ClientError> {
    let identity = options.identity;
    let platform = platform();
    let token = offer.token.as_ref().or(offer.device_token.as_ref());
    let (client_id, role) = (options.mode.client_id(), options.mode.role().as_str());
    let proof = ProofText {
        device_id: identity.device_id(),
        client_id,
        client_mode: options.mode.as_str(),
        role,
        scopes: &options.scopes.joined(),
        signed_at_ms: challenge.ts,
        token: token.map(|token| token.expose_secret()).unwrap_or_default(),
        nonce: &challenge.nonce,
        platform,
        device_family: "",
    };
    let mut params = json!({
        "minProtocol": 3,
        "maxProtocol": 4,
        "client": {
            "id": client_id,
            "version": options.version,
            "platform": platform,
            "mode": options.mode.as_str(),
            "instanceId": uuid::Uuid::new_v4().to_string(),
        },
        "caps": options.caps,
        "role": role,
        "scopes": options.scopes,
        "device": {
            "id": identity.device_id(),
            "publicKey": identity.public_key(),
            "signature": identity.sign(&proof),
            "signedAt": challenge.ts,
            "nonce": challenge.nonce,
        },
    });
    if let Some(node) = &options.node {
        if let Some(name) = &node.display_name {
            params["client"]["displayName"] = name.as_str().into();
        }
        if let Some(id) = &node.instance_id {
            params["client"]["instanceId"] = id.as_str().into();
        }
        if let Some(path) = &node.path_env {
            params["pathEnv"] = path.as_str().into();
        }
        params["caps"] = json!(node.caps);
        params["commands"] = json!(node.commands);
    }
    let mut auth = serde_json::Map::new();
    for (name, secret) in [
        ("token", &offer.token),
        ("deviceToken", &offer.device_token),
        ("password", &offer.password),
    ] {
        if let Some(secret) = secret {
            auth.insert(name.to_owned(), secret.expose_secret().into());
        }
    }
    if let Some(key) = &offer.local_key {
        if !challenge.takes_local_proof || !options.endpoint.is_loopback() {
            return Err(ClientError::NoLocalProof);
        }
        let proof = key.prove(&challenge.nonce, role, &options.scopes);
        auth.insert("localProof".to_owned(), proof.into());
    }
    if !auth.is_empty() {
        params["auth"] = Value::Object(auth);
    }
    Ok(params)
}

/// The platform in the words of the original, which a pairing pins.
fn platform() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        "windows" => "win32",
        other => other,
    }
}

async fn hello<S>(socket: &mut WebSocketStream<S>) -> Result<ReceivedHello, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let Received::Res {
            id,
            ok,
            payload,
            error,
        } = receive(socket).await?
        else {
            continue;
        };
        if !ok {
            return Err(ClientError::Rejected {
                error: Box::new(error.unwrap_or_else(|| ReceivedError {
                    code: String::new(),
                    message: "the gateway refused without saying why".to_owned(),
                    details: None,
                    retryable: None,
                    retry_after_ms: None,
                })),
                close: refusal_close(socket).await,
            });
        }
        if id != CONNECT_ID || payload["type"] != "hello-ok" {
            return Err(ClientError::Protocol(
                "an answer to connect that is no hello-ok".to_owned(),
            ));
        }
        let hello: ReceivedHello = serde_json::from_value(payload).map_err(|error| {
            ClientError::Protocol(format!("a hello-ok that does not read: {error}"))
        })?;
        if !(3..=4).contains(&hello.protocol) {
            let protocol = hello.protocol;
            return Err(ClientError::Protocol(format!(
                "a hello of wire version {protocol}"
            )));
        }
        return Ok(hello);
    }
}

async fn refusal_close<S>(socket: &mut WebSocketStream<S>) -> Option<CloseInfo>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let closing = async {
        loop {
            match receive(socket).await {
                Ok(_) => {}
                Err(ClientError::Closed { close, .. }) => return Some(close),
                Err(_) => return None,
            }
        }
    };
    timeout(CLOSE_AFTER_REFUSAL, closing).await.ok().flatten()
}

async fn receive<S>(socket: &mut WebSocketStream<S>) -> Result<Received, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let message = match socket.next().await {
            Some(message) => message.map_err(|error| transport(&error))?,
            None => return Err(closed(CloseInfo::default())),
        };
        let text = match &message {
            Message::Text(text) => text.as_str(),
            Message::Binary(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
            Message::Close(frame) => return Err(closed(driver::close_info(frame.as_ref()))),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        return serde_json::from_str(text)
            .map_err(|_| ClientError::Protocol("a message that is no gateway frame".to_owned()));
    }
}

fn closed(close: CloseInfo) -> ClientError {
    ClientError::Closed {
        close,
        after_hello: false,
    }
}

fn transport(error: &tungstenite::Error) -> ClientError {
    if let tungstenite::Error::Capacity(_) = error {
        return ClientError::Protocol("a message above this client's limit".to_owned());
    }
    closed(CloseInfo::default())
}

fn upgrade_error(error: tungstenite::Error) -> ClientError {
    let tungstenite::Error::Http(response) = error else {
        return ClientError::Protocol(format!("no WebSocket there: {error}"));
    };
    let body = response.body().as_deref().unwrap_or_default();
    ClientError::Upgrade {
        status: response.status().as_u16(),
        body: String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned(),
    }
}
