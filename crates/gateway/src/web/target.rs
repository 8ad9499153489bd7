//! The one form of a request's path, and its query.

use hyper::Uri;

/// What is asked for. The path is decoded once and unambiguous: it begins with a slash, has no
/// empty, `.` or `..` segment, and nothing in it can be read in two ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    path: String,
    query: String,
}

impl Target {
    /// Reads the address of a request. `None` when its path has more than one reading: an encoded
    /// slash, a backslash, a control character, something encoded twice, dots that climb.
    pub(super) fn read(uri: &Uri) -> Option<Self> {
        let path = decode(uri.path(), false)?;
        let is_odd = |c: char| c.is_control() || matches!(c, '\\' | '%' | ';');
        let encoded_slash = path.matches('/').count() != uri.path().matches('/').count();
        if !path.starts_with('/') || path.contains(is_odd) || encoded_slash {
            return None;
        }
        let mut segments = path[1..].split('/').peekable();
        while let Some(segment) = segments.next() {
            // Only the last one may be empty: the path of a directory.
            let empty = segment.is_empty() && segments.peek().is_some();
            if empty || matches!(segment, "." | "..") {
                return None;
            }
        }
        Some(Self {
            path,
            query: uri.query().unwrap_or_default().to_owned(),
        })
    }

    /// Reads `/v1/models/<name>` where the slash of a name is encoded, as clients do it. Those names
    /// are no paths, so both readings are one.
    pub(super) fn read_model(uri: &Uri) -> Option<Self> {
        let name = uri.path().strip_prefix("/v1/models/")?;
        let plain = name.replacen("%2F", "/", 1).replacen("%2f", "/", 1);
        Self::read(&format!("/v1/models/{plain}").parse().ok()?)
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The part of the path behind a mount and its slash, empty for the mount itself. An empty mount
    /// holds everything.
    pub(super) fn below(&self, mount: &str) -> Option<&str> {
        let rest = self.path.strip_prefix(mount)?;
        if rest.is_empty() {
            return Some("");
        }
        rest.strip_prefix('/')
    }

    /// The query as it was sent, with its question mark.
    pub(super) fn search(&self) -> String {
        if self.query.is_empty() {
            String::new()
        } else {
            format!("?{}", self.query)
        }
    }

    /// The first value of a name in the query.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true)? == name).then(|| decode(value, true).unwrap_or_default())
        })
    }
}

/// The decoded path of a request's address, as routes are found by it. `None` where the address
/// cannot be read, or its path in more than one way.
pub fn request_path(address: &str) -> Option<String> {
    Target::read(&address.parse().ok()?).map(|target| target.path)
}

/// Decodes percent signs once; `None` where they are broken or no UTF-8.
fn decode(text: &str, plus_is_blank: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus_is_blank => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Target> {
        Target::read(&text.parse().expect("an address"))
    }

    #[test]
    fn a_path_has_one_reading_or_none() {
        for (text, path) in [
            ("/", "/"),
            ("/chat", "/chat"),
            ("/chat/", "/chat/"),
            ("/a%20b/%7Ec", "/a b/~c"),
            ("/%61", "/a"),
            ("http://other.example/health?x=1", "/health"),
        ] {
            assert_eq!(read(text).map(|target| target.path), Some(path.to_owned()));
        }
        for text in [
            "/..",
            "/../etc/passwd",
            "/a/../b",
            "/%2e%2e/x",
            "/%2E./x",
            "/.",
            "/a/./b",
            "//health",
            "/a//b",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a%00",
            "/a%0a",
            "/%252e%252e/x",
            "/a%",
            "/a%zz",
            "/a%c0%af",
            "/a;b=c",
            "*",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn the_name_of_a_model_may_have_its_slash_encoded_and_leads_nowhere_else() {
        let name = |text: &str| {
            let read = Target::read_model(&text.parse().unwrap());
            read.map(|target| target.path)
        };
        let model = Some("/v1/models/openclaw/main".to_owned());
        assert_eq!(name("/v1/models/openclaw%2Fmain"), model);
        assert_eq!(name("/v1/models/openclaw%2fmain"), model);
        for text in [
            "/v1/models/..%2Fx",
            "/v1/models/a%252Fb",
            "/v1/m%2Fx",
            "/v1/models/%2F%2F",
        ] {
            assert_eq!(name(text), None, "{text}");
        }
    }

    #[test]
    fn a_mount_ends_at_a_segment() {
        let below = |path: &str, mount: &str| {
            read(path).and_then(|target| target.below(mount).map(str::to_owned))
        };
        assert_eq!(below("/hooks/wake", "/hooks").as_deref(), Some("wake"));
        assert_eq!(below("/hooks", "/hooks").as_deref(), Some(""));
        assert_eq!(below("/hooksx", "/hooks"), None);
        assert_eq!(below("/a/b", "").as_deref(), Some("a/b"));
    }

    #[test]
    fn a_query_is_read_by_name() {
        let target = read("/x?a=1&to%6ben=s+%32&b").expect("a path");
        assert_eq!(target.query("token").as_deref(), Some("s 2"));
        assert_eq!(target.query("b").as_deref(), Some(""));
        assert_eq!(target.query("c"), None);
        assert_eq!(target.search(), "?a=1&to%6ben=s+%32&b");
    }
}
