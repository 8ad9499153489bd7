//! Bodies: whole, of bounded size, and in bounded time.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{StatusCode, header};

use crate::listen::Request;

/// Time for a body to arrive.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the whole body, of so many bytes at most. `Err` is the status and the words of the refusal;
/// whatever the caller still sends is not read then.
pub(super) async fn collect(
    request: &Request,
    body: Body,
    max: usize,
) -> Result<Bytes, (StatusCode, &'static str)> {
    let too_large = (StatusCode::PAYLOAD_TOO_LARGE, "payload too large");
    let length = request.headers.get(header::CONTENT_LENGTH);
    if length.is_some() && request.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err((StatusCode::BAD_REQUEST, "ambiguous body length"));
    }
    let encoding = request.header("content-encoding").unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        return Err((
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "encoded bodies are not read",
        ));
    }
    let announced = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > max) {
        return Err(too_large);
    }
    match tokio::time::timeout(TIMEOUT, Limited::new(body, max).collect()).await {
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "request body timeout")),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large),
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "the body ended early")),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
    }
}
