use std::fmt::Write as _;

use clawgate_gateway::request_path;

/// The address of a request: its path has one reading or none.
///
/// # Panics
/// When a path is read that climbs, hides something, or is another one when it is written anew.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some(path) = request_path(text) else {
        return;
    };
    let rest = path.strip_prefix('/').expect("a path begins with a slash");
    let odd = |c: char| c.is_control() || matches!(c, '\\' | '%' | ';');
    assert!(!path.contains(odd), "{path:?} can be read in two ways");
    let segments: Vec<&str> = rest.split('/').collect();
    let (_, before) = segments.split_last().expect("a split has a part");
    assert!(!before.contains(&""), "{path:?} has an empty segment");
    assert!(
        !segments.iter().any(|part| matches!(*part, "." | "..")),
        "{path:?} climbs"
    );
    let mut written = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'/' {
            written.push(char::from(byte));
        } else {
            write!(written, "%{byte:02x}").expect("writing to a string does not fail");
        }
    }
    for address in [
        written.clone(),
        format!("{written}?a=/../%2e"),
        format!("http://gateway.example:18789{written}"),
    ] {
        assert_eq!(
            request_path(&address).as_ref(),
            Some(&path),
            "of {text:?}, written as {address}"
        );
    }
}
