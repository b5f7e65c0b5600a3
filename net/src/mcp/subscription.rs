//! Who is told when a resource is another one? A session on its one stream; a modern client on the answer to `listen`.
//!
//! ```text
//!  watching ─► one task a subscription, on the core that was asked ─► outbox ─► the stream, on any core
//! ```
//! Told at most ten times a second, and never twice before it was heard. A subscription ends with its session or stream,
//! and where its resource is lost for good.

use super::call::unless_cancelled;
use super::engine::{Engine, Messages};
use super::message::{Fault, notification, response};
use super::methods::{invalid_params, no_resource};
use super::offer::{Agreed, Asker};
use super::outbox::{Listener, Outbox};
use super::resources::refused;
use super::server_info;
use super::session::Facts;
use super::uri::Place;
use super::watching::{Became, Watching};
use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, join_all, select};
use rmcp::model::{
    NotificationMetaObject, RequestId, ResourceUpdatedNotificationParam, SubscriptionFilter, SubscriptionsListenResult,
    SubscriptionsListenResultMeta,
};
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Of one session, and of one `listen`.
const SUBSCRIPTIONS_MAX: usize = 64;
/// From one telling to the next, of one resource.
const PAUSE: Duration = Duration::from_millis(100);

/// The resources that a session's client is told of, by URI. Dropping a sender ends its subscription.
#[derive(Debug, Default)]
pub(super) struct Subscribed(Mutex<HashMap<String, flume::Sender<Infallible>>>);

/// A place among the subscriptions of a session. Dropping it gives it back.
struct Held {
    subscribed: Arc<Subscribed>,
    uri: String,
    /// Ends when the subscription is taken back.
    taken_back: flume::Receiver<Infallible>,
}

impl Subscribed {
    fn table(&self) -> MutexGuard<'_, HashMap<String, flume::Sender<Infallible>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place; `None` where the resource has one already.
    fn hold(self: &Arc<Subscribed>, uri: &str) -> Result<Option<Held>, Fault> {
        let mut table = self.table();
        if table.contains_key(uri) {
            return Ok(None);
        }
        if table.len() >= SUBSCRIPTIONS_MAX {
            let message = format!("a session has at most {SUBSCRIPTIONS_MAX} subscriptions; unsubscribe from others");
            return Err(invalid_params(message));
        }
        let (sender, taken_back) = flume::bounded(1);
        table.insert(uri.to_owned(), sender);
        Ok(Some(Held { subscribed: self.clone(), uri: uri.to_owned(), taken_back }))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Taken back, the place may be another's by now.
        if !self.taken_back.is_disconnected() {
            self.subscribed.table().remove(&self.uri);
        }
    }
}

/// Subscribes a session's client to a resource; once is enough.
pub(super) async fn subscribe(asker: &Asker<'_>, id: &RequestId, uri: &str) -> Result<(), Fault> {
    let Some((facts, underway)) = &asker.session else { return Ok(()) };
    let place = Place::read(uri).map_err(|why| no_resource(asker.era, id, uri).because(why))?;
    let Some(held) = facts.subscribed.hold(uri).map_err(|fault| fault.of(id))? else { return Ok(()) };
    let watching = unless_cancelled(Some(underway), Watching::begin(asker.engine, place)).await;
    let watching = watching.map_err(|error| refused(asker.era, id, uri, &error))?;
    let told = notification("notifications/resources/updated", ResourceUpdatedNotificationParam::new(uri));
    let outbox = facts.outbox.clone();
    monoio::spawn(async move {
        let (taken_back, ended) = (held.taken_back.recv_async(), pin!(outbox.ended()));
        tell(watching, &outbox, told, select(taken_back, ended).map(|_| ())).await;
    });
    Ok(())
}

/// Takes a subscription back, where there is one.
pub(super) fn unsubscribe(facts: &Facts, uri: &str) {
    facts.subscribed.table().remove(uri);
}

/// Tells of a resource until it is lost or the subscription is over.
async fn tell(mut watching: Watching, outbox: &Outbox, told: Vec<u8>, over: impl Future<Output = ()>) {
    let mut over = pin!(over);
    loop {
        match select(pin!(watching.next()), &mut over).await {
            Either::Left((Became::Changed, _)) => {}
            Either::Left((Became::Lost, _)) | Either::Right(_) => return,
        }
        let mut is_told = false;
        while !is_told {
            is_told = outbox.tell_once(told.clone());
            if let Either::Right(_) = select(pin!(monoio::time::sleep(PAUSE)), &mut over).await {
                return;
            }
        }
    }
}

/// What a modern client is told of resources, each message with the subscription's id.
pub(super) struct Listening {
    outbox: Arc<Outbox>,
    listener: Listener,
    id: RequestId,
    /// Disconnected when all resources are lost.
    lost: flume::Receiver<Infallible>,
    /// Where there was nothing to be lost, the client alone ends it.
    _alive: Option<flume::Sender<Infallible>>,
    is_over: bool,
}

/// Begins to tell of the resources that are wanted; what can't be watched is left out of what is agreed to.
pub(super) async fn listen(
    engine: &Rc<Engine>,
    id: &RequestId,
    mut wanted: SubscriptionFilter,
) -> Result<Agreed, Fault> {
    let mut uris = wanted.resource_subscriptions.take().unwrap_or_default();
    let mut known = HashSet::new();
    uris.retain(|uri| known.insert(uri.clone()));
    if uris.len() > SUBSCRIPTIONS_MAX {
        let message =
            format!("`notifications.resourceSubscriptions` may hold {SUBSCRIPTIONS_MAX} uris; listen again for others");
        return Err(invalid_params(message).of(id));
    }
    let begin = |uri: String| async {
        let place = Place::read(&uri).ok()?;
        Some((Watching::begin(engine, place).await.ok()?, uri))
    };
    let watched: Vec<(Watching, String)> = join_all(uris.into_iter().map(begin)).await.into_iter().flatten().collect();
    let outbox = engine.sessions().outbox();
    let (alive, lost) = flume::bounded(1);
    let mut agreed = Vec::new();
    for (watching, uri) in watched {
        let mut meta = NotificationMetaObject::new();
        meta.set_subscription_id(id.clone());
        let mut params = ResourceUpdatedNotificationParam::new(uri.clone());
        params.meta = Some(meta);
        let told = notification("notifications/resources/updated", params);
        let (outbox, alive) = (outbox.clone(), alive.clone());
        monoio::spawn(async move {
            tell(watching, &outbox, told, outbox.ended()).await;
            drop(alive);
        });
        agreed.push(uri);
    }
    let alive = agreed.is_empty().then_some(alive);
    wanted.resource_subscriptions = (!agreed.is_empty()).then_some(agreed);
    let Some(listener) = outbox.listen() else { return Err(invalid_params("the subscription has ended").of(id)) };
    let listening = Listening { outbox, listener, id: id.clone(), lost, _alive: alive, is_over: false };
    Ok((wanted, Box::new(listening)))
}

impl Listening {
    async fn next_message(&mut self) -> Option<Vec<u8>> {
        if self.is_over {
            return None;
        }
        {
            // Whoever tells is on this core: what was told before all were lost is there before the loss.
            let (told, lost) = (pin!(self.listener.next_message()), pin!(self.lost.recv_async()));
            if let Either::Left((message, _)) = select(told, lost).await {
                return message;
            }
        }
        self.end()
    }

    /// The answer to the request that began it.
    fn end(&mut self) -> Option<Vec<u8>> {
        let is_over = std::mem::replace(&mut self.is_over, true);
        (!is_over).then(|| over(&self.id))
    }
}

/// The answer to the request that began a subscription of this id.
pub(super) fn over(id: &RequestId) -> Vec<u8> {
    let mut meta = SubscriptionsListenResultMeta::new(id.clone());
    meta.set_server_info(server_info());
    response(id, SubscriptionsListenResult::new(meta))
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.outbox.end();
    }
}

impl Messages for Listening {
    fn next(&mut self) -> LocalBoxFuture<'_, Option<Vec<u8>>> {
        self.next_message().boxed_local()
    }

    fn only_listens(&self) -> bool {
        true
    }

    fn stop(&mut self) -> Option<Vec<u8>> {
        self.end()
    }
}
