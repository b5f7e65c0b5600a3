//! How does a resource's name go on that is being typed? The ids of sandboxes, and the entries of a directory.
//!
//! A path is completed as it stands in a URI: a `%` in a name is shown as `%25`, all else as it is. What can't be looked
//! at has no completion, and that is no failure: whoever types is in the middle of a name.

use super::engine::Engine;
use super::message::Fault;
use super::methods::invalid_params;
use super::offer::Asker;
use super::resources::{Sees, asked, entries, operation, own};
use super::uri::{ROOT, TEMPLATE, decode};
use rmcp::model::{CompleteRequestParams, CompletionInfo, Reference};
use serde_json::{Value, json};
use std::rc::Rc;
use workspace_core::{Error, SandboxId};

/// Looked at in one page, and how many pages.
const PAGE_MAX: u64 = 1000;
const PAGES_MAX: usize = 10;
/// Of what has been typed.
const TYPED_BYTES_MAX: usize = 16 << 10;

/// Completes an argument of the template.
pub(super) async fn complete(
    asker: &Asker<'_>,
    sees: Sees,
    params: CompleteRequestParams,
) -> Result<CompletionInfo, Fault> {
    match &params.r#ref {
        Reference::Resource(template) if template.uri == TEMPLATE => {}
        Reference::Resource(_) => {
            return Err(invalid_params(format!("`ref.uri` is no template of this server; there is {TEMPLATE}")));
        }
        _ => return Err(invalid_params("`ref` must be a resource template; this server has no prompts")),
    }
    let typed = params.argument.value.as_str();
    if typed.len() > TYPED_BYTES_MAX {
        return Err(invalid_params("`argument.value` is longer than 16 KiB"));
    }
    let known = |name: &str| params.context.as_ref().and_then(|context| context.get_argument(name));
    let found = match params.argument.name.as_str() {
        "sandbox_id" if sees == Sees::All => ids(asker.engine, typed).await,
        "sandbox_id" => {
            let own = own(asker).await.filter(|id| id.as_str().starts_with(typed));
            Ok((own.map(|id| id.as_str().to_owned()).into_iter().collect(), false))
        }
        "path" => match known("sandbox_id").and_then(|id| SandboxId::parse(id)) {
            Some(sandbox) => paths(asker.engine, sandbox, typed).await,
            None => Ok((Vec::new(), false)),
        },
        _ => return Err(invalid_params("`argument.name` must be \"sandbox_id\" or \"path\"")),
    };
    let (mut values, mut has_more) = found.unwrap_or_default();
    has_more |= values.len() > CompletionInfo::MAX_VALUES;
    values.truncate(CompletionInfo::MAX_VALUES);
    let mut info = CompletionInfo::default();
    info.total = if has_more { None } else { u32::try_from(values.len()).ok() };
    (info.values, info.has_more) = (values, Some(has_more));
    Ok(info)
}

/// What fits, at least one more than can be shown where there is; and whether not all was looked at.
type Found = Result<(Vec<String>, bool), Error>;

/// The running sandboxes whose id begins so.
async fn ids(engine: &Rc<Engine>, typed: &str) -> Found {
    let list = operation(engine, "sandbox_list")?;
    // All of the first page fits where nothing is typed yet.
    let limit = if typed.is_empty() { CompletionInfo::MAX_VALUES as u64 + 1 } else { PAGE_MAX };
    collect(async |cursor| {
        let page = asked(engine, list, None, json!({"state": "running", "limit": limit, "cursor": cursor})).await?;
        let ids = page["sandboxes"].as_array().into_iter().flatten().filter_map(|sandbox| sandbox["id"].as_str());
        Ok((ids.filter(|id| id.starts_with(typed)).map(str::to_owned).collect(), page["next_cursor"].clone()))
    })
    .await
}

/// The entries of the directory that is being typed, directories with a `/` behind them.
async fn paths(engine: &Rc<Engine>, sandbox: SandboxId, typed: &str) -> Found {
    let (above, begun) = typed.rsplit_once('/').map_or(("", typed), |(above, begun)| (&typed[..=above.len()], begun));
    let (Some(directory), Some(begun)) = (decode(above), decode(begun)) else { return Ok(Default::default()) };
    let directory = if directory.is_empty() { ROOT } else { &directory };
    collect(async |cursor| {
        let page = entries(engine, sandbox, directory, PAGE_MAX, cursor.as_str()).await?;
        let of = |entry: &Value| {
            let name = entry["name"].as_str().filter(|name| name.starts_with(&begun))?;
            let end = if entry["type"] == "directory" { "/" } else { "" };
            Some(format!("{above}{}{end}", name.replace('%', "%25")))
        };
        let fitting = page["files"].as_array().into_iter().flatten().filter_map(of).collect();
        Ok((fitting, page["next_cursor"].clone()))
    })
    .await
}

/// Goes through pages until there is more than can be shown.
async fn collect(page: impl AsyncFn(Value) -> Result<(Vec<String>, Value), Error>) -> Found {
    let (mut found, mut cursor) = (Vec::new(), Value::Null);
    for _ in 0..PAGES_MAX {
        let (fitting, next) = page(cursor).await?;
        found.extend(fitting);
        if found.len() > CompletionInfo::MAX_VALUES || next.is_null() {
            return Ok((found, false));
        }
        cursor = next;
    }
    Ok((found, true))
}
