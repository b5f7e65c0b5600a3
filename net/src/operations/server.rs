//! What can be asked of the server itself: whether it is well, and what it understands.

use crate::openapi;
use crate::operation::{Access, Call, Effect, Json, Nothing, Operation, Profile, Ready, Route, get};
use schemars::JsonSchema;
use serde::Serialize;
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason};

/// The server's health.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HealthStatus {
    /// `healthy`.
    status: &'static str,
    /// Of the server.
    version: &'static str,
}

pub(super) struct Health;

impl Operation for Health {
    const NAME: &'static str = "health";
    const SUMMARY: &'static str = "Say that the server answers, and its version.";
    const ROUTES: &'static [Route] = &[get("/api/v1/health")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const ACCESS: Access = Access::Open;
    const ERRORS: &'static [Reason] = &[];
    type Input = Nothing;
    type Output = Json<HealthStatus>;

    async fn call(_: &Shard, _: Call<Nothing>) -> Result<Self::Output, Error> {
        Ok(Json(HealthStatus { status: "healthy", version: env!("CARGO_PKG_VERSION") }))
    }
}

pub(super) struct OpenApi;

impl Operation for OpenApi {
    const NAME: &'static str = "openapi";
    const SUMMARY: &'static str = "Describe every route, as an OpenAPI 3.1 document.";
    const ROUTES: &'static [Route] = &[get("/api/v1/openapi.json"), get("/openapi.json")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const ERRORS: &'static [Reason] = &[];
    type Input = Nothing;
    type Output = Ready;

    async fn call(_: &Shard, _: Call<Nothing>) -> Result<Ready, Error> {
        Ok(Ready(openapi::bytes()))
    }
}
