//! Where a gateway is: a URL, taken apart and judged before any byte is sent.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use tokio_tungstenite::tungstenite::http::Uri;

/// A gateway's address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    secure: bool,
    host: String,
    port: u16,
    path: String,
    query: Option<String>,
}

/// Why a URL may not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is no `ws://` or `wss://` URL with a host.
    #[error("not a gateway URL (expected ws://HOST:PORT or wss://HOST:PORT): {0}")]
    Malformed(&'static str),
    /// It holds a user name or password.
    #[error("a gateway URL must not hold credentials; pass --token or --password instead")]
    Credentials,
    /// It is plaintext to another machine.
    #[error("{0} is plaintext to another machine; credentials would travel readable")]
    Plaintext(String),
    /// A certificate is pinned and the URL is not `wss://`.
    #[error("a pinned TLS fingerprint needs a wss:// URL, not {0}")]
    FingerprintWithoutTls(String),
    /// The pinned fingerprint is not a SHA-256.
    #[error("a TLS fingerprint is 64 hex digits of SHA-256, with or without colons")]
    Fingerprint,
}

impl Endpoint {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// [`EndpointError::Malformed`] or [`EndpointError::Credentials`]; the text itself is not
    /// repeated, because it may hold a secret.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let uri: Uri = url
            .trim()
            .parse()
            .map_err(|_| EndpointError::Malformed("it does not parse as a URL"))?;
        let scheme = uri
            .scheme_str()
            .ok_or(EndpointError::Malformed("it has no scheme"))?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" => false,
            "wss" => true,
            _ => return Err(EndpointError::Malformed("the scheme is neither ws nor wss")),
        };
        let authority = uri
            .authority()
            .ok_or(EndpointError::Malformed("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(EndpointError::Credentials);
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err(EndpointError::Malformed("it has no host"));
        }
        // `port()` is silent about a number that is no port.
        let written = authority.as_str().rsplit(']').next().unwrap_or_default();
        let port = match written.split_once(':') {
            None if secure => 443,
            None => 80,
            Some((_, port)) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or(EndpointError::Malformed("the port is not from 1 to 65535"))?,
        };
        Ok(Self {
            secure,
            host: host.to_ascii_lowercase(),
            port,
            path: uri.path().to_owned(),
            query: uri.query().map(ToOwned::to_owned),
        })
    }

    /// The gateway of this machine on a port.
    pub fn local(port: u16) -> Self {
        Self {
            secure: false,
            host: "127.0.0.1".to_owned(),
            port,
            path: "/".to_owned(),
            query: None,
        }
    }

    /// Host without brackets, lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port, always filled in.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is `wss://`.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The key under which secrets of this endpoint are kept: scheme, host, port and path in one
    /// spelling, `localhost` and the loopback addresses alike, without a query.
    pub fn key(&self) -> String {
        let host = if self.is_loopback() {
            "127.0.0.1".to_owned()
        } else {
            self.bracketed_host()
        };
        let scheme = self.scheme();
        let path = self.path.trim_end_matches('/');
        format!("{scheme}://{host}:{}{path}", self.port)
    }

    /// Whether the host is this machine by address or as `localhost`, whatever DNS says.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.ip().is_some_and(|ip| canonical(ip).is_loopback())
    }

    /// Whether the host is an address of a private range.
    pub fn is_private_address(&self) -> bool {
        self.ip().is_some_and(|ip| match canonical(ip) {
            IpAddr::V4(ip) => is_private_v4(ip),
            IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
        })
    }

    /// Refuses plaintext to another machine.
    ///
    /// # Errors
    /// [`EndpointError::Plaintext`], unless `allow_private` is set and the host is an address of
    /// a private range.
    pub fn check_plaintext(&self, allow_private: bool) -> Result<(), EndpointError> {
        if self.secure || self.is_loopback() || (allow_private && self.is_private_address()) {
            return Ok(());
        }
        Err(EndpointError::Plaintext(self.to_string()))
    }

    /// What to resolve and connect to, in order. `localhost` never reaches DNS.
    pub fn dial_hosts(&self) -> Vec<&str> {
        if self.host == "localhost" {
            vec!["127.0.0.1", "::1"]
        } else {
            vec![&self.host]
        }
    }

    /// URL of the upgrade request.
    pub fn request_url(&self) -> String {
        let scheme = self.scheme();
        let host = self.bracketed_host();
        let query = self
            .query
            .as_deref()
            .map(|q| format!("?{q}"))
            .unwrap_or_default();
        format!("{scheme}://{host}:{}{}{query}", self.port, self.path)
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "wss" } else { "ws" }
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    fn bracketed_host(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }
}

/// As it is shown: without a query, which may hold a secret.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.trim_end_matches('/');
        write!(
            f,
            "{}://{}:{}{path}",
            self.scheme(),
            self.bracketed_host(),
            self.port
        )
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

fn canonical(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
    }
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    ip.is_private() || ip.is_link_local() || (a == 100 && (64..128).contains(&b))
}

/// Reads a pinned SHA-256, with or without colons and a `sha256:` in front.
///
/// # Errors
/// [`EndpointError::Fingerprint`].
pub(crate) fn parse_fingerprint(text: &str) -> Result<[u8; 32], EndpointError> {
    let text = text.trim();
    let text = text
        .strip_prefix("sha256:")
        .or_else(|| text.strip_prefix("SHA256:"))
        .unwrap_or(text);
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    hex_bytes(&digits).ok_or(EndpointError::Fingerprint)
}

/// 32 bytes from 64 hex digits.
pub(crate) fn hex_bytes(digits: &[u8]) -> Option<[u8; 32]> {
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let text = std::str::from_utf8(pair).ok()?;
        if !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(text, 16).ok()?;
    }
    Some(bytes)
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_endpoint_have_one_key() {
        for url in [
            "ws://127.0.0.1:18789",
            "ws://127.0.0.1:18789/",
            "ws://localhost:18789",
            "WS://LOCALHOST:18789/",
            "ws://[::1]:18789",
            "ws://127.0.0.1:18789/?token=x",
        ] {
            assert_eq!(
                Endpoint::parse(url).unwrap().key(),
                "ws://127.0.0.1:18789",
                "{url}"
            );
        }
        assert_eq!(Endpoint::local(18789).key(), "ws://127.0.0.1:18789");
        let remote = Endpoint::parse("wss://Gate.Example/claw/").unwrap();
        assert_eq!(remote.key(), "wss://gate.example:443/claw");
        assert_ne!(
            remote.key(),
            Endpoint::parse("wss://gate.example:8443/claw")
                .unwrap()
                .key()
        );
    }

    #[test]
    fn what_is_no_gateway_url_is_refused_without_repeating_it() {
        for url in [
            "",
            "127.0.0.1:1",
            "http://h:1",
            "ws://",
            "ws:///x",
            "ws://h:0",
            "ws://h:99999",
        ] {
            let error = Endpoint::parse(url).unwrap_err();
            assert!(
                matches!(error, EndpointError::Malformed(_)),
                "{url}: {error:?}"
            );
        }
        let error = Endpoint::parse("wss://me:canary@host:1").unwrap_err();
        assert_eq!(error, EndpointError::Credentials);
        assert!(!error.to_string().contains("canary"));
    }

    #[test]
    fn a_query_is_never_shown() {
        let endpoint = Endpoint::parse("wss://h/?token=canary").unwrap();
        assert!(!endpoint.to_string().contains("canary"));
        assert!(!format!("{endpoint:?}").contains("canary"));
        assert!(endpoint.request_url().contains("canary"));
    }

    #[test]
    fn plaintext_stays_on_this_machine() {
        let check = |url: &str, allow| Endpoint::parse(url).unwrap().check_plaintext(allow).is_ok();
        for url in [
            "ws://127.0.0.1:1",
            "ws://127.9.9.9:1",
            "ws://[::1]:1",
            "ws://localhost:1",
            "ws://[::ffff:127.0.0.1]:1",
            "wss://example.org",
        ] {
            assert!(check(url, false), "{url}");
        }
        for url in [
            "ws://10.0.0.7:1",
            "ws://192.168.1.2:1",
            "ws://100.64.0.1:1",
            "ws://[fd00::1]:1",
        ] {
            assert!(!check(url, false), "{url}");
            assert!(check(url, true), "{url}");
        }
        for url in [
            "ws://example.org",
            "ws://8.8.8.8",
            "ws://127.0.0.1.example.org",
            "ws://localhost.example",
            "ws://100.128.0.1",
        ] {
            assert!(!check(url, true), "{url}");
        }
    }

    #[test]
    fn fingerprints_are_read_with_and_without_colons() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(parse_fingerprint(&plain).unwrap(), [0xab; 32]);
        assert_eq!(parse_fingerprint(&colons).unwrap(), [0xab; 32]);
        assert_eq!(
            parse_fingerprint(&format!("sha256:{plain}")).unwrap(),
            [0xab; 32]
        );
        assert!(parse_fingerprint("abc").is_err());
        assert!(parse_fingerprint(&"+f".repeat(32)).is_err());
    }
}
