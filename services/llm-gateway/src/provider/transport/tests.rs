use std::{
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::{Either, select};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::proxy::matcher::Matcher,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use telemetry::Telemetry;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinSet, coop},
};
use tokio_rustls::TlsAcceptor;

use super::{Error, Outside, SetupError, Transport};

const PATIENCE: Duration = Duration::from_secs(10);
const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// A server that says back what it was asked, a line each: version, target, host, what was shown to a proxy, body.
struct Echo {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    authorities: Vec<CertificateDer<'static>>,
    server: JoinSet<()>,
}

impl Echo {
    async fn plain() -> Self {
        Self::start(None, Vec::new()).await
    }

    /// Over TLS, where it agrees on one of `protocols`.
    async fn secure(protocols: &[&[u8]]) -> Self {
        let (tls, authorities) = certified(protocols);
        Self::start(Some(tls), authorities).await
    }

    async fn start(tls: Option<TlsAcceptor>, authorities: Vec<CertificateDer<'static>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, mut server) = (Arc::clone(&connections), JoinSet::new());
        server.spawn(async move {
            let mut served = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let tls = tls.clone();
                served.spawn(async move {
                    match tls {
                        Some(tls) => echo(tls.accept(stream).await.unwrap()).await,
                        None => echo(stream).await,
                    }
                });
            }
        });
        Self { address, connections, authorities, server }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns a way to it, by a name that its certificate holds.
    fn transport(&self, scheme: &str, proxies: Matcher) -> Transport {
        let address = format!("{scheme}://localhost:{}/v1/chat", self.address.port());
        to(&address, Outside { proxies, authorities: self.authorities.clone() }).unwrap()
    }
}

/// Returns how a server shakes hands as `localhost`, and who vouches for it.
fn certified(protocols: &[&[u8]]) -> (TlsAcceptor, Vec<CertificateDer<'static>>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) =
        (made.cert.der().clone(), PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    (TlsAcceptor::from(Arc::new(config)), vec![certificate])
}

async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = service_fn(async |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let header =
            |name: &str| head.headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
        let body = body.collect().await.unwrap().to_bytes();
        let said = [
            format!("{:?}", head.version),
            head.uri.to_string(),
            header("host"),
            header("proxy-authorization"),
            String::from_utf8(body.to_vec()).unwrap(),
        ];
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(said.join("\n")))))
    });
    // Whoever asks sees how it ended.
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// A proxy that opens a tunnel to whatever it is asked for; returns its address, and what it was asked.
async fn tunnelling() -> (SocketAddr, JoinSet<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut proxy = JoinSet::new();
    proxy.spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let asked = head(&mut client).await;
        let to = asked.split(' ').nth(1).unwrap().to_owned();
        let mut server = TcpStream::connect(to).await.unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        // It ends with either side.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        asked
    });
    (address, proxy)
}

/// Reads the head of a request.
async fn head(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(read).unwrap()
}

fn none() -> Matcher {
    Matcher::builder().build()
}

fn behind(proxies: Matcher) -> Outside {
    Outside { proxies, authorities: Vec::new() }
}

fn to(address: &str, outside: Outside) -> Result<Transport, SetupError> {
    let telemetry = Telemetry::silent("gateway");
    Transport::new(address.parse().unwrap(), HeaderMap::new(), &outside, PATIENCE, &telemetry)
}

/// Returns a listener, and a transport to it by HTTP/1.1.
async fn raw() -> (TcpListener, Transport) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let transport = to(&format!("http://{}/", listener.local_addr().unwrap()), behind(none())).unwrap();
    (listener, transport)
}

/// Takes the next connection, reads a request of no body from it, and answers with `bytes`.
async fn answered(listener: &TcpListener, bytes: &[u8]) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    head(&mut stream).await;
    stream.write_all(bytes).await.unwrap();
    stream
}

async fn said(transport: &Transport, body: &'static str) -> String {
    let mut reply = transport.post(&Bytes::from_static(body.as_bytes())).await.unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    let mut said = Vec::new();
    while let Some(chunk) = reply.body.chunk().await.unwrap() {
        said.extend_from_slice(&chunk);
    }
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn one_request_after_another_takes_one_connection_and_those_at_once_one_each() {
    let echo = Echo::plain().await;
    let transport = echo.transport("http", none());
    let port = echo.address.port();
    for _ in 0..3 {
        assert_eq!(said(&transport, "hi").await, format!("HTTP/1.1\n/v1/chat\nlocalhost:{port}\n-\nhi"));
    }
    assert_eq!(echo.connections(), 1);
    let body = Bytes::new();
    let (first, second) = (transport.post(&body).await.unwrap(), transport.post(&body).await.unwrap());
    assert_eq!((first.status, second.status, echo.connections()), (StatusCode::OK, StatusCode::OK, 2));
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_is_not_used_again() {
    let (listener, transport) = raw().await;
    let (hello, stream) = tokio::join!(said(&transport, ""), answered(&listener, HELLO));
    drop(stream);
    // Until the system has told of it.
    while transport.pool.prune() {
        tokio::task::yield_now().await;
    }
    let (again, _stream) = tokio::join!(said(&transport, ""), answered(&listener, HELLO));
    assert_eq!((hello.as_str(), again.as_str()), ("hello", "hello"));
}

#[tokio::test]
async fn a_request_that_a_closed_connection_did_not_take_goes_over_a_new_one() {
    let (listener, transport) = raw().await;
    let (_, stream) = tokio::join!(said(&transport, ""), answered(&listener, HELLO));
    drop(stream);
    for _ in 0..8 {
        // Until the system has told of it.
        tokio::task::yield_now().await;
    }
    let tired = async {
        // A task that did much in its turn reads nothing more, and cannot see the end.
        let spend = |context: &mut Context<'_>| {
            while let Poll::Ready(spent) = coop::poll_proceed(context) {
                spent.made_progress();
            }
            Poll::Ready(())
        };
        poll_fn(spend).await;
        said(&transport, "").await
    };
    let (hello, _stream) = tokio::join!(tired, answered(&listener, HELLO));
    assert_eq!(hello, "hello");
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_takes_its_connection_along() {
    let (listener, transport) = raw().await;
    let body = Bytes::new();
    let mut stream = {
        let asked = pin!(transport.post(&body));
        match select(asked, pin!(answered(&listener, b""))).await {
            Either::Right((stream, _)) => stream,
            Either::Left(_) => panic!("nothing was answered"),
        }
    };
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_that_the_upstream_gives_up_is_not_kept() {
    let closes = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    for (answer, body) in [(&closes[..], Bytes::new()), (HELLO, Bytes::from(vec![b' '; 64 << 20]))] {
        let (listener, transport) = raw().await;
        let (reply, mut stream) = tokio::join!(transport.post(&body), answered(&listener, answer));
        let mut reply = reply.unwrap();
        assert_eq!(reply.body.chunk().await.unwrap().unwrap(), "hello");
        drop(reply);
        assert!(transport.pool.take().is_none());
        // What was on its way, and then the end.
        stream.read_to_end(&mut Vec::new()).await.ok();
    }
}

#[tokio::test]
async fn an_answer_that_is_left_takes_its_connection_along() {
    let (listener, transport) = raw().await;
    let part = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let body = Bytes::new();
    let (reply, mut stream) = tokio::join!(transport.post(&body), answered(&listener, part));
    let mut reply = reply.unwrap();
    assert_eq!(reply.body.chunk().await.unwrap().unwrap(), "hello");
    drop(reply);
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn an_answer_that_is_there_gives_its_connection_back_though_its_end_was_not_read() {
    let (listener, transport) = raw().await;
    let whole = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let body = Bytes::new();
    let (reply, mut stream) = tokio::join!(transport.post(&body), answered(&listener, whole));
    let mut reply = reply.unwrap();
    assert_eq!(reply.body.chunk().await.unwrap().unwrap(), "hello");
    drop(reply);
    let again = async {
        head(&mut stream).await;
        stream.write_all(HELLO).await.unwrap();
    };
    let (hello, ()) = tokio::join!(said(&transport, ""), again);
    assert_eq!(hello, "hello");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let (listener, transport) = raw().await;
    let part = b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello";
    let body = Bytes::new();
    let (reply, stream) = tokio::join!(transport.post(&body), answered(&listener, part));
    let mut reply = reply.unwrap();
    assert_eq!(reply.body.chunk().await.unwrap().unwrap(), "hello");
    drop(stream);
    assert!(matches!(reply.body.chunk().await, Err(Error::Broken(_))));
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_in_the_end() {
    let (listener, transport) = raw().await;
    let (_, mut stream) = tokio::join!(said(&transport, ""), answered(&listener, HELLO));
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert!((90..120).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_upstream_that_nobody_reaches_is_an_error_and_one_that_says_nothing_in_time_too() {
    let nobody = testkit::port_nobody_listens_on();
    let transport = |address: String| to(&address, behind(none())).unwrap();
    let refused = transport(format!("http://{}/", nobody.address())).post(&Bytes::new()).await;
    assert!(matches!(refused, Err(Error::Connect(_))));
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    tokio::time::pause();
    let late = transport(format!("https://{}/", silent.local_addr().unwrap())).post(&Bytes::new()).await;
    assert!(matches!(late, Err(Error::Connect(_))));
}

#[tokio::test]
async fn over_tls_requests_share_a_connection_of_http_2_where_the_upstream_speaks_it() {
    for (protocols, version, most) in
        [(&[b"h2".as_slice(), b"http/1.1"][..], "HTTP/2.0", 1), (&[b"http/1.1"], "HTTP/1.1", 2)]
    {
        let echo = Echo::secure(protocols).await;
        let transport = echo.transport("https", none());
        assert_eq!(said(&transport, "hi").await.lines().next(), Some(version));
        let (one, two) = tokio::join!(said(&transport, "one"), said(&transport, "two"));
        assert_eq!((one.lines().last(), two.lines().last()), (Some("one"), Some("two")));
        assert_eq!(echo.connections(), most, "{version}");
    }
}

#[tokio::test]
async fn a_shared_connection_that_the_upstream_closed_is_not_used_again() {
    let mut echo = Echo::secure(&[b"h2"]).await;
    let transport = echo.transport("https", none());
    assert_eq!(said(&transport, "hi").await.lines().next(), Some("HTTP/2.0"));
    echo.server.shutdown().await;
    while transport.pool.prune() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(transport.post(&Bytes::new()).await, Err(Error::Connect(_))));
}

#[tokio::test]
async fn a_request_that_the_upstream_did_not_look_at_goes_over_a_new_connection() {
    let (tls, authorities) = certified(&[b"h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut calls = JoinSet::new();
        for connection in 0_u16.. {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = tls.accept(stream).await.unwrap();
            calls.spawn(async move {
                let mut served = h2::server::handshake(stream).await.unwrap();
                let mut request = 0;
                while let Some(Ok((_, mut respond))) = served.accept().await {
                    request += 1;
                    if (connection, request) == (0, 2) {
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                    } else {
                        let head = Response::builder().status(200 + connection).body(()).unwrap();
                        respond.send_response(head, true).unwrap();
                    }
                }
            });
        }
    });
    let echo = Echo { address, connections: Arc::default(), authorities, server };
    let transport = echo.transport("https", none());
    let asked = async || transport.post(&Bytes::new()).await.unwrap().status.as_u16();
    assert_eq!((asked().await, asked().await, asked().await), (200, 201, 200));
}

#[tokio::test]
async fn a_certificate_of_nobody_known_is_not_believed() {
    let mut echo = Echo::secure(&[b"h2"]).await;
    echo.authorities.clear();
    let Err(Error::Connect(cause)) = echo.transport("https", none()).post(&Bytes::new()).await else {
        panic!("it was believed");
    };
    assert!(cause.to_string().contains("certificate"), "{cause}");
}

#[tokio::test]
async fn a_proxy_is_told_whom_to_ask_and_who_asks() {
    let proxy = Echo::plain().await;
    let proxies =
        Matcher::builder().http(format!("http://me:secret@{}", proxy.address)).no("internal.test").build();
    let transport = to("http://model.test/v1/chat", behind(proxies)).unwrap();
    let shown = "HTTP/1.1\nhttp://model.test/v1/chat\nmodel.test\nBasic bWU6c2VjcmV0\nhi";
    assert_eq!(said(&transport, "hi").await, shown);
}

#[tokio::test]
async fn a_host_that_the_environment_leaves_out_is_asked_directly() {
    let echo = Echo::plain().await;
    let nobody = testkit::port_nobody_listens_on();
    let proxies = Matcher::builder().all(nobody.url()).no("localhost").build();
    assert!(said(&echo.transport("http", proxies), "hi").await.starts_with("HTTP/1.1\n/v1/chat\n"));
}

#[tokio::test]
async fn a_tunnel_through_a_proxy_shows_it_nothing_but_the_host() {
    let echo = Echo::secure(&[b"h2", b"http/1.1"]).await;
    let (proxy, mut asked) = tunnelling().await;
    let transport =
        echo.transport("https", Matcher::builder().all(format!("http://me:secret@{proxy}")).build());
    let seen = said(&transport, "hi").await;
    assert_eq!((seen.lines().next(), seen.lines().nth(3)), (Some("HTTP/2.0"), Some("-")));
    drop(transport);
    let asked = asked.join_next().await.unwrap().unwrap();
    assert!(asked.starts_with(&format!("CONNECT localhost:{} HTTP/1.1\r\n", echo.address.port())), "{asked}");
    assert!(asked.contains("Basic bWU6c2VjcmV0") && !asked.contains("/v1/chat"), "{asked}");
}

#[test]
fn an_address_or_a_proxy_that_cannot_be_used_is_said_to_be_so() {
    let made = |address: &'static str, proxy: &'static str| {
        to(address, behind(Matcher::builder().all(proxy).build())).map(drop)
    };
    for address in
        ["ftp://host/", "/v1", "http://user:password@host/v1", "http://host:99999/", "http://host:80x/"]
    {
        assert!(matches!(made(address, ""), Err(SetupError::Url)), "{address}");
    }
    assert!(matches!(made("http://host/", "socks5://proxy"), Err(SetupError::Proxy)));
    assert!(made("https://host/", "http://proxy").is_ok());
}
