//! A worker on a sandbox's own places: requests out, answers in. It is a process inside, so that what comes may be anybody's
//! there: bounded here, judged by who asked.

use super::call::{End, Messages, begin, lost, send, within};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use h2::SendStream;
use h2::client::SendRequest;
use workspace_core::agent::FileWork;
use workspace_core::{Error, Reason};
use workspace_proto::agent::file_reply::Reply;
use workspace_proto::agent::file_request::Request;
use workspace_proto::agent::{FileReply, FileRequest};
use workspace_proto::{grpc_frame, method};

/// Starts one.
pub(super) async fn open(requests: SendRequest<Bytes>, patience_ms: u64) -> Result<Box<dyn FileWork>, Error> {
    let (response, stream) = begin(requests.clone(), method::FILES).await?;
    let messages = Messages::new(method::FILES, response.await.map_err(lost)?)?;
    Ok(Box::new(Worker { requests, stream, messages, patience_ms }))
}

struct Worker {
    requests: SendRequest<Bytes>,
    stream: SendStream<Bytes>,
    messages: Messages<FileReply>,
    patience_ms: u64,
}

impl Worker {
    /// Its stream ends when it does: only where the link is gone too it is the agent that can't be reached.
    async fn why(&self, error: Error) -> Error {
        match error.reason {
            Reason::AgentNotConnected => match within(self.patience_ms, ready(self.requests.clone())).await {
                Ok(()) => disturbed(error),
                Err(_) => error,
            },
            // Messages are the worker's, not the agent's.
            Reason::AgentError => disturbed(error),
            _ => error,
        }
    }
}

async fn ready(requests: SendRequest<Bytes>) -> Result<(), Error> {
    requests.ready().await.map(drop).map_err(lost)
}

impl FileWork for Worker {
    fn ask(&mut self, request: Request) -> LocalBoxFuture<'_, Result<(), Error>> {
        let message = grpc_frame::encode(&FileRequest { request: Some(request) });
        async move {
            match within(self.patience_ms, send(&mut self.stream, message, End::Open)).await {
                Ok(()) => Ok(()),
                Err(error) => Err(self.why(error).await),
            }
        }
        .boxed_local()
    }

    fn next(&mut self) -> LocalBoxFuture<'_, Result<Reply, Error>> {
        async move {
            match within(self.patience_ms, self.messages.next()).await {
                Ok(Some(FileReply { reply: Some(reply) })) => Ok(reply),
                Ok(Some(FileReply { reply: None })) => Err(disturbed("a message that says nothing")),
                Ok(None) => Err(disturbed("ended before its answer")),
                Err(error) => Err(self.why(error).await),
            }
        }
        .boxed_local()
    }
}

/// Nothing was told to be done that is known to be done.
fn disturbed(source: impl std::fmt::Display) -> Error {
    let message =
        "what works on files inside the sandbox was ended or disturbed there (killed, or out of memory); try again";
    Error::new(Reason::ProcessExecutionFailed, message).source(source)
}
