//! A server that is reached over HTTP.

use std::{collections::HashMap, time::Duration};

use reqwest::header::{HeaderName, HeaderValue};
use rmcp::transport::{
    StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
};

use crate::model::web_client;

/// Bytes of one message of a server.
const MESSAGE_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a refusal that are read.
const REFUSAL_MAX: usize = 4 * 1024;

/// The way to a server. What it is configured with goes to its address alone.
pub(super) fn transport(
    url: &str,
    headers: &[(String, String)],
    connect: Duration,
) -> Result<StreamableHttpClientTransport<reqwest::Client>, String> {
    let client = web_client(connect).map_err(|error| error.to_string())?;
    let mut given = HashMap::new();
    for (name, value) in headers {
        let parsed = HeaderName::try_from(name.as_str());
        let parsed = parsed.map_err(|_| format!("\"{name}\" is no name of a header"))?;
        // What is wrong with a value is not shown with it.
        let mut value = HeaderValue::try_from(value.as_str())
            .map_err(|_| format!("the value of the header \"{name}\" cannot be sent"))?;
        value.set_sensitive(true);
        given.insert(parsed, value);
    }
    let mut config = StreamableHttpClientTransportConfig::with_uri(url);
    config.custom_headers = given;
    config.max_sse_event_size = MESSAGE_MAX;
    config.max_json_response_size = MESSAGE_MAX;
    config.max_error_response_size = REFUSAL_MAX;
    Ok(StreamableHttpClientTransport::with_client(client, config))
}
