//! Where does the world come in on one core? HTTP by its port, MCP over stdio by its socket; each may be absent.

use super::Shared;
use crate::{http, stdio};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use workspace_core::config::McpMode;
use workspace_proto::launcher::Mode;

/// How an id looks that a user namespace does not map (/proc/sys/kernel/overflowuid, where nobody has changed it).
const UNMAPPED_ID: u32 = 65_534;

/// Serves HTTP on one core, where it is served, until the server is to stop.
pub(super) async fn over_http(
    listener: Option<TcpListener>,
    app: Rc<http::App>,
    shared: &Shared,
) -> std::io::Result<http::Drained> {
    if let Some(listener) = listener {
        return http::serve(listener, app, shared.stop.clone()).await;
    }
    shared.stop.requested().await;
    Ok(http::Drained { cut: 0 })
}

/// Serves MCP over stdio on one core, where it is served, until the server is to stop.
pub(super) async fn over_stdio(app: &http::App, shared: &Shared) {
    let come = shared.clients_come.as_ref().map(OwnedFd::try_clone);
    let (Some(Ok(come)), Some(engine)) = (come, app.mcp()) else { return };
    // An ordinary user is 0 in the namespace of its server; root is nobody in the server's own.
    let owner = if shared.ids.mode == Mode::Root { UNMAPPED_ID } else { 0 };
    if let Err(error) = stdio::serve(come, owner, engine, shared.clients.clone(), shared.stop.clone()).await {
        tracing::error!(%error, "MCP is not served over stdio");
    }
}

/// What HTTP lets in.
pub(super) fn settings(shared: &Shared) -> Result<http::Settings, String> {
    let (config, address) = (&shared.config, shared.address);
    let api_keys = http::ApiKeys::new(config.api_keys.expose()).map_err(|error| error.message)?;
    Ok(http::Settings {
        loopback: address.is_none_or(|address| address.ip().is_loopback()),
        allowed_origins: config.allowed_origins.clone(),
        allowed_hosts: config.allowed_hosts.clone(),
        api_keys,
        mcp_path: (config.mcp_mode != McpMode::Disabled).then(|| config.mcp_path.clone()),
        mcp_sessions: shared.mcp_sessions.clone(),
        ..http::Settings::default()
    })
}
