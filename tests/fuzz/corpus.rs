//! What mutations start from: one input for each branch that a parser has, and what was once found.
#![allow(non_upper_case_globals)] // Each is the corpus of the target of the same name.

pub(crate) const head: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\n\r\nPOST /a?b=c HTTP/1.0\r\nContent-Length: 5\r\nX:\ty\r\n\r\nhello",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    b"GET http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
];

pub(crate) const framing: &[&[u8]] = head;

pub(crate) const chunked: &[&[u8]] = &[
    b"5\r\nhello\r\n0\r\n\r\nnext",
    b"5;a=\"b\"\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"00000A ; x\r\n0123456789\r\n000\r\n\r\n",
    b"fffffffffffffff\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n",
    b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n",
];

pub(crate) const query: &[&[u8]] = &[
    b"state=running&limit=10&cursor=AAA",
    b"metadata.a=b&metadata.c.d=e+f%20g",
    b"a=%2525&b=%e2%82%ac&=x&&y",
    b"a=%00&b=%zz&c=%",
    b"m=1&m.k=2",
];

pub(crate) const range: &[&[u8]] = &[
    b"bytes=0-0,-1, 5-",
    b"Bytes=18446744073709551615-18446744073709551616",
    b"bytes=-99999999999999999999,4-6,0-4",
    b"bytes=,,,",
    b"lines=1-2",
];

pub(crate) const date: &[&[u8]] = &[
    b"Sun, 06 Nov 1994 08:49:37 GMT",
    b"Sunday, 06-Nov-94 08:49:37 GMT",
    b"Sun Nov  6 08:49:37 1994",
    b"Tue, 29 Feb 2000 23:59:60 GMT",
];
pub(crate) const entity: &[&[u8]] =
    &[b"\"a\", W/\"b,c\"", b"*", b"\"\"", b"\"unterminated", "\"é\" , \"x\"".as_bytes(), b"W/\"a\"\"b\""];

pub(crate) const json: &[&[u8]] = &[
    br#"{"command":"sh","args":["-c","true"],"env":{"A":"B"},"timeout":1000,"partial":true}"#,
    br#"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"#,
    br#"{"a":1,"a":2}"#,
    br#"{"a":"\u0000\ud83d\ude00\\\"[{","b":-0,"c":1e400,"d":18446744073709551616}"#,
    b"\xef\xbb\xbf{}",
    b"\"\xff\"",
];

pub(crate) const fields: &[&[u8]] = json;

pub(crate) const base64_url: &[&[u8]] =
    &[b"AAYvQk1JAABhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYQ", b"Zg", b"Zm8", b"Zm9v", b"-_8", b"A", b"Zh"];

pub(crate) const terminal: &[&[u8]] = &[
    br#"{"type":"input","data":"ls\r\u0003"}"#,
    br#" {"type":"resize","cols":80,"rows":24,"later":{}}"#,
    br#"{"type":"ping"}"#,
    b"ls -la\r",
];

/// Masked with zeros, so that a change of a byte is one of the payload: a text in fragments around a ping, binary, a close;
/// lengths in 16 and 64 bits; what is refused.
pub(crate) const websocket: &[&[u8]] = &[
    b"\x01\x83\0\0\0\0a\xf0\x9f\x89\x82\0\0\0\0hi\x80\x83\0\0\0\0\x98\x80b\x82\x81\0\0\0\0\xff\x88\x85\0\0\0\0\x03\xe8bye",
    b"\x82\xfe\x00\x03\0\0\0\0abc\x81\xff\0\0\0\0\0\0\0\x02\0\0\0\0ok",
    b"\x82\xff\0\0\0\0\x40\0\0\0\0\0\0\0",
    b"\x81\x82\x01\x02\x03\x04\xc1\xad",
    b"\x02\x80\0\0\0\0\x00\x80\0\0\0\0\x00\x80\0\0\0\0\x80\x80\0\0\0\0",
    b"\x88\x82\0\0\0\0\x03\xed",
    b"\x88\x81\0\0\0\0\x03",
];

pub(crate) const grpc_frame: &[&[u8]] = &[
    &[0, 0, 0, 0, 4, 8, 1, 18, 0],
    &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[1, 0, 0, 0, 0],
    &[0, 255, 255, 255, 255],
    &[0, 0, 0, 0, 3, 18, 200, 1],
];

/// Version byte, state, resources; then with a map, an optional and an identity.
pub(crate) const record: &[&[u8]] = &[
    b"\x01\x18\x02\x72\x08\x28\x01\x30\x01\x38\x01\x40\x01",
    b"\x01\x18\x06\x22\x06\x0a\x01a\x12\x01b\x48\x05\x72\x11\x11\x00\x00\x00\x00\x00\x00\xe0\x3f\x28\x03\x30\x02\x38\x01\x40\x01\x8a\x01\x02\x08\x07",
    b"\x02",
];

pub(crate) const database_file: &[&[u8]] = &[&smallest_database()];

/// Pages of 512 bytes: two meta pages, and one leaf with one value. As LMDB writes them on a little-endian machine.
const fn smallest_database() -> [u8; 3 * 512] {
    let mut file = [0; 3 * 512];
    let mut page = 0;
    while page < 2 {
        let start = page * 512;
        file[start] = page as u8;
        put(&mut file, start + 10, &[8]);
        put(&mut file, start + 16, &[0xde, 0xc0, 0xef, 0xbe, 1]);
        // The free list: the page size, MDB_INTEGERKEY, no root.
        put(&mut file, start + 16 + 24, &[0, 2, 0, 0, 8]);
        put(&mut file, start + 16 + 64, &[0xff; 8]);
        // The main tree: depth 1, root 2; then the last page and the transaction.
        put(&mut file, start + 16 + 78, &[1]);
        put(&mut file, start + 16 + 112, &[2]);
        put(&mut file, start + 16 + 120, &[2]);
        file[start + 16 + 128] = page as u8;
        page += 1;
    }
    let leaf = 2 * 512;
    put(&mut file, leaf, &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 18, 0, 0xf2, 1, 0xf2, 1]);
    put(&mut file, leaf + 0x1f2, &[4, 0, 0, 0, 0, 0, 1, 0, b'k', b'a', b'b', b'c', b'd']);
    file
}

const fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    let mut i = 0;
    while i < bytes.len() {
        file[at + i] = bytes[i];
        i += 1;
    }
}

pub(crate) const log_filter: &[&[u8]] = &[
    b"info",
    b"warn,workspace_core=trace,h2=off",
    // The blank became part of the target's name.
    b"warn, workspace_core=DEBUG",
    b"a-b::c=Error,1,x=info",
];

pub(crate) const printed: &[&[u8]] = &[
    b"plain\n",
    b"\0\x01\x08\t\x0c\r\x1f \"\\/\x7f",
    "é€😀\u{2028}\u{feff}".as_bytes(),
    b"\xe2\x82 \xf0\x9f\x98 \xc0\xaf \xed\xa0\x80 \xff",
];
