//! TLS by rustls: gRPC and HTTP/1.1 on one port, and certificates that change without a restart.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::dispatcher;

use crate::{Error, HostSettings, net::Io};

/// What is spoken inside, the better first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Time between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// A certificate and its key, from files that may be replaced at any time.
#[derive(Debug)]
pub(crate) struct Tls {
    files: Files,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// The contents that were last read, whether they could be used or not.
    read: (Vec<u8>, Vec<u8>),
    looked: Instant,
}

/// Why a pair of files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("cannot read {path}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} is not PEM of the kind that is needed")]
    NotPem { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("the certificate and the key are not a pair")]
    NotAPair(#[source] rustls::Error),
}

impl Tls {
    /// Reads the pair that the settings name; `None` if they name none.
    ///
    /// # Errors
    /// If only one of the two is named, or they cannot be used.
    pub(crate) fn of(settings: &HostSettings) -> Result<Option<Arc<Self>>, Error> {
        let files = match (&settings.tls_cert, &settings.tls_key) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => Files { certificate: certificate.clone(), key: key.clone() },
            (Some(_), None) => return Err(Error::HalfTls { missing: "tls_key", given: "tls_cert" }),
            (None, Some(_)) => return Err(Error::HalfTls { missing: "tls_cert", given: "tls_key" }),
        };
        let unusable = |source: Unusable| Error::Tls(Box::new(source));
        let read = files.read().map_err(unusable)?;
        let config = files.config(&read).map_err(unusable)?;
        let current = Mutex::new(Current { config, read, looked: Instant::now() });
        Ok(Some(Arc::new(Self { files, current })))
    }

    /// Shakes hands over `io`.
    ///
    /// # Errors
    /// If the client speaks no TLS, or nothing that we speak inside of it.
    pub(crate) async fn accept(self: &Arc<Self>, io: Box<dyn Io>) -> io::Result<TlsStream<Box<dyn Io>>> {
        if self.is_due() {
            let tls = Arc::clone(self);
            let dispatch = dispatcher::get_default(Clone::clone);
            let look = move || dispatcher::with_default(&dispatch, || tls.look());
            // Only fails if it panics or the runtime ends; the pair we have is as good as before.
            let _ = tokio::task::spawn_blocking(look).await;
        }
        let config = Arc::clone(&self.current.lock().config);
        TlsAcceptor::from(config).accept(io).await
    }

    /// Whether the files are to be looked at again; says so to one only.
    fn is_due(&self) -> bool {
        let mut current = self.current.lock();
        let due = current.looked.elapsed() >= LOOK;
        if due {
            current.looked = Instant::now();
        }
        due
    }

    /// Takes the pair of the files if it is another one and can be used.
    fn look(&self) {
        let read = match self.files.read() {
            Ok(read) => read,
            // In the middle of being replaced: the next look will tell.
            Err(error) => {
                return tracing::debug!(error = &error as &dyn std::error::Error, "certificate not read");
            }
        };
        if self.current.lock().read == read {
            return;
        }
        match self.files.config(&read) {
            Ok(config) => {
                let mut current = self.current.lock();
                (current.config, current.read) = (config, read);
                tracing::info!("certificate replaced");
            }
            Err(error) => {
                self.current.lock().read = read;
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "new certificate cannot be used, the old one is kept");
            }
        }
    }
}

impl Files {
    fn read(&self) -> Result<(Vec<u8>, Vec<u8>), Unusable> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| Unusable::Unreadable { path: path.to_owned(), source })
        };
        Ok((read(&self.certificate)?, read(&self.key)?))
    }

    fn config(&self, (certificate, key): &(Vec<u8>, Vec<u8>)) -> Result<Arc<ServerConfig>, Unusable> {
        let not_pem = |path: &Path| {
            let path = path.to_owned();
            move |source| Unusable::NotPem { path, source }
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(not_pem(&self.certificate))?;
        if chain.is_empty() {
            let source = rustls::pki_types::pem::Error::NoItemsFound;
            return Err(not_pem(&self.certificate)(source));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(not_pem(&self.key))?;
        // Given by hand: what the process has installed, if anything, is not ours to know.
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Unusable::NotAPair)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(Unusable::NotAPair)?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(Arc::new(config))
    }
}
