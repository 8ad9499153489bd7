//! Bodies: whole, of bounded size, and in bounded time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{StatusCode, header};

use crate::{listen::Request, load::Held};

/// Time for a body to arrive.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the whole body, of so many bytes at most, and counts it among all that are coming in. `Err`
/// is the status and the words of the refusal; whatever the caller still sends is not read then.
pub(super) async fn collect(
    request: &Request,
    body: Body,
    max: usize,
    bodies: &Held,
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
    let mut body = Limited::new(body, max);
    let mut counted = bodies.share(0);
    let reading = async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    too_large
                } else {
                    (StatusCode::BAD_REQUEST, "the body ended early")
                }
            })?;
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
                counted.set(bytes.len());
                if counted.is_of_too_much() {
                    return Err((
                        StatusCode::SERVICE_UNAVAILABLE,
                        "too much is being sent at once",
                    ));
                }
            }
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(TIMEOUT, reading)
        .await
        .unwrap_or(Err((StatusCode::REQUEST_TIMEOUT, "request body timeout")))
}
