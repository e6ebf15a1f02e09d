//! What is wrong around a message: its frame, its bytes, its headers.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use rpc::Code;
use tests::wire::{frame, framed};

/// One call, and the codes that are right for it; none: those of a good message.
#[derive(Clone, Debug)]
pub(crate) struct Framed {
    pub(crate) what: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) code: Option<Code>,
    /// The header that is then named.
    pub(crate) names: Option<&'static str>,
}

/// Makes the frames that are none, or that are not what they say, around a good message. `limit` is the largest message.
pub(crate) fn frames(good: &DynamicMessage, limit: usize) -> Vec<Framed> {
    let message = good.encode_to_vec();
    let length = |more: usize| u32::try_from(message.len() + more).unwrap();
    let mut cases = Vec::new();
    let mut add = |what: &str, code: Code, body: Bytes| cases.push(case(what, Some(code), body));
    add("no frame", Code::InvalidArgument, Bytes::new());
    add("a part of a frame's head", Code::InvalidArgument, Bytes::from_static(&[0, 0, 0]));
    add("a frame that ends early", Code::InvalidArgument, framed(0, length(1), &message));
    add(
        "an empty frame with garbage behind it",
        Code::InvalidArgument,
        [&frame(&[])[..], b"abc"].concat().into(),
    );
    for flag in [1, 2, 255] {
        add(&format!("compressed by {flag}"), Code::InvalidArgument, framed(flag, length(0), &message));
    }
    add("one byte too long", Code::OutOfRange, frame(&vec![0; limit + 1]));
    add("said to be of 4 GiB", Code::OutOfRange, framed(0, u32::MAX, &message));
    for (what, bytes) in undecodable(&message) {
        add(&format!("undecodable: {what}"), Code::InvalidArgument, frame(&bytes));
    }
    // Of whom it is that the newer client sends this, the older server cannot know.
    let unknown = [&message[..], &[0xf8, 0xff, 0xff, 0xff, 0x0f, 1]].concat();
    cases.push(case("an unknown field", None, frame(&unknown)));
    cases
}

fn undecodable(message: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let after = |bytes: &[u8]| [message, bytes].concat();
    vec![
        ("field 0", after(&[0x00, 0x01])),
        (
            "a number without end",
            after(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ),
        ("a length beyond the end", after(&[0xfa, 0x7f, 0x7f])),
        ("a group that is not closed", after(&[0xfb, 0x7f])),
        ("a group that was not opened", after(&[0xfc, 0x7f])),
        ("groups in groups", after(&[0xfb, 0x7f].repeat(10_000))),
        ("wire type 7", after(&[0xff, 0x7f])),
        ("noise", vec![0xff; 64]),
    ]
}

/// Makes the headers that are wrong, around a good message.
pub(crate) fn headers(good: &DynamicMessage) -> Vec<Framed> {
    let body = frame(&good.encode_to_vec());
    let with = |what: String, code, name: &'static str, value: &str| {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value)]);
        Framed { headers, ..case(&what, code, body.clone()) }
    };
    let timeout = |value: &str, code| with(format!("grpc-timeout {value:?}"), code, "grpc-timeout", value);
    let mut cases = vec![
        timeout("0n", Some(Code::DeadlineExceeded)),
        timeout("00000000H", Some(Code::DeadlineExceeded)),
        timeout("99999999H", None),
        with("an unknown compression".into(), Some(Code::Unimplemented), "grpc-encoding", "brotli"),
        with("a trace that is none".into(), None, "traceparent", "00-zz-é-01"),
    ];
    for bad in ["", "soon", "1", "S", "1s", "-1S", "+1S", "1.5S", " 1S", "123456789S", "1é", "1SS"] {
        let case = timeout(bad, Some(Code::InvalidArgument));
        cases.push(Framed { names: Some("grpc-timeout"), ..case });
    }
    cases
}

/// Makes the callers who are not let in, around a good message.
pub(crate) fn callers(good: &DynamicMessage) -> Vec<Framed> {
    let body = frame(&good.encode_to_vec());
    let mut cases = vec![case("no token", Some(Code::Unauthenticated), body.clone())];
    let long = format!("Bearer {}", "x".repeat(8_000));
    for token in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer tok",
        "Bearer tokens",
        "Basic token",
        "token",
        "Bearer é",
        &long,
    ] {
        let value = HeaderValue::from_bytes(token.as_bytes()).unwrap();
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
        let what = format!("token {token:.20?}");
        cases.push(Framed { headers, ..case(&what, Some(Code::Unauthenticated), body.clone()) });
    }
    cases
}

fn case(what: &str, code: Option<Code>, body: Bytes) -> Framed {
    Framed { what: what.to_owned(), headers: HeaderMap::new(), body, code, names: None }
}
