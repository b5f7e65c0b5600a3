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
    let (response, stream) = begin(requests, method::FILES).await?;
    let messages = Messages::new(method::FILES, response.await.map_err(lost)?)?;
    Ok(Box::new(Worker { stream, messages, patience_ms }))
}

struct Worker {
    stream: SendStream<Bytes>,
    messages: Messages<FileReply>,
    patience_ms: u64,
}

impl FileWork for Worker {
    fn ask(&mut self, request: Request) -> LocalBoxFuture<'_, Result<(), Error>> {
        let message = grpc_frame::encode(&FileRequest { request: Some(request) });
        within(self.patience_ms, send(&mut self.stream, message, End::Open)).boxed_local()
    }

    fn next(&mut self) -> LocalBoxFuture<'_, Result<Reply, Error>> {
        let next = async {
            match self.messages.next().await {
                Ok(Some(FileReply { reply: Some(reply) })) => Ok(reply),
                Ok(Some(FileReply { reply: None })) => Err(disturbed("a message that says nothing")),
                Ok(None) => Err(disturbed("ended before its answer")),
                // Messages are the worker's, not the agent's.
                Err(error) if error.reason == Reason::AgentError => Err(disturbed(error)),
                Err(error) => Err(error),
            }
        };
        within(self.patience_ms, next).boxed_local()
    }
}

/// Nothing was told to be done that is known to be done.
fn disturbed(source: impl std::fmt::Display) -> Error {
    let message =
        "what works on files inside the sandbox was ended or disturbed there (killed, or out of memory); try again";
    Error::new(Reason::ProcessExecutionFailed, message).source(source)
}
