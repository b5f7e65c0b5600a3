//! MOUNT3 (RFC 1813 section 5): a sandbox's id becomes the handle of its /workspace. It lists nothing.

use super::status;
use crate::wire::xdr::{Garbage, Reader, put_opaque, put_u32};
use workspace_core::SandboxId;
use workspace_core::export::Exports;

const PATH_BYTES_MAX: usize = 1024;
const NOT_THERE: u32 = 2;
/// The kinds of credentials that are taken: AUTH_SYS.
const FLAVOURS: [u32; 1] = [1];

pub(super) fn mount(exports: &Exports, arguments: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Garbage> {
    let path = arguments.opaque(PATH_BYTES_MAX)?;
    match id_of(path).map(|id| exports.root(id)) {
        Some(Ok(root)) => {
            put_u32(out, 0);
            put_opaque(out, root.handle.as_bytes());
            put_u32(out, FLAVOURS.len() as u32);
            FLAVOURS.iter().for_each(|flavour| put_u32(out, *flavour));
        }
        Some(Err(fault)) => put_u32(out, status::of_mount(fault)),
        None => put_u32(out, NOT_THERE),
    }
    Ok(())
}

/// Exactly `/ID`: a path below it, or without its slash, is no export.
fn id_of(path: &[u8]) -> Option<SandboxId> {
    SandboxId::parse(std::str::from_utf8(path).ok()?.strip_prefix('/')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_slash_and_an_id_is_an_export() {
        let id = "aaq2wk57mzn4xcbdefghijklmnop3562";
        assert_eq!(id_of(format!("/{id}").as_bytes()), SandboxId::parse(id));
        for wrong in [id.to_owned(), format!("//{id}"), format!("/{id}/"), format!("/{id}/a"), "/".into(), "".into()] {
            assert_eq!(id_of(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(id_of(b"/\xff"), None);
    }
}
