//! Who hears that a list or a resource has changed? A legacy session by the stream of its own, and each modern
//! subscription that asked for it.

use super::resources;
use crate::mcp::engine::Messages;
use crate::mcp::message::notification;
use crate::mcp::session::Facts;
use crate::mcp::subscription::over;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use rmcp::model::{NotificationMetaObject, RequestId, SubscriptionFilter};
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// On all cores together.
const LISTENERS_MAX: usize = 64;
/// That wait for one listener; more say nothing new.
const WAITING_MAX: usize = 16;
const UPDATED: &str = "notifications/resources/updated";

static LISTENERS: Mutex<Vec<Listens>> = Mutex::new(Vec::new());

/// A list that can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Tools,
    Prompts,
}

impl List {
    fn changed(self) -> &'static str {
        match self {
            List::Tools => "notifications/tools/list_changed",
            List::Prompts => "notifications/prompts/list_changed",
        }
    }
}

struct Listens {
    lists: Vec<List>,
    subscription: RequestId,
    tell: flume::Sender<Vec<u8>>,
}

fn listeners() -> MutexGuard<'static, Vec<Listens>> {
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells all subscriptions that ask for it, and the session that changed it.
pub(super) fn tell(list: List, session: Option<&Facts>) {
    if let Some(facts) = session {
        facts.outbox.tell_once(notification(list.changed(), json!({})));
    }
    let mut listeners = listeners();
    listeners.retain(|listens| !listens.tell.is_disconnected());
    for listens in listeners.iter().filter(|listens| listens.lists.contains(&list)) {
        // Full: as much is to be read there already.
        let _ = listens.tell.try_send(tagged(list.changed(), &listens.subscription, None));
    }
}

/// Subscribes a session to a resource; false where there is none of this name.
pub(super) fn subscribe(facts: &Facts, uri: &str) -> bool {
    let Some(changed) = resources::subscribe(uri) else { return false };
    if changed {
        facts.outbox.tell_once(notification(UPDATED, json!({"uri": uri})));
    }
    true
}

/// A modern subscription: what of it will be told, and what tells it. `None`: there are too many.
pub(super) fn listen(
    subscription: &RequestId,
    mut wanted: SubscriptionFilter,
) -> Option<(SubscriptionFilter, Box<dyn Messages>)> {
    let (tell, told) = flume::bounded(WAITING_MAX);
    if let Some(uris) = &mut wanted.resource_subscriptions {
        uris.truncate(WAITING_MAX);
        uris.retain(|uri| {
            let changed = resources::subscribe(uri);
            if changed == Some(true) {
                let _ = tell.try_send(tagged(UPDATED, subscription, Some(uri)));
            }
            changed.is_some()
        });
    }
    let asks = [(List::Tools, wanted.tools_list_changed), (List::Prompts, wanted.prompts_list_changed)];
    let lists = asks.into_iter().filter(|(_, asked)| *asked == Some(true)).map(|(list, _)| list).collect();
    let mut listeners = listeners();
    listeners.retain(|listens| !listens.tell.is_disconnected());
    if listeners.len() >= LISTENERS_MAX {
        return None;
    }
    listeners.push(Listens { lists, subscription: subscription.clone(), tell });
    Some((wanted, Box::new(Told { told, subscription: subscription.clone() })))
}

fn tagged(method: &str, subscription: &RequestId, uri: Option<&str>) -> Vec<u8> {
    let mut meta = NotificationMetaObject::new();
    meta.set_subscription_id(subscription.clone());
    let mut params = json!({"_meta": meta});
    if let Some(uri) = uri {
        params["uri"] = Value::from(uri);
    }
    notification(method, params)
}

struct Told {
    told: flume::Receiver<Vec<u8>>,
    subscription: RequestId,
}

impl Messages for Told {
    fn next(&mut self) -> LocalBoxFuture<'_, Option<Vec<u8>>> {
        async { self.told.recv_async().await.ok() }.boxed_local()
    }

    fn only_listens(&self) -> bool {
        true
    }

    fn stop(&mut self) -> Option<Vec<u8>> {
        Some(over(&self.subscription))
    }
}
