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

pub(crate) const grpc_frame: &[&[u8]] = &[
    &[0, 0, 0, 0, 4, 8, 1, 18, 0],
    &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[1, 0, 0, 0, 0],
    &[0, 255, 255, 255, 255],
    &[0, 0, 0, 0, 3, 18, 200, 1],
];
