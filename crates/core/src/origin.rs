//! Which pages may talk to the gateway.

use crate::{authz::Browser, peer::host_is_loopback};

/// What is configured under `gateway.controlUi`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginRules {
    /// `allowedOrigins`, lower-case; `*` allows every page.
    pub allowed: Vec<String>,
    /// `dangerouslyAllowHostHeaderOriginFallback`: an origin that equals `Host`.
    pub host_fallback: bool,
}

/// Why a page may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginFault {
    /// There is no usable origin where one is needed.
    MissingOrInvalid,
    /// It is not on the list.
    NotAllowed,
}

impl OriginFault {
    /// The wire's words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingOrInvalid => "origin missing or invalid",
            Self::NotAllowed => "origin not allowed",
        }
    }
}

/// What a request says about its page.
#[derive(Clone, Copy, Debug)]
pub struct OriginSeen<'a> {
    /// The `Origin` header.
    pub origin: Option<&'a str>,
    /// The `Host` header.
    pub host: Option<&'a str>,
    /// `Sec-Fetch-Site`, which browsers send even where they leave `Origin` out.
    pub fetch_site: Option<&'a str>,
    /// Whether the socket is direct loopback.
    pub direct_loopback: bool,
    /// Whether the client declares itself Control UI or web chat, which need an origin.
    pub needs_origin: bool,
}

/// Judges the page. Holds in every auth mode, before any credential is looked at.
pub fn judge(seen: &OriginSeen<'_>, rules: &OriginRules) -> (Browser, Option<OriginFault>) {
    let Some(origin) = seen.origin else {
        let cross = seen
            .fetch_site
            .is_some_and(|site| !matches!(site.trim(), "same-origin" | "none"));
        if seen.needs_origin || cross {
            return (Browser::ForeignOrigin, Some(OriginFault::MissingOrInvalid));
        }
        return (Browser::No, None);
    };
    let Some((origin, host)) = parse(origin) else {
        return (Browser::ForeignOrigin, Some(OriginFault::MissingOrInvalid));
    };
    let listed = rules
        .allowed
        .iter()
        .any(|allowed| allowed == "*" || *allowed == origin);
    let same_host = rules.host_fallback
        && seen
            .host
            .is_some_and(|own| own.trim().eq_ignore_ascii_case(&host));
    let local_page = seen.direct_loopback && host_is_loopback(&host);
    if listed || same_host || local_page {
        (Browser::AllowedOrigin, None)
    } else {
        (Browser::ForeignOrigin, Some(OriginFault::NotAllowed))
    }
}

/// `scheme://host[:port]` in lower case, and its host part; nothing else is an origin.
fn parse(origin: &str) -> Option<(String, String)> {
    let origin = origin.trim().to_ascii_lowercase();
    let (scheme, host) = origin.split_once("://")?;
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if !plain(scheme) || !plain(host) || host.contains(['/', '?', '#', '@', '\\', ',']) {
        return None;
    }
    let host = host.to_owned();
    Some((origin, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(origin: Option<&str>, direct: bool, needs: bool, allowed: &[&str]) -> Browser {
        let rules = OriginRules {
            allowed: allowed.iter().map(|a| (*a).to_owned()).collect(),
            host_fallback: false,
        };
        let seen = OriginSeen {
            origin,
            host: Some("127.0.0.1:18789"),
            fetch_site: None,
            direct_loopback: direct,
            needs_origin: needs,
        };
        judge(&seen, &rules).0
    }

    #[test]
    fn local_pages_are_allowed_on_direct_loopback_only() {
        let page = Some("http://127.0.0.1:5173");
        assert_eq!(judged(page, true, false, &[]), Browser::AllowedOrigin);
        assert_eq!(judged(page, false, false, &[]), Browser::ForeignOrigin);
        assert_eq!(
            judged(Some("http://[::1]:1"), true, false, &[]),
            Browser::AllowedOrigin
        );
    }

    #[test]
    fn tricks_are_foreign() {
        for origin in [
            "https://evil.example",
            "null",
            "",
            "http://",
            "http://localhost.evil.example",
            "http://127.0.0.1@evil.example",
            "http://127.0.0.1.evil.example",
            "http://localhost/path",
            "http://localhost, http://evil",
            "file://",
        ] {
            assert_eq!(
                judged(Some(origin), true, false, &[]),
                Browser::ForeignOrigin,
                "{origin}"
            );
        }
    }

    #[test]
    fn the_list_and_the_star() {
        let page = Some("HTTPS://Ui.Example");
        assert_eq!(
            judged(page, false, false, &["https://ui.example"]),
            Browser::AllowedOrigin
        );
        assert_eq!(judged(page, false, false, &["*"]), Browser::AllowedOrigin);
        assert_eq!(
            judged(Some("null"), false, false, &["*"]),
            Browser::ForeignOrigin
        );
    }

    #[test]
    fn a_ui_needs_an_origin_and_a_cross_site_fetch_is_foreign() {
        assert_eq!(judged(None, true, true, &[]), Browser::ForeignOrigin);
        assert_eq!(judged(None, true, false, &[]), Browser::No);
        let seen = OriginSeen {
            origin: None,
            host: None,
            fetch_site: Some("cross-site"),
            direct_loopback: true,
            needs_origin: false,
        };
        assert_eq!(
            judge(&seen, &OriginRules::default()).0,
            Browser::ForeignOrigin
        );
    }
}
