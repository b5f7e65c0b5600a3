//! What is one JSON-RPC message, and how are answers written? Everything that is wrong with a message is one error with
//! its id, where it has one that can be read.
//!
//! The envelope is read by hand, because the model's types cannot tell a malformed message from an unknown one; what is
//! in it, and every answer, is the model's.

use crate::wire::json;
use rmcp::model::{ErrorCode, ErrorData, JsonRpcError, JsonRpcResponse, JsonRpcVersion2_0, RequestId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Of an id that is a text.
const ID_BYTES_MAX: usize = 256;

/// A message of a client.
#[derive(Debug)]
pub(super) enum Incoming {
    /// It wants an answer.
    Request(Request),
    /// It does not.
    Notification {
        /// What happened.
        method: String,
        /// An object, or nothing.
        params: Value,
    },
    /// An answer to something that was asked of the client, or never.
    Response {
        /// Of what it answers.
        id: Option<RequestId>,
        /// Its `result` or `error`.
        answer: Value,
    },
}

/// What a client asks.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: RequestId,
    pub(super) method: String,
    /// An object, or nothing.
    pub(super) params: Value,
}

/// A message that is refused as a whole.
#[derive(Debug)]
pub(super) struct Fault {
    /// HTTP's word for it.
    pub(super) status: u16,
    pub(super) id: Option<RequestId>,
    pub(super) error: ErrorData,
}

impl Fault {
    pub(super) fn new(status: u16, code: ErrorCode, message: impl Into<String>) -> Fault {
        Fault { status, id: None, error: ErrorData::new(code, message.into(), None) }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Fault {
        Fault::new(400, ErrorCode::INVALID_REQUEST, message)
    }

    pub(super) fn of(mut self, id: &RequestId) -> Fault {
        self.id = Some(id.clone());
        self
    }

    pub(super) fn because(mut self, why: &str) -> Fault {
        self.error.message = format!("{}: {why}", self.error.message).into();
        self
    }

    pub(super) fn write(self) -> Vec<u8> {
        written(&JsonRpcError::new(self.id, self.error))
    }
}

/// Reads bytes: one message, or several in an array.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, Fault> {
    json::parse(bytes).map_err(|why| Fault::new(400, ErrorCode::PARSE_ERROR, why.to_string()))
}

/// Reads the envelope.
pub(super) fn read(message: Value) -> Result<Incoming, Fault> {
    let Value::Object(mut message) = message else { return Err(Fault::invalid("a message must be an object")) };
    let id = match message.remove("id") {
        None => None,
        Some(id) => match serde_json::from_value::<RequestId>(id) {
            Ok(RequestId::String(text)) if text.len() > ID_BYTES_MAX => {
                return Err(Fault::invalid(format!("`id` is longer than {ID_BYTES_MAX} bytes")));
            }
            Ok(id) => Some(id),
            Err(_) => return Err(Fault::invalid("`id` must be a text or a whole number within 64 bits")),
        },
    };
    let refuse = |message: &str| Fault { id: id.clone(), ..Fault::invalid(message) };
    if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(refuse("`jsonrpc` must be \"2.0\""));
    }
    let method = match message.remove("method") {
        Some(Value::String(method)) => method,
        None if message.contains_key("result") || message.contains_key("error") => {
            return Ok(Incoming::Response { id, answer: Value::Object(message) });
        }
        _ => return Err(refuse("`method` must be a text")),
    };
    let params = message.remove("params").unwrap_or(Value::Null);
    if !params.is_object() && !params.is_null() {
        let error = ErrorData::new(ErrorCode::INVALID_PARAMS, "`params` must be an object", None);
        return Err(Fault { status: 400, id, error });
    }
    Ok(match id {
        Some(id) => Incoming::Request(Request { id, method, params }),
        None => Incoming::Notification { method, params },
    })
}

/// Reads what a known method takes. -32602 where it is something else.
pub(super) fn params<T: DeserializeOwned>(request: &mut Request) -> Result<T, Fault> {
    let params = match std::mem::take(&mut request.params) {
        Value::Null => Value::Object(Default::default()),
        params => params,
    };
    serde_json::from_value(params)
        .map_err(|why| Fault::new(200, ErrorCode::INVALID_PARAMS, format!("params: {why}")).of(&request.id))
}

/// The answer to a request.
pub(super) fn response<R: Serialize>(id: &RequestId, result: R) -> Vec<u8> {
    written(&JsonRpcResponse { jsonrpc: JsonRpcVersion2_0, id: id.clone(), result })
}

/// Something that is told without being asked.
pub(super) fn notification<P: Serialize>(method: &str, params: P) -> Vec<u8> {
    #[derive(Serialize)]
    struct Told<'a, P> {
        jsonrpc: JsonRpcVersion2_0,
        method: &'a str,
        params: P,
    }
    written(&Told { jsonrpc: JsonRpcVersion2_0, method, params })
}

fn written(message: &impl Serialize) -> Vec<u8> {
    // Writing these types to memory does not fail.
    serde_json::to_vec(message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn code(message: Value) -> (i32, Option<Value>) {
        let fault = read(message).unwrap_err();
        (fault.error.code.0, fault.id.map(RequestId::into_json_value))
    }

    #[test]
    fn what_is_wrong_has_one_code_and_keeps_its_id() {
        assert_eq!(parse(b"{").unwrap_err().error.code, ErrorCode::PARSE_ERROR);
        assert_eq!(code(json!(1)), (-32600, None));
        assert_eq!(code(json!({"id": 1, "method": "ping"})), (-32600, Some(json!(1))));
        assert_eq!(code(json!({"jsonrpc": "1.0", "id": "a", "method": "ping"})), (-32600, Some(json!("a"))));
        assert_eq!(code(json!({"jsonrpc": "2.0", "id": 1, "method": 2})), (-32600, Some(json!(1))));
        assert_eq!(code(json!({"jsonrpc": "2.0", "id": 1, "method": "a", "params": []})), (-32602, Some(json!(1))));
        for id in
            [json!(null), json!({}), json!([1]), json!(true), json!(18446744073709551615u64), json!("a".repeat(257))]
        {
            assert_eq!(code(json!({"jsonrpc": "2.0", "id": id, "method": "ping"})), (-32600, None), "{id}");
        }
    }

    #[test]
    fn an_id_says_whether_an_answer_is_wanted() {
        let read = |value| read(value).unwrap();
        assert!(matches!(read(json!({"jsonrpc": "2.0", "id": 0, "method": "a"})), Incoming::Request(_)));
        assert!(matches!(read(json!({"jsonrpc": "2.0", "method": "a"})), Incoming::Notification { .. }));
        assert!(matches!(read(json!({"jsonrpc": "2.0", "id": 3, "result": {}})), Incoming::Response { .. }));
    }
}
