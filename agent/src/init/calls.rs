//! What may be asked of the agent once Hello was said? Each method of the contract, with what answers it.

use super::grpc::{self, Code, Status, Unanswered, read_request};
use super::tracked::Tracked;
use super::{Agent, attach, files, input, keep, pty, run};
use crate::sys::kill::SIGNAL_MAX;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use workspace_proto::agent::{
    ListReply, ListRequest, Process, ProcessRequest, PtyListRequest, SignalReply, SignalRequest,
};
use workspace_proto::{Message, method};

/// Answers one call of `path`. The two large ones have memory of their own, so that thousands of followers are small.
pub(crate) async fn answer(
    agent: &Rc<Agent>,
    path: &str,
    body: RecvStream,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), Unanswered> {
    match path {
        method::RUN => {
            let request = read_request(body).await?;
            Box::pin(run::run(agent, request, respond)).await
        }
        method::ATTACH => attach::attach(agent, read_request(body).await?, respond).await,
        method::START => {
            let request = read_request(body).await?;
            let started = Box::pin(keep::start(agent, request, respond)).await?;
            reply(respond, &started).await
        }
        method::WAIT => {
            let ended = wait(agent, read_request(body).await?, respond).await?;
            reply(respond, &ended).await
        }
        method::INPUT => {
            let taken = input::input(agent, read_request(body).await?, respond).await?;
            reply(respond, &taken).await
        }
        method::GET => {
            let request: ProcessRequest = read_request(body).await?;
            reply(respond, &find(agent, request.pid)?.message()).await
        }
        method::LIST => {
            let _: ListRequest = read_request(body).await?;
            let list = ListReply { alive: agent.alive(), ..agent.table.borrow().list() };
            reply(respond, &list).await
        }
        method::SIGNAL => {
            let request: SignalRequest = read_request(body).await?;
            reply(respond, &signal(agent, &request)?).await
        }
        method::FILES => Box::pin(files::files(agent, body, respond)).await,
        method::PTY_OPEN => pty::open(agent, read_request(body).await?, respond).await,
        method::PTY_ATTACH => pty::attach(agent, body, respond).await,
        method::PTY_LIST => {
            let _: PtyListRequest = read_request(body).await?;
            let list = agent.ptys.borrow().list();
            reply(respond, &list).await
        }
        method::PTY_RESIZE => reply(respond, &pty::resize(agent, &read_request(body).await?)?).await,
        method::PTY_CLOSE => reply(respond, &pty::close(agent, &read_request(body).await?).await?).await,
        _ => Err(Status(Code::Unimplemented, "no such method").into()),
    }
}

/// A command of Run or Start that is known by this pid.
pub(crate) fn find(agent: &Agent, pid: u32) -> Result<Rc<Tracked>, Status> {
    agent.table.borrow().get(pid).ok_or(Status(Code::NotFound, "no such process"))
}

async fn reply(respond: &mut SendResponse<Bytes>, message: &impl Message) -> Result<(), Unanswered> {
    grpc::reply(respond, message).await;
    Ok(())
}

async fn wait(
    agent: &Agent,
    request: ProcessRequest,
    respond: &mut SendResponse<Bytes>,
) -> Result<Process, Unanswered> {
    let command = find(agent, request.pid)?;
    let listener = command.bell.listener();
    let ended = poll_fn(|cx| {
        if command.end().is_some() {
            return Poll::Ready(());
        }
        listener.listen(cx);
        Poll::Pending
    });
    grpc::while_wanted(respond, ended).await?;
    Ok(command.message())
}

/// Reaches commands of callers that are not reaped yet, and what comes from them; nobody else.
fn signal(agent: &Agent, request: &SignalRequest) -> Result<SignalReply, Status> {
    let signal = i32::try_from(request.signal).ok().filter(|signal| (1..=SIGNAL_MAX).contains(signal));
    let signal = signal.ok_or(Status(Code::InvalidArgument, "signal: 1 to 64"))?;
    if !find(agent, request.pid)?.signal(agent, signal) {
        return Err(Status(Code::NotFound, "the process has ended"));
    }
    Ok(SignalReply {})
}
