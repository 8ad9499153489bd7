//! Where a request comes from: the socket's peer and the headers that proxies add.

use std::net::{IpAddr, Ipv6Addr};

use crate::authz::Peer;

/// The headers of a request that speak of its way here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forwarding<'a> {
    /// `X-Forwarded-For`, all of its lines joined with a comma.
    pub forwarded_for: Option<&'a str>,
    /// `X-Real-IP`.
    pub real_ip: Option<&'a str>,
    /// Whether any proxy-shaped header is there: `Forwarded`, `X-Real-IP`, any `X-Forwarded-*`,
    /// the Tailscale identity headers.
    pub any: bool,
    /// Whether `Host` names this machine: `localhost` or a loopback address.
    pub host_is_loopback: bool,
}

/// The verdict about a request's way here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Direct, proxied, vouched for or remote.
    pub peer: Peer,
    /// The client's address: the socket's, or the one that a trusted proxy names; unknown when
    /// the proxy names none.
    pub client: Option<IpAddr>,
}

/// Judges the way. `is_trusted` says whether an address is one of `gateway.trustedProxies`.
///
/// Direct loopback needs a loopback socket, no proxy-shaped header at all, a `Host` that names
/// this machine, and an address that is not a trusted proxy. `Host` can thus only take
/// authority away: a page that resolves its own name to 127.0.0.1 is not direct.
pub fn judge(
    socket: IpAddr,
    forwarding: &Forwarding<'_>,
    is_trusted: impl Fn(IpAddr) -> bool,
    allow_real_ip: bool,
) -> Way {
    let socket = socket.to_canonical();
    if is_trusted(socket) {
        // Also without any header: what comes from a proxy's address is never direct.
        return Way {
            peer: Peer::TrustedProxy,
            client: behind(forwarding, &is_trusted, allow_real_ip),
        };
    }
    let peer = if !socket.is_loopback() {
        Peer::Remote
    } else if forwarding.any || !forwarding.host_is_loopback {
        Peer::LoopbackProxied
    } else {
        Peer::LoopbackDirect
    };
    Way {
        peer,
        client: Some(socket),
    }
}

/// The right-most address of the chain that is not itself a trusted proxy.
fn behind(
    forwarding: &Forwarding<'_>,
    is_trusted: &impl Fn(IpAddr) -> bool,
    allow_real_ip: bool,
) -> Option<IpAddr> {
    if let Some(chain) = forwarding.forwarded_for {
        for part in chain.rsplit(',') {
            // An unreadable hop ends the chain: what stands left of it cannot be trusted.
            let address = parse_address(part.trim())?;
            if !is_trusted(address) {
                return Some(address);
            }
        }
    }
    if allow_real_ip {
        return forwarding
            .real_ip
            .and_then(|text| parse_address(text.trim()));
    }
    None
}

fn parse_address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return Some(socket.ip().to_canonical());
    }
    text.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .and_then(|inner| inner.parse::<IpAddr>().ok())
        .map(|address| address.to_canonical())
}

/// What one caller cannot leave: an IPv4 address, and the /64 of an IPv6 address, out of which one
/// machine may take as many addresses as it likes.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Whether a `Host` header names this machine.
pub fn host_is_loopback(host: &str) -> bool {
    let host = host.trim();
    let name = if let Some(rest) = host.strip_prefix('[') {
        match rest.split_once(']') {
            Some((name, _)) => name,
            None => return false,
        }
    } else {
        host.rsplit_once(':').map_or(host, |(name, port)| {
            if port.bytes().all(|b| b.is_ascii_digit()) && !name.contains(':') {
                name
            } else {
                host
            }
        })
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(
        socket: &str,
        forwarded_for: Option<&str>,
        any: bool,
        host: &str,
        trusted: &[&str],
    ) -> Way {
        let trusted: Vec<IpAddr> = trusted.iter().map(|t| t.parse().unwrap()).collect();
        let forwarding = Forwarding {
            forwarded_for,
            real_ip: None,
            any: any || forwarded_for.is_some(),
            host_is_loopback: host_is_loopback(host),
        };
        judge(
            socket.parse().unwrap(),
            &forwarding,
            |ip| trusted.contains(&ip),
            false,
        )
    }

    #[test]
    fn only_a_bare_loopback_request_is_direct() {
        let local = "127.0.0.1:18789";
        assert_eq!(
            way("127.0.0.1", None, false, local, &[]).peer,
            Peer::LoopbackDirect
        );
        assert_eq!(
            way("::1", None, false, "[::1]:1", &[]).peer,
            Peer::LoopbackDirect
        );
        assert_eq!(
            way("::ffff:127.0.0.1", None, false, "localhost", &[]).peer,
            Peer::LoopbackDirect
        );
        assert_eq!(
            way("127.0.0.1", None, true, local, &[]).peer,
            Peer::LoopbackProxied
        );
        assert_eq!(
            way("127.0.0.1", Some("127.0.0.1"), true, local, &[]).peer,
            Peer::LoopbackProxied
        );
        assert_eq!(
            way("127.0.0.1", None, false, "evil.example", &[]).peer,
            Peer::LoopbackProxied
        );
        assert_eq!(
            way("127.0.0.1", None, false, "x.ts.net", &[]).peer,
            Peer::LoopbackProxied
        );
        assert_eq!(
            way("127.0.0.1", None, false, local, &["127.0.0.1"]).peer,
            Peer::TrustedProxy
        );
        assert_eq!(way("192.0.2.1", None, false, local, &[]).peer, Peer::Remote);
    }

    #[test]
    fn a_trusted_proxy_names_the_client_behind_it() {
        let found = way(
            "10.0.0.1",
            Some("203.0.113.7, 10.0.0.2"),
            true,
            "x",
            &["10.0.0.1", "10.0.0.2"],
        );
        assert_eq!(found.peer, Peer::TrustedProxy);
        assert_eq!(found.client, Some("203.0.113.7".parse().unwrap()));
        let forged = way(
            "10.0.0.1",
            Some("203.0.113.7, junk"),
            true,
            "x",
            &["10.0.0.1"],
        );
        assert_eq!(forged.client, None, "an unreadable hop ends the chain");
        let own = way("127.0.0.1", Some("127.0.0.1"), true, "x", &["127.0.0.1"]);
        assert_eq!(
            own.peer,
            Peer::TrustedProxy,
            "a chain of proxies alone is never direct"
        );
    }

    #[test]
    fn one_machine_is_one_network() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:203.0.113.7"), of("203.0.113.7"));
        assert_ne!(of("203.0.113.7"), of("203.0.113.8"));
    }

    #[test]
    fn hosts() {
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]",
            "[::1]:80",
        ] {
            assert!(host_is_loopback(host), "{host}");
        }
        for host in [
            "",
            "localhost.evil.example",
            "127.0.0.1.evil",
            "192.168.1.2",
            "[::2]",
            "[",
            "a:b:c",
        ] {
            assert!(!host_is_loopback(host), "{host}");
        }
    }
}
