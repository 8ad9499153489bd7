//! Outbound: one HTTP request to an address that an operator named.
//!
//! The guard looks at the very address that is dialled, after the name was resolved, because a
//! name says nothing about where it leads. Redirects are not followed, no proxy of the
//! environment is used, and of an answer only the status counts.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::http::{HeaderValue, Request, StatusCode, Uri, header};
use bytes::Bytes;
use clawgate_core::delivery::{Attempt, DialPolicy};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

use crate::VERSION;

/// How long a request may take in all, the original's bound.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a page may take in all.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// The one way out.
pub(crate) struct Outbound {
    policy: DialPolicy,
    /// What is said to whom an address is refused, after the reason.
    hint: &'static str,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// A JSON text to post.
pub(crate) struct Post<'a> {
    pub url: &'a str,
    pub bearer: Option<&'a SecretString>,
    /// The same at every attempt.
    pub idempotency_key: &'a str,
    pub body: String,
}

/// What became of it, for decisions and for people.
#[derive(Debug)]
pub(crate) struct Sent {
    pub attempt: Attempt,
    pub words: String,
}

impl Sent {
    fn unreachable(words: String) -> Self {
        Self {
            attempt: Attempt::Unreachable,
            words,
        }
    }

    fn forbidden(words: String) -> Self {
        Self {
            attempt: Attempt::Forbidden,
            words,
        }
    }
}

/// What was answered to a question for a page.
#[derive(Debug)]
pub(crate) struct Page {
    pub status: u16,
    /// Where a redirect leads, as it was written.
    pub location: Option<String>,
    /// Lower case.
    pub content_type: String,
    pub body: Vec<u8>,
    /// Whether there was more of the body.
    pub is_cut: bool,
}

/// A web address that can be dialled.
struct Target {
    uri: Uri,
    host: String,
    port: u16,
    secure: bool,
}

impl Target {
    fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }

    fn authority(&self) -> &str {
        self.uri
            .authority()
            .map_or("", |authority| authority.as_str())
    }
}

/// Host of a web address, for counting who is busy.
pub(crate) fn host_of(url: &str) -> String {
    target(url).map_or_else(|_| url.to_owned(), |target| target.host)
}

/// Whether a text is a web address that could be posted to.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_url(url: &str) -> Result<(), &'static str> {
    target(url).map(drop)
}

fn target(url: &str) -> Result<Target, &'static str> {
    let uri: Uri = url.trim().parse().map_err(|_| "it is not a URL")?;
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("it must begin with http:// or https://"),
    };
    let authority = uri.authority().ok_or("it names no host")?;
    if authority.as_str().contains('@') {
        return Err("it must not hold a user or password");
    }
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_ascii_lowercase();
    if host.is_empty() {
        return Err("it names no host");
    }
    let port = authority
        .port_u16()
        .unwrap_or(if secure { 443 } else { 80 });
    Ok(Target {
        uri,
        host,
        port,
        secure,
    })
}

impl Outbound {
    pub(crate) fn new(policy: DialPolicy) -> Self {
        Self {
            policy,
            hint: "; to send there all the same, list it in \
                   cron.webhookSsrfPolicy.allowedHostnames",
            tls: OnceLock::new(),
        }
    }

    /// The same for pages that are read.
    pub(crate) fn for_pages(policy: DialPolicy) -> Self {
        Self {
            hint: "",
            ..Self::new(policy)
        }
    }

    /// Posts a JSON text, once.
    pub(crate) async fn post(&self, post: Post<'_>) -> Sent {
        match tokio::time::timeout(TIMEOUT, self.dial_and_post(post)).await {
            Ok(Ok(sent) | Err(sent)) => sent,
            Err(_) => Sent::unreachable(format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }

    async fn dial_and_post(&self, post: Post<'_>) -> Result<Sent, Sent> {
        let target = target(post.url).map_err(|why| Sent::forbidden(why.to_owned()))?;
        let (stream, address) = self.dial(&target).await?;
        if !target.secure {
            return exchange(stream, address, &target, post).await;
        }
        let stream = self.secured(&target, stream, address).await?;
        exchange(stream, address, &target, post).await
    }

    /// Asks for a page, once. Redirects are given back and not followed: where they lead is judged
    /// like any other address. Of a body no more than `max` bytes is taken.
    pub(crate) async fn get(
        &self,
        url: &str,
        headers: &[(&str, &SecretString)],
        max: usize,
    ) -> Result<Page, Sent> {
        let asked = tokio::time::timeout(PAGE_TIMEOUT, self.dial_and_get(url, headers, max));
        asked.await.unwrap_or_else(|_| {
            let words = format!("no whole answer within {} s", PAGE_TIMEOUT.as_secs());
            Err(Sent::unreachable(words))
        })
    }

    async fn dial_and_get(
        &self,
        url: &str,
        headers: &[(&str, &SecretString)],
        max: usize,
    ) -> Result<Page, Sent> {
        let target = target(url).map_err(|why| Sent::forbidden(why.to_owned()))?;
        let (stream, address) = self.dial(&target).await?;
        let mut request = Request::get(target.path())
            .header(header::HOST, target.authority())
            .header(header::ACCEPT, "text/html, text/plain;q=0.9, */*;q=0.5")
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::USER_AGENT, format!("clawgate/{VERSION}"));
        for (name, value) in headers {
            let mut value = HeaderValue::try_from(value.expose_secret())
                .map_err(|_| Sent::forbidden(format!("{name} holds what no header can")))?;
            value.set_sensitive(true);
            request = request.header(*name, value);
        }
        let request = request
            .body(Full::new(Bytes::new()))
            .map_err(|error| Sent::forbidden(format!("it cannot be asked for: {error}")))?;
        if !target.secure {
            return page(stream, address, request, max).await;
        }
        let stream = self.secured(&target, stream, address).await?;
        page(stream, address, request, max).await
    }

    async fn secured(
        &self,
        target: &Target,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Sent> {
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| Sent::forbidden("its host is no name that TLS knows".to_owned()))?;
        TlsConnector::from(self.tls())
            .connect(name, stream)
            .await
            .map_err(|error| Sent::unreachable(format!("TLS with {address} failed: {error}")))
    }

    /// Connects to the first address of the target that may be dialled and answers.
    async fn dial(&self, target: &Target) -> Result<(TcpStream, SocketAddr), Sent> {
        let found: Vec<SocketAddr> = match target.host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, target.port)],
            Err(_) => tokio::net::lookup_host((target.host.as_str(), target.port))
                .await
                .map_err(|error| {
                    Sent::unreachable(format!("{} does not resolve: {error}", target.host))
                })?
                .collect(),
        };
        let allowed: Vec<SocketAddr> = found
            .iter()
            .copied()
            .filter(|address| self.policy.may_dial(&target.host, address.ip()))
            .collect();
        if allowed.is_empty() {
            let Some(first) = found.first() else {
                return Err(Sent::unreachable(format!("{} has no address", target.host)));
            };
            let ip = first.ip().to_string();
            let leads = if ip == target.host {
                String::new()
            } else {
                format!("leads to {ip}, which ")
            };
            return Err(Sent::forbidden(format!(
                "{} {leads}is not on the public internet{}",
                target.host, self.hint
            )));
        }
        let mut last = String::new();
        for address in allowed {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => last = format!("connecting to {address} failed: {error}"),
            }
        }
        Err(Sent::unreachable(last))
    }

    fn tls(&self) -> Arc<ClientConfig> {
        let made = self.tls.get_or_init(|| {
            let roots = RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            };
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("the provider has the default protocol versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
            Arc::new(config)
        });
        Arc::clone(made)
    }
}

/// One request and the head of its answer.
async fn exchange<S>(
    stream: S,
    address: SocketAddr,
    target: &Target,
    post: Post<'_>,
) -> Result<Sent, Sent>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| Sent::unreachable(format!("HTTP with {address}: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let request = request(target, post)
        .map_err(|error| Sent::forbidden(format!("it cannot be asked for: {error}")))?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let retry_after_ms = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse::<i64>().ok())
            .map(|seconds| seconds.saturating_mul(1_000));
        // What it says is not looked at; a first piece is taken so that it can finish saying it.
        let _ = response.into_body().frame().await;
        Ok::<_, Sent>((status, retry_after_ms))
    };
    // The connection is driven here, so that it ends with this call whatever happens. Its own end
    // says nothing: an answer may have come with it.
    let driven = async {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    let (status, retry_after_ms) = tokio::select! {
        answered = answered => answered?,
        never = driven => match never {},
    };
    let words = match status.canonical_reason() {
        Some(reason) => format!("HTTP {} {reason} from {address}", status.as_u16()),
        None => format!("HTTP {} from {address}", status.as_u16()),
    };
    let words = if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
        format!("{words}; redirects are not followed")
    } else {
        words
    };
    Ok(Sent {
        attempt: Attempt::Answered {
            status: status.as_u16(),
            retry_after_ms,
        },
        words,
    })
}

/// One request and as much of its answer as is wanted.
async fn page<S>(
    stream: S,
    address: SocketAddr,
    request: Request<Full<Bytes>>,
    max: usize,
) -> Result<Page, Sent>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| Sent::unreachable(format!("HTTP with {address}: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let text = |name| {
            let value = response.headers().get(name)?;
            Some(value.to_str().ok()?.trim().to_owned())
        };
        let mut page = Page {
            status: response.status().as_u16(),
            location: text(header::LOCATION),
            content_type: text(header::CONTENT_TYPE)
                .unwrap_or_default()
                .to_ascii_lowercase(),
            body: Vec::new(),
            is_cut: false,
        };
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(failed)?.into_data() else {
                continue;
            };
            let room = max - page.body.len();
            page.body.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                page.is_cut = true;
                break;
            }
        }
        Ok(page)
    };
    let driven = async {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        answered = answered => answered,
        never = driven => match never {},
    }
}

fn request(target: &Target, post: Post<'_>) -> Result<Request<Full<Bytes>>, axum::http::Error> {
    let mut request = Request::post(target.path())
        .header(header::HOST, target.authority())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, format!("clawgate/{VERSION}"))
        .header("idempotency-key", post.idempotency_key);
    if let Some(bearer) = post.bearer {
        let mut value = HeaderValue::try_from(format!("Bearer {}", bearer.expose_secret()))?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    request.body(Full::new(Bytes::from(post.body)))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    fn post<'a>(url: &'a str, bearer: Option<&'a SecretString>) -> Post<'a> {
        Post {
            url,
            bearer,
            idempotency_key: "run:result",
            body: r#"{"a":1}"#.to_owned(),
        }
    }

    fn open() -> Outbound {
        Outbound::new(DialPolicy {
            allowed_hosts: Vec::new(),
            private_networks: true,
        })
    }

    /// Answers one request with a text, and gives back what was asked.
    async fn server(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = Vec::new();
            let mut chunk = [0; 1024];
            while !text.ends_with(b"}") {
                let read = stream.read(&mut chunk).await.unwrap();
                text.extend_from_slice(&chunk[..read]);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(text).unwrap()
        });
        (port, asked)
    }

    #[tokio::test]
    async fn a_text_is_posted_with_its_token_and_key() {
        let (port, asked) = server("HTTP/1.1 204 No Content\r\n\r\n").await;
        let url = format!("http://127.0.0.1:{port}/hook?x=1");
        let token = SecretString::from("the-token".to_owned());
        let sent = open().post(post(&url, Some(&token))).await;
        assert_eq!(
            sent.attempt,
            Attempt::Answered {
                status: 204,
                retry_after_ms: None
            }
        );
        let asked = asked.await.unwrap().to_ascii_lowercase();
        assert!(asked.starts_with("post /hook?x=1 http/1.1\r\n"), "{asked}");
        for line in [
            "authorization: bearer the-token",
            "idempotency-key: run:result",
            "content-type: application/json",
            "content-length: 7",
            &format!("host: 127.0.0.1:{port}"),
        ] {
            assert!(asked.contains(line), "{line} in {asked}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let (port, _asked) =
            server("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n").await;
        let url = format!("http://127.0.0.1:{port}/");
        let sent = open().post(post(&url, None)).await;
        assert!(matches!(
            sent.attempt,
            Attempt::Answered { status: 302, .. }
        ));
        assert!(sent.words.contains("not followed"), "{}", sent.words);
    }

    #[tokio::test]
    async fn the_wished_pause_is_read() {
        let (port, _asked) =
            server("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
                .await;
        let url = format!("http://127.0.0.1:{port}/");
        assert_eq!(
            open().post(post(&url, None)).await.attempt,
            Attempt::Answered {
                status: 429,
                retry_after_ms: Some(7_000)
            }
        );
    }

    #[tokio::test]
    async fn an_address_that_is_not_public_is_not_even_dialled() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let guarded = Outbound::new(DialPolicy::default());
        for host in [
            "127.0.0.1",
            "localhost",
            "2130706433",
            "0x7f.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            let url = format!("http://{host}:{port}/");
            let sent = guarded.post(post(&url, None)).await;
            // A resolver that does not know such spellings leads nowhere, which is as good.
            assert!(
                matches!(sent.attempt, Attempt::Forbidden | Attempt::Unreachable),
                "{host}: {sent:?}"
            );
        }
        let dialled = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        assert!(dialled.is_err(), "somebody knocked");
    }

    #[tokio::test]
    async fn what_cannot_be_a_target_is_named() {
        for (url, why) in [
            ("ftp://example.org/", "must begin with"),
            ("http://user:pass@example.org/", "user or password"),
            ("not a url", "not a URL"),
            ("/path", "must begin with"),
        ] {
            let sent = open().post(post(url, None)).await;
            assert_eq!(sent.attempt, Attempt::Forbidden, "{url}");
            assert!(sent.words.contains(why), "{url}: {}", sent.words);
            assert!(!sent.words.contains("pass@"), "{}", sent.words);
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let url = format!("http://127.0.0.1:{port}/");
        let sent = open().post(post(&url, None)).await;
        assert_eq!(sent.attempt, Attempt::Unreachable, "{}", sent.words);
    }
}
