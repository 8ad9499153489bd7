//! A call of a server's tool.

use std::time::Duration;

use rmcp::{
    model::{
        CallToolRequest, CallToolRequestParams, CallToolResult, CancelledNotificationParam,
        ClientRequest, ContentBlock, ServerResult,
    },
    service::PeerRequestOptions,
};
use serde_json::Value;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Offered, list::cut, without_queries};
use crate::{
    model::ToolSpec,
    tool::{Output, Tool, Working},
};

/// Bytes of an answer that a model reads.
const SHOWN_MAX: usize = 50_000;
/// How long a server may take to hear that a call is over.
const FAREWELL: Duration = Duration::from_secs(1);

/// A tool of a server, for one turn.
#[derive(Debug)]
pub(super) struct ServerTool {
    pub(super) server: String,
    pub(super) within: Duration,
    pub(super) offered: Offered,
}

impl Tool for ServerTool {
    fn spec(&self) -> &ToolSpec {
        &self.offered.spec
    }

    fn call<'a>(&'a self, arguments: &'a Value, stop: &'a CancellationToken) -> Working<'a> {
        Box::pin(async move {
            match self.run(arguments, stop).await {
                Ok(result) => shown(&result),
                Err(why) => Output::failed(format!("the server \"{}\": {why}", self.server)),
            }
        })
    }
}

impl ServerTool {
    async fn run(
        &self,
        arguments: &Value,
        stop: &CancellationToken,
    ) -> Result<CallToolResult, String> {
        let failed =
            |error: rmcp::ServiceError| cut(&without_queries(&error.to_string()), 1_000).to_owned();
        let mut params = CallToolRequestParams::new(self.offered.own.clone());
        params.arguments = arguments.as_object().cloned();
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let peer = &self.offered.peer;
        let asked = async {
            let handle = peer
                .send_cancellable_request(request, PeerRequestOptions::no_options())
                .await?;
            Ok::<_, rmcp::ServiceError>((handle.id.clone(), handle.await_response()))
        };
        // A server that reads nothing takes no request either.
        let asked = tokio::select! {
            asked = timeout(self.within, asked) => asked,
            () = stop.cancelled() => return Err("the call was stopped".to_owned()),
        };
        let (id, answer) = asked
            .map_err(|_| "it does not listen".to_owned())?
            .map_err(failed)?;
        let why = tokio::select! {
            answer = timeout(self.within, answer) => match answer {
                Ok(Ok(ServerResult::CallToolResult(result))) => return Ok(result),
                Ok(Ok(_)) => return Err("it answered something else than a result".to_owned()),
                Ok(Err(error)) => return Err(failed(error)),
                Err(_) => format!("it did not answer in {} s", self.within.as_secs()),
            },
            () = stop.cancelled() => "the call was stopped".to_owned(),
        };
        let over = CancelledNotificationParam::new(Some(id), Some(why.clone()));
        // It may not listen any more; the call is over all the same.
        let _ = timeout(FAREWELL, peer.notify_cancelled(over)).await;
        Err(why)
    }
}

/// What a model reads of a result.
fn shown(result: &CallToolResult) -> Output {
    let mut text = String::new();
    for block in &result.content {
        if text.len() > SHOWN_MAX {
            break;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        match block {
            ContentBlock::Text(block) => text.push_str(&block.text),
            ContentBlock::Image(_) => text.push_str("[an image, which is not shown]"),
            ContentBlock::Audio(_) => text.push_str("[a sound, which is not played]"),
            ContentBlock::Resource(_) | ContentBlock::ResourceLink(_) => {
                text.push_str("[a resource, which is not read]");
            }
            _ => text.push_str("[something else, which is not shown]"),
        }
    }
    if text.is_empty()
        && let Some(structured) = &result.structured_content
    {
        text = structured.to_string();
    }
    if text.len() > SHOWN_MAX {
        text = format!("{}\n[cut here]", cut(&text, SHOWN_MAX));
    }
    Output {
        text,
        details: None,
        is_error: result.is_error == Some(true),
    }
}
