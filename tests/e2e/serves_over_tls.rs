//! With a certificate, the five services speak TLS only, to each other and for their telemetry too.

use contracts::agent::Completeness;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tests::House;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Writes an authority, and a certificate of it for this machine, into `folder`; returns the settings that name them.
fn certify(folder: &std::path::Path) -> Vec<(&'static str, String)> {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let names = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let certificate = names.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap().pem();
    let written = [
        ("tls_ca", "ca.crt", authority_pem),
        ("tls_cert", "tls.crt", certificate),
        ("tls_key", "tls.key", key.serialize_pem()),
    ];
    let write = |(setting, name, pem): (&'static str, &str, String)| {
        let path = folder.join(name);
        std::fs::write(&path, pem).unwrap();
        (setting, path.display().to_string())
    };
    written.into_iter().map(write).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_over_tls_is_complete_and_its_trace_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::with(certify(folder.path())).await.unwrap();
    let cycle = house.cycle().await.unwrap();
    assert_eq!(cycle.completeness(), Completeness::Complete, "{:#?}", cycle.stages);
    // Each peer's health is followed on a connection of its own.
    for peer in athena::Service::ALL.into_iter().filter(|&peer| peer != athena::Service::Orchestrator) {
        let part = format!("{}/{peer}", athena::Service::Orchestrator.health_name());
        house.until_serving(&part).await.unwrap();
    }
    let trace = house.trace(&cycle.trace_id).await.unwrap();
    assert_eq!(trace.summary.unwrap().orphans, 0);
    let mut plain = TcpStream::connect(house.mesh.address(athena::Service::Monitor)).await.unwrap();
    plain.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // Some systems reset where others close.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "plaintext is answered");
    house.close().await.unwrap();
}
