//! The Control UI: any directory that holds a built one, served below `gateway.controlUi.basePath`.

use std::{path::Path, sync::Arc};

use axum::body::Body;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};
use serde_json::json;

use super::{files, guard, json as json_reply, not_found, reply, set, target::Target};
use crate::{Gateway, VERSION, assistant::Picture, config::Config, listen::Request};

/// What a page of the UI may do, as in the original: its own scripts, sockets to any gateway that
/// its user names.
const POLICY: &str = "default-src 'self'; base-uri 'none'; object-src 'none'; \
     frame-ancestors 'none'; script-src 'self'; style-src 'self' 'unsafe-inline' \
     https://fonts.googleapis.com; img-src 'self' data: https:; font-src 'self' \
     https://fonts.gstatic.com; connect-src 'self' ws: wss:";
/// Bytes of an agent's picture at most.
const PICTURE_MAX: u64 = 2 * 1024 * 1024;
/// Ask again each time whether it is still the same.
const FRESH: &str = "no-cache";
/// The name changes with the content.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Where there is no UI to serve.
const NO_ROOT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Gateway</title>\
<h1>The gateway runs</h1><p>It serves a Control UI when <code>gateway.controlUi.root</code> in its \
configuration names the directory of a built one, with an <code>index.html</code> in it.</p>\
<p>Its command line needs none: see <code>--help</code>.</p></html>\n";
/// A file with one of these that is not there is missing, and no page of the UI.
const ASSETS: &[&str] = &[
    "js", "mjs", "css", "json", "map", "svg", "png", "jpg", "jpeg", "gif", "webp", "ico", "txt",
    "woff2", "wasm",
];

/// Answers a GET or HEAD that nothing else answers.
pub(super) async fn answer(
    gateway: &Arc<Gateway>,
    config: &Config,
    target: &Target,
    request: &Request,
) -> Response<Body> {
    let mut response = page(gateway, config, target, request).await;
    set(&mut response, header::CONTENT_SECURITY_POLICY, POLICY);
    response
}

async fn page(
    gateway: &Arc<Gateway>,
    config: &Config,
    target: &Target,
    request: &Request,
) -> Response<Body> {
    let base = &config.control_ui.base_path;
    let Some(below) = target.below(base) else {
        return not_found();
    };
    if !base.is_empty() && target.path() == base {
        return redirect(&format!("{base}/{}", target.search()));
    }
    if let Some(agent) = below.strip_prefix("avatar/") {
        return avatar(gateway, target, agent, request).await;
    }
    if below == "__openclaw/control-ui-config.json" {
        return bootstrap(gateway, config, request).await;
    }
    // Names of other things of the original on this port.
    let is_others = ["ui", "plugins", "__openclaw__"]
        .iter()
        .any(|name| target.below(&format!("{base}/{name}")).is_some());
    if is_others {
        return not_found();
    }
    match &config.control_ui.root {
        Some(root) => file(&Arc::from(root.as_path()), below, request).await,
        None if below.is_empty() => no_ui(),
        None => not_found(),
    }
}

async fn file(root: &Arc<Path>, below: &str, request: &Request) -> Response<Body> {
    // A page deeper down names its assets relative to itself.
    let name = match below.find("/assets/") {
        Some(at) => &below[at + 1..],
        None => below,
    };
    let name = if name.is_empty() || name.ends_with('/') {
        format!("{name}index.html")
    } else {
        name.to_owned()
    };
    // The text behind a UI is not needed to use it.
    if files::extension(&name) == "map" {
        return not_found();
    }
    if let Some(found) = files::look_up(root, &name).await {
        let cache = if is_hashed(&name) { FOR_EVER } else { FRESH };
        return files::send(found, request, files::kind(&name), cache);
    }
    let is_hidden = name.split('/').any(|segment| segment.starts_with('.'));
    if is_hidden || ASSETS.contains(&files::extension(&name).as_str()) {
        return not_found();
    }
    match files::look_up(root, "index.html").await {
        Some(found) => files::send(found, request, files::kind("index.html"), FRESH),
        None => {
            tracing::warn!(root = %root.display(), "gateway.controlUi.root holds no index.html");
            no_ui()
        }
    }
}

/// `assets/name-Hash1234.js`, as bundlers write it.
fn is_hashed(name: &str) -> bool {
    let Some((stem, _)) = name
        .strip_prefix("assets/")
        .and_then(|name| name.rsplit_once('.'))
    else {
        return false;
    };
    stem.char_indices()
        .filter(|(_, c)| *c == '-' || *c == '.')
        .any(|(at, _)| {
            let hash = &stem[at + 1..];
            let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            hash.len() == 8
                && hash.chars().all(is_word)
                && hash
                    .chars()
                    .any(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        })
}

fn no_ui() -> Response<Body> {
    let mut response = reply(
        StatusCode::SERVICE_UNAVAILABLE,
        "text/html; charset=utf-8",
        NO_ROOT,
    );
    set(&mut response, header::CACHE_CONTROL, FRESH);
    response
}

fn redirect(location: &str) -> Response<Body> {
    let Ok(location) = HeaderValue::from_str(location) else {
        return not_found();
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// What a page shows before it is connected. A stranger elsewhere learns constants.
async fn bootstrap(gateway: &Arc<Gateway>, config: &Config, request: &Request) -> Response<Body> {
    let base = &config.control_ui.base_path;
    let known = if guard::is_trusted(gateway, request).await {
        gateway.assistant(None).await.ok()
    } else {
        None
    };
    let value = if let Some(assistant) = known {
        json!({
            "basePath": base,
            "assistantName": assistant.name,
            "assistantAvatar": assistant.avatar,
            "assistantAgentId": assistant.id,
            "serverVersion": VERSION,
        })
    } else {
        json!({
            "basePath": base,
            "assistantName": "Assistant",
            "assistantAvatar": "A",
            "assistantAgentId": null,
            "serverVersion": null,
        })
    };
    let mut response = json_reply(StatusCode::OK, &value);
    set(&mut response, header::CACHE_CONTROL, FRESH);
    response
}

/// An agent's picture, or with `?meta=1` the address of it: what the agent is shown with everywhere.
async fn avatar(
    gateway: &Arc<Gateway>,
    target: &Target,
    agent: &str,
    request: &Request,
) -> Response<Body> {
    let is_id = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let is_agent = (1..=64).contains(&agent.len())
        && agent.chars().all(is_id)
        && agent.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !is_agent {
        return not_found();
    }
    let Ok(assistant) = gateway.assistant(Some(agent.to_owned())).await else {
        return not_found();
    };
    let file = match &assistant.picture {
        Picture::File(workspace, name) => files::look_up(workspace, name)
            .await
            .filter(|found| found.length <= PICTURE_MAX && found.names == 1)
            .map(|found| (found, files::kind(name))),
        Picture::None | Picture::Address(_) => None,
    };
    if target.query("meta").as_deref() == Some("1") {
        let is_there = file.is_some() || matches!(assistant.picture, Picture::Address(_));
        let url = is_there.then_some(assistant.avatar);
        let mut response = json_reply(StatusCode::OK, &json!({"avatarUrl": url}));
        set(&mut response, header::CACHE_CONTROL, FRESH);
        return response;
    }
    match file {
        Some((found, kind)) => files::send(found, request, kind, FRESH),
        None => not_found(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_hash_are_kept_for_ever() {
        for name in [
            "assets/index-UvgeZ3yV.js",
            "assets/index-DmrclaY-.css",
            "assets/channel-config-extras-UBRJa-vU.js",
            "assets/pt-BR-CUPpmFmM.js",
        ] {
            assert!(is_hashed(name), "{name}");
        }
        for name in [
            "index.html",
            "favicon.svg",
            "assets/logo.svg",
            "assets/my-settings.js",
            "index-UvgeZ3yV.js",
        ] {
            assert!(!is_hashed(name), "{name}");
        }
    }
}
