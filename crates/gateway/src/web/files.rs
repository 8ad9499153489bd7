//! Files below a directory that somebody named: opened step by step from its handle, so that
//! neither a name nor a symbolic link leads out of it.

use std::{
    fs::File,
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::Path,
    sync::Arc,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};
use rustix::fs::{Mode, OFlags, open, openat};

use super::{reply, set};
use crate::listen::Request;

/// Bytes that are read at once, and held for one reader at most.
const CHUNK: usize = 64 * 1024;

/// A file that may be sent.
#[derive(Debug)]
pub(super) struct Found {
    file: File,
    pub(super) length: u64,
    /// How many names lead to it: more than one, and it may be somebody else's.
    pub(super) names: u64,
    etag: String,
    first: Vec<u8>,
}

/// Opens a regular file by the names that lead to it, none of which may be a link.
fn open_below(root: &Path, path: &str) -> io::Result<Option<File>> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // A pipe or a device must not hold the opening up.
    let file = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut at: OwnedFd = open(root, directory, Mode::empty())?;
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        if name.is_empty() || name.starts_with('.') || name.contains('\0') {
            return Ok(None);
        }
        let flags = if names.peek().is_some() {
            directory | OFlags::NOFOLLOW
        } else {
            file
        };
        at = openat(&at, name, flags, Mode::empty())?;
    }
    let file = File::from(at);
    Ok(file.metadata()?.is_file().then_some(file))
}

fn find(root: &Path, path: &str) -> io::Result<Option<Found>> {
    let Some(mut file) = open_below(root, path)? else {
        return Ok(None);
    };
    let metadata = file.metadata()?;
    let first = read_chunk(&mut file)?;
    Ok(Some(Found {
        length: metadata.len(),
        names: metadata.nlink(),
        etag: format!(
            "\"{:x}-{:x}-{:x}.{:x}\"",
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec()
        ),
        first,
        file,
    }))
}

fn read_chunk(file: &mut File) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::new();
    file.by_ref()
        .take(u64::try_from(CHUNK).unwrap_or(u64::MAX))
        .read_to_end(&mut chunk)?;
    Ok(chunk)
}

/// The file at a path below a directory, if there is one.
pub(super) async fn look_up(root: &Arc<Path>, path: &str) -> Option<Found> {
    let (root, path) = (Arc::clone(root), path.to_owned());
    let found = tokio::task::spawn_blocking(move || find(&root, &path)).await;
    match found {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a file is not served");
            None
        }
        Err(_) => None,
    }
}

/// Sends a file, or 304 to who has it.
pub(super) fn send(
    found: Found,
    request: &Request,
    kind: &'static str,
    cache: &'static str,
) -> Response<Body> {
    let has_it = request.header("if-none-match").is_some_and(|tags| {
        tags.split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == found.etag || tag == "*")
    });
    let etag = HeaderValue::from_str(&found.etag).expect("digits and quotes are header text");
    let mut response = if has_it {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let length = HeaderValue::from(found.length);
        let mut response = reply(StatusCode::OK, kind, body(found));
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
        response
    };
    response.headers_mut().insert(header::ETAG, etag);
    set(&mut response, header::CACHE_CONTROL, cache);
    response
}

/// The bytes, of which one chunk at a time is in memory.
fn body(found: Found) -> Body {
    let length = usize::try_from(found.length).unwrap_or(usize::MAX);
    if found.first.len() >= length {
        return Body::from(found.first);
    }
    let state = (Some(found.first), found.file);
    Body::from_stream(stream::try_unfold(state, |(first, mut file)| async move {
        let (chunk, file) = match first {
            Some(first) => (first, file),
            None => tokio::task::spawn_blocking(move || {
                read_chunk(&mut file).map(|chunk| (chunk, file))
            })
            .await
            .map_err(io::Error::other)??,
        };
        Ok::<_, io::Error>((!chunk.is_empty()).then(|| (Bytes::from(chunk), (None, file))))
    }))
}

/// The media type of a name, as the original says it.
pub(super) fn kind(name: &str) -> &'static str {
    match extension(name).as_str() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "application/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "webmanifest" => "application/json; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "txt" => "text/plain; charset=utf-8",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

/// What follows the last dot of a name, in lower case.
pub(super) fn extension(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase())
        .unwrap_or_default()
}
