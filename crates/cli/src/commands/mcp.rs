//! `mcp`: servers whose tools agents call (`servers`), and `mcp serve`: the control plane as MCP
//! tools over stdio, each a method that this credential may call.
//!
//! Nothing is decided here: which tools there are follows from the method table and from the scopes
//! that the gateway granted, and the gateway judges every call again.

mod schema;
mod servers;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clap::{Args, Subcommand};
use clawgate_client::{ClientError, Granted, Mode, Opened, Session};
use clawgate_protocol::{Access, Method, Scope};
use rmcp::{
    ErrorData, ServerHandler, ServiceExt as _,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
        ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
        ToolAnnotations,
    },
    service::{RequestContext, RoleServer},
    transport::io::stdio_pipes,
};
use serde_json::{Map, Value};

use super::{Context, SLOW_MS};
use crate::{
    app::ConnectArgs,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::json,
    session::{Approach, Link},
    stop::Stop,
};

/// The rule of the gateway behind an API token.
const BY_API_TOKEN: &str = "api-token";
/// Calls that wait for a model or for a person; whoever calls ends them by leaving.
const LONG: &[Method] = &[
    Method::Agent,
    Method::AgentWait,
    Method::ExecApprovalRequest,
    Method::ExecApprovalWaitDecision,
    Method::NodeInvoke,
];
const LONG_WITHIN: Duration = Duration::from_secs(24 * 3_600);
/// Methods that make a connection hear of something: a tool hears nothing.
const FOR_LISTENERS: &[Method] = &[
    Method::SessionsSubscribe,
    Method::SessionsMessagesSubscribe,
    Method::SessionsMessagesUnsubscribe,
];

/// `mcp`.
#[derive(Debug, Subcommand)]
pub(crate) enum McpCommand {
    /// Serve the control plane as MCP tools on standard input and output
    #[command(
        long_about = "Serve the control plane as MCP tools on standard input and output.\n\nEach method that the credential may call is a tool (cron.add is cron_add); nothing else is listed. Give it an API token with the scopes that its user shall have: without one the usual credentials are taken, which may be the owner's.",
        after_help = "Examples:\n  clawgate tokens create --name desk --scopes operator.read,operator.write\n  CLAWGATE_GATEWAY_TOKEN=TOKEN clawgate mcp serve --api-token-only\n  clawgate mcp serve --read-only"
    )]
    Serve(ServeArgs),
    /// The servers of mcp.servers, whose tools agents may call; none is started
    #[command(
        after_help = "Examples:\n  clawgate mcp list\n  clawgate mcp list --json | jq -r '.servers[].name'"
    )]
    List(servers::ListArgs),
    /// Start a server of mcp.servers, list its tools, and end it
    #[command(
        after_help = "Exits 1 when it does not answer. References to the environment are to that of this shell.\n\nExamples:\n  clawgate mcp probe notes\n  clawgate mcp probe notes --json | jq -r '.tools[].name'"
    )]
    Probe(servers::ProbeArgs),
}

/// `mcp serve`.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// List only what changes nothing
    #[arg(long)]
    read_only: bool,
    /// End instead of serving when the gateway was reached with anything but an API token
    #[arg(long)]
    api_token_only: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

impl McpCommand {
    /// Whether failures are to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Serve(args) => args.connect.json,
            Self::List(args) => args.json,
            Self::Probe(args) => args.json,
        }
    }
}

pub(crate) async fn run(context: &Context, command: McpCommand) -> CommandResult {
    match command {
        McpCommand::Serve(args) => Box::pin(serve(context, &args)).await,
        McpCommand::List(args) => servers::list(context, &args),
        McpCommand::Probe(args) => Box::pin(servers::probe(context, &args)).await,
    }
}

async fn serve(context: &Context, args: &ServeArgs) -> CommandResult {
    let mut stop = Stop::watch()?;
    let approach = Approach::new(context, &args.connect, Mode::Cli, SLOW_MS)?;
    let link = Link::by(context, approach, false, &[]).await?;
    let (approach, opened) = link.into_parts();
    let Granted::Known(scopes) = opened.session.granted().clone() else {
        opened.session.close().await;
        return Err(CommandError::new(
            Exit::Failed,
            "SCOPES_UNKNOWN",
            "this gateway does not say what the credential may do, so no tool can be listed",
        ));
    };
    let by_api_token = is_by_api_token(&opened);
    if args.api_token_only && !by_api_token {
        opened.session.close().await;
        return Err(CommandError::new(
            Exit::Unauthorized,
            "NO_API_TOKEN",
            "the gateway was reached without an API token",
        )
        .fact("credential", approach.used(opened.credential))
        .hint("clawgate tokens create --name NAME --scopes operator.read")
        .hint("CLAWGATE_GATEWAY_TOKEN=TOKEN clawgate mcp serve --api-token-only"));
    }
    context.output.note(format!(
        "serving {} with {} ({})",
        approach.target.endpoint,
        approach.used(opened.credential),
        if scopes.is_empty() {
            "no scopes".to_owned()
        } else {
            scopes.joined()
        },
    ));
    let plane = Plane {
        approach,
        api_token_only: args.api_token_only,
        read_only: args.read_only,
        session: Mutex::new(Arc::new(opened.session)),
    };
    let service = tokio::select! {
        service = plane.serve(stdio_pipes()) => service,
        () = stop.asked() => return Ok(Exit::Ok),
    };
    let service = match service {
        Ok(service) => service,
        // Whoever started it left before it said anything.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(Exit::Ok),
        Err(error) => {
            return Err(CommandError::internal(format!("no MCP client: {error}")));
        }
    };
    tokio::select! {
        ended = service.waiting() => ended
            .map(|_| Exit::Ok)
            .map_err(|error| CommandError::internal(format!("serving ended: {error}"))),
        () = stop.asked() => Ok(Exit::Ok),
    }
}

fn is_by_api_token(opened: &Opened) -> bool {
    let auth = opened.session.hello().auth.as_ref();
    auth.and_then(|auth| auth.basis.as_deref()) == Some(BY_API_TOKEN)
}

/// The control plane behind one credential.
struct Plane {
    approach: Approach,
    api_token_only: bool,
    read_only: bool,
    /// The connection of now.
    session: Mutex<Arc<Session>>,
}

/// A method as it is offered.
#[derive(Clone, Copy)]
struct Offered {
    method: Method,
    reads: bool,
}

/// The name of a method's tool: dots are not for every client.
fn tool_name(method: Method) -> String {
    method.spec().name.replace('.', "_")
}

/// Whether a session may call a method as a tool, and whether that only reads.
fn offered(session: &Session, method: Method, read_only: bool) -> Option<Offered> {
    let spec = method.spec();
    let Granted::Known(scopes) = session.granted() else {
        return None;
    };
    let reads = match spec.access(session.dialect()) {
        Access::AnySession => true,
        Access::Scope(scope) if scopes.covers(scope) => *scope == Scope::READ,
        Access::Scope(_) | Access::Node | Access::Handshake => return None,
    };
    let listed = session.serves(spec.name) && !FOR_LISTENERS.contains(&method);
    (listed && (reads || !read_only)).then_some(Offered { method, reads })
}

impl Plane {
    fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A connection that lives: the one of now, or a new one.
    async fn living(&self) -> Result<Arc<Session>, String> {
        let session = self.session();
        if session.closed().is_none() {
            return Ok(session);
        }
        let opened = self.approach.open(&[]).await.map_err(|(error, _)| {
            format!("the gateway is not reachable any more: {error}; try again when it runs")
        })?;
        if self.api_token_only && !is_by_api_token(&opened) {
            return Err(
                "the API token is no longer good; somebody has to make a new one".to_owned(),
            );
        }
        let session = Arc::new(opened.session);
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&session);
        Ok(session)
    }

    fn tool(&self, session: &Session, offered: Offered) -> Tool {
        let spec = offered.method.spec();
        let schema = schema::of_params(spec.params.as_ref(), session.dialect());
        let hints = ToolAnnotations::new()
            .read_only(offered.reads)
            .open_world(LONG.contains(&offered.method));
        let about = format!("{} ({})", spec.about.trim_end_matches('.'), spec.name);
        Tool::new(tool_name(offered.method), about, schema).with_annotations(hints)
    }

    async fn call(&self, offered: Offered, params: Map<String, Value>) -> Result<Value, String> {
        let method = offered.method;
        let params = Value::Object(params);
        let mut again = offered.reads;
        loop {
            let session = self.living().await?;
            let name = method.spec().name;
            let answer = if LONG.contains(&method) {
                session
                    .request_final_within(name, Some(&params), LONG_WITHIN)
                    .await
            } else {
                session.request(name, Some(&params)).await
            };
            match answer {
                Ok(answer) => return Ok(answer),
                // What only reads may be asked twice.
                Err(ClientError::Closed { .. }) if again => again = false,
                Err(error @ ClientError::Failed { .. }) => return Err(refusal(&error)),
                Err(ClientError::Closed { .. }) => {
                    return Err(
                        "the connection was lost before the answer: whether it was done is not \
                         known; look before you call it again"
                            .to_owned(),
                    );
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// The gateway's error with all that it says of it.
fn refusal(error: &ClientError) -> String {
    let details = error.received().and_then(|error| error.details.as_ref());
    match details {
        Some(details) => format!("{error}\n{}", json::line(details)),
        None => error.to_string(),
    }
}

impl ServerHandler for Plane {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        info.server_info = Implementation::new("clawgate", env!("CARGO_PKG_VERSION"));
        info.instructions = Some(
            "The control plane of a clawgate gateway: each tool is a method of it, with the rights \
             of one credential. A refusal says what is missing."
                .to_owned(),
        );
        info
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let session = self
            .living()
            .await
            .map_err(|why| ErrorData::internal_error(why, None))?;
        let tools = Method::ALL
            .iter()
            .filter_map(|&method| offered(&session, method, self.read_only))
            .map(|offered| self.tool(&session, offered))
            .collect();
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let session = match self.living().await {
            Ok(session) => session,
            Err(why) => return Ok(CallToolResult::error(vec![ContentBlock::text(why)]).into()),
        };
        let found = Method::ALL
            .iter()
            .filter_map(|&method| offered(&session, method, self.read_only))
            .find(|offered| tool_name(offered.method) == request.name);
        let Some(found) = found else {
            let why = format!("no tool is called {:?}", request.name);
            return Err(ErrorData::invalid_params(why, None));
        };
        drop(session);
        let params = request.arguments.unwrap_or_default();
        let answer = tokio::select! {
            answer = self.call(found, params) => answer,
            () = context.ct.cancelled() => Err("cancelled".to_owned()),
        };
        let result = match answer {
            Ok(answer) => {
                let mut result =
                    CallToolResult::success(vec![ContentBlock::text(json::pretty(&answer))]);
                result.structured_content = answer.is_object().then_some(answer);
                result
            }
            Err(why) => CallToolResult::error(vec![ContentBlock::text(why)]),
        };
        Ok(result.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tools_have_names_of_their_own_that_every_client_takes() {
        let names: BTreeSet<String> = Method::ALL.iter().map(|&m| tool_name(m)).collect();
        assert_eq!(names.len(), Method::ALL.len());
        for name in names {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            assert!(name.len() <= 64 && name.chars().all(plain), "{name}");
        }
    }

    #[test]
    fn every_method_says_what_it_does() {
        for method in Method::ALL {
            let spec = method.spec();
            assert!(spec.about.ends_with('.'), "{}: {}", spec.name, spec.about);
        }
    }
}
