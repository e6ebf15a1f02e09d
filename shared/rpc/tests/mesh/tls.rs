#![expect(clippy::unwrap_used, reason = "a test that cannot set up its host has failed")]

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::memory::{RecallRequest, memory_service_client::MemoryServiceClient};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rpc::{Channel, ChannelOptions, Client as _, Code, Error, HostSettings};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use telemetry::Telemetry;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::bystander::{Bystander, LONG, Running};

/// Signs certificates of servers.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Returns a certificate for `localhost` and its key.
    fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut params);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A certificate and its key on disk.
struct Files {
    _folder: tempfile::TempDir,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(pair: &(String, String)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let files = Self { _folder: folder, certificate, key };
        files.replace(pair);
        files
    }

    fn replace(&self, (certificate, key): &(String, String)) {
        std::fs::write(&self.certificate, certificate).unwrap();
        std::fs::write(&self.key, key).unwrap();
    }

    fn settings(&self) -> HostSettings {
        HostSettings {
            tls_cert: Some(self.certificate.clone()),
            tls_key: Some(self.key.clone()),
            ..HostSettings::defaults()
        }
    }

    fn host(&self) -> Running {
        Running::start_with("memory", &self.settings(), Bystander::telling().0, |host| host)
    }
}

async fn grpc(
    host: &Running,
    authority: &Authority,
) -> Result<MemoryServiceClient<tonic::transport::Channel>, tonic::transport::Error> {
    let tls =
        ClientTlsConfig::new().domain_name("localhost").ca_certificate(Certificate::from_pem(&authority.pem));
    let endpoint = Endpoint::from_shared(format!("https://{}", host.address))?.tls_config(tls)?;
    Ok(MemoryServiceClient::new(endpoint.connect().await?))
}

/// Shakes hands as an HTTP/1.1 client does.
async fn shake(host: &Running, authority: &Authority) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(host.address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

async fn metrics(mut stream: TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn grpc_and_http1_share_the_port() {
    let authority = Authority::new();
    let host = Files::new(&authority.sign(|_| ())).host();
    grpc(&host, &authority).await.unwrap().recall(RecallRequest::default()).await.unwrap();
    let stream = shake(&host, &authority).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let answer = metrics(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("rpc_server_call_duration_seconds"), "{answer}");
}

#[tokio::test]
async fn a_certificate_of_a_stranger_or_of_the_past_is_not_believed() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let host = Files::new(&authority.sign(|_| ())).host();
    grpc(&host, &stranger).await.unwrap_err();
    shake(&host, &stranger).await.unwrap_err();
    let expired = authority.sign(|params| params.not_after = date_time_ymd(2020, 1, 1));
    let host = Files::new(&expired).host();
    grpc(&host, &authority).await.unwrap_err();
    let error = shake(&host, &authority).await.unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}

#[tokio::test]
async fn a_new_pair_is_for_new_handshakes_and_open_connections_live_on() {
    let (before, after) = (Authority::new(), Authority::new());
    let files = Files::new(&before.sign(|_| ()));
    let host = files.host();
    let mut open = grpc(&host, &before).await.unwrap();
    files.replace(&after.sign(|_| ()));
    let replaced = async {
        while grpc(&host, &after).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, replaced).await.unwrap();
    grpc(&host, &before).await.unwrap_err();
    // It could not connect again: its authority is not that of the new certificate.
    open.recall(RecallRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_new_pair_that_is_broken_leaves_the_old_one_and_is_told_once() {
    let authority = Authority::new();
    let files = Files::new(&authority.sign(|_| ()));
    let host = files.host();
    // The certificate is new already, its key is not.
    std::fs::write(&files.certificate, authority.sign(|_| ()).0).unwrap();
    let told = || {
        let lines = host.captured.log_lines();
        lines.iter().filter(|line| line.contains("new certificate cannot be used")).count()
    };
    let noticed = async {
        while told() == 0 {
            shake(&host, &authority).await.unwrap();
        }
    };
    tokio::time::timeout(LONG, noticed).await.unwrap();
    grpc(&host, &authority).await.unwrap().recall(RecallRequest::default()).await.unwrap();
    assert_eq!(told(), 1);
}

#[tokio::test]
async fn plaintext_is_refused() {
    let authority = Authority::new();
    let host = Files::new(&authority.sign(|_| ())).host();
    let mut stream = TcpStream::connect(host.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // A reset is as good a refusal as an alert.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/"), "{answer:?}");
    let status = host.memory().recall(RecallRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_silent_handshake_is_ended_and_holds_nobody_up() {
    let authority = Authority::new();
    let files = Files::new(&authority.sign(|_| ()));
    let handshake_timeout = Duration::from_millis(500);
    let settings = HostSettings { handshake_timeout, ..files.settings() };
    let host = Running::start_with("memory", &settings, Bystander::telling().0, |host| host);
    let mut silent = TcpStream::connect(host.address).await.unwrap();
    let began = Instant::now();
    grpc(&host, &authority).await.unwrap().recall(RecallRequest::default()).await.unwrap();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(handshake_timeout / 2 < began.elapsed() && began.elapsed() < LONG, "{:?}", began.elapsed());
}

#[tokio::test]
async fn half_of_a_pair_is_refused_by_the_name_of_what_is_missing() {
    let files = Files::new(&Authority::new().sign(|_| ()));
    let whole = files.settings();
    let bind = |settings: &HostSettings| {
        rpc::Host::bind(settings, 0, telemetry::Telemetry::silent("memory"), clock::Clock::system())
            .unwrap_err()
    };
    let error = bind(&HostSettings { tls_key: None, ..whole.clone() });
    assert!(error.to_string().starts_with("`tls_key` is missing"), "{error}");
    let error = bind(&HostSettings { tls_cert: None, ..whole.clone() });
    assert!(error.to_string().starts_with("`tls_cert` is missing"), "{error}");
    files.replace(&(Authority::new().sign(|_| ()).0, "no key".to_owned()));
    assert!(matches!(bind(&whole), Error::Tls(_)));
}

/// Calls over our channel, which believes this authority beside the public ones.
async fn ours(host: &Running, authority: &Authority) -> Result<(), Code> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &authority.pem).unwrap();
    let options = ChannelOptions { tls_ca: Some(file.path().to_owned()), ..ChannelOptions::default() };
    let url = format!("https://localhost:{}", host.address.port());
    let channel = Channel::lazy(&url, options, Telemetry::silent("test")).unwrap();
    let recalled = MemoryServiceClient::over(channel).recall(RecallRequest::default()).await;
    recalled.map(drop).map_err(|status| status.code())
}

#[tokio::test]
async fn a_channel_believes_the_authority_of_its_settings_only() {
    let (authority, other) = (Authority::new(), Authority::new());
    let files = Files::new(&authority.sign(|_| ()));
    let host = files.host();
    assert_eq!(ours(&host, &authority).await, Ok(()));
    assert_eq!(ours(&host, &other).await, Err(Code::Unavailable));
    let expired = authority.sign(|params| params.not_after = date_time_ymd(2020, 1, 1));
    assert_eq!(ours(&Files::new(&expired).host(), &authority).await, Err(Code::Unavailable));
}

#[tokio::test]
async fn an_authority_that_cannot_be_read_is_named_at_once() {
    let made = |path: PathBuf| {
        let options = ChannelOptions { tls_ca: Some(path), ..ChannelOptions::default() };
        Channel::lazy("https://localhost:1", options, Telemetry::silent("test"))
    };
    let empty = tempfile::NamedTempFile::new().unwrap();
    for path in [PathBuf::from("no/such/file"), empty.path().to_owned()] {
        let error = made(path.clone()).unwrap_err();
        assert!(matches!(&error, Error::Authority { path: named, .. } if *named == path), "{error}");
    }
}
