//! RTMPS: TLS between the socket and the RTMP machine, without a task or a lock of its own.
//!
//! rustls is fed with what `recv` brought and gives plain bytes back; it knows no socket, so the media loop stays what it is.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use crossbeam::channel::{RecvTimeoutError, Sender, bounded};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};

/// A certificate chain and its private key, both in PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("reading {path}")]
    Read { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{path} holds no certificate")]
    NoCertificate { path: PathBuf },
    #[error("the key {path} cannot be used")]
    Key { path: PathBuf, source: rustls::Error },
    #[error("the certificate {path} and its key do not belong together")]
    Mismatch { path: PathBuf, source: rustls::Error },
    #[error("the certificate {path} cannot be read")]
    Certificate { path: PathBuf, source: rustls::Error },
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// What new connections are answered with; replaced as a whole when certificates are read anew.
pub type Acceptor = ArcSwap<ServerConfig>;

/// Reads the certificates: TLS 1.2 and 1.3, no client certificates.
///
/// # Errors
/// The first file that cannot be used.
pub fn server_config(files: &[CertificateFiles]) -> Result<Arc<ServerConfig>, CertificateError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let keys = files.iter().map(|files| certified_key(files, &provider)).collect::<Result<Vec<_>, _>>()?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(CertificateError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName { keys }));
    Ok(Arc::new(config))
}

fn certified_key(files: &CertificateFiles, provider: &rustls::crypto::CryptoProvider) -> Result<Arc<CertifiedKey>, CertificateError> {
    let CertificateFiles { certificate, key } = files;
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| CertificateError::Read { path, source }
    };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(certificate).map_err(read(certificate))?.collect::<Result<_, _>>().map_err(read(certificate))?;
    let Some(first) = chain.first() else { return Err(CertificateError::NoCertificate { path: certificate.clone() }) };
    ParsedCertificate::try_from(first).map_err(|source| CertificateError::Certificate { path: certificate.clone(), source })?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(read(key))?;
    let signer = provider.key_provider.load_private_key(private).map_err(|source| CertificateError::Key { path: key.clone(), source })?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        // Some kinds of keys cannot tell.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(Arc::new(certified)),
        Err(source) => Err(CertificateError::Mismatch { path: certificate.clone(), source }),
    }
}

/// The first certificate that is good for the name the publisher asks for; the first of all for one that names none, or another: it then decides itself.
#[derive(Debug)]
struct ByName {
    keys: Vec<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fits = |key: &&Arc<CertifiedKey>| {
            let certificate = key.end_entity_cert().and_then(ParsedCertificate::try_from);
            name.as_ref().is_some_and(|name| certificate.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok()))
        };
        self.keys.iter().find(fits).or(self.keys.first()).cloned()
    }
}

/// Why a TLS connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("plain RTMP on the RTMPS port: the publisher's address must begin with rtmps://, or it must use the RTMP port")]
    PlainRtmp,
    #[error("an HTTP request on the RTMPS port")]
    Http,
    #[error("TLS: {0}")]
    Protocol(rustls::Error),
}

/// One TLS connection.
#[derive(Debug)]
pub struct Tls {
    machine: ServerConnection,
    /// Nothing has come yet.
    fresh: bool,
    /// Records to be sent.
    waiting: Vec<u8>,
    closed: bool,
}

impl Tls {
    /// # Errors
    /// If rustls has no cipher for this configuration: that is found at start.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut machine = ServerConnection::new(config)?;
        // Replies are bounded by us.
        machine.set_buffer_limit(None);
        Ok(Self { machine, fresh: true, waiting: Vec::new(), closed: false })
    }

    /// Takes what the socket brought; appends what it says to `plain`.
    ///
    /// # Errors
    /// [`TlsError`]; what is to be sent then (an alert) is in [`Tls::waiting`].
    pub fn receive(&mut self, mut input: &[u8], plain: &mut Vec<u8>) -> Result<(), TlsError> {
        if std::mem::take(&mut self.fresh) {
            match input.first() {
                Some(3) => return Err(TlsError::PlainRtmp),
                Some(b'A'..=b'Z') => return Err(TlsError::Http),
                _ => {}
            }
        }
        while !input.is_empty() && !self.closed {
            // A slice is read without errors; 0 is the end that the peer has announced.
            let taken = self.machine.read_tls(&mut input).unwrap_or(0);
            let state = self.machine.process_new_packets();
            self.fetch_records();
            let state = state.map_err(TlsError::Protocol)?;
            let bytes = state.plaintext_bytes_to_read();
            if bytes > 0 {
                let start = plain.len();
                plain.resize(start + bytes, 0);
                let read = self.machine.reader().read(&mut plain[start..]).unwrap_or(0);
                plain.truncate(start + read);
            }
            self.closed |= state.peer_has_closed() || taken == 0;
        }
        Ok(())
    }

    /// The peer has said that nothing more comes.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Makes records of a reply.
    pub fn send(&mut self, plain: &[u8]) {
        // Into memory: this does not fail, and there is no limit.
        let _ = self.machine.writer().write_all(plain);
        self.fetch_records();
    }

    /// Says that nothing more comes from us.
    pub fn close(&mut self) {
        self.machine.send_close_notify();
        self.fetch_records();
    }

    pub fn waiting(&self) -> &[u8] {
        &self.waiting
    }

    pub fn sent(&mut self, bytes: usize) {
        self.waiting.drain(..bytes);
    }

    fn fetch_records(&mut self) {
        while self.machine.wants_write() {
            if self.machine.write_tls(&mut self.waiting).unwrap_or(0) == 0 {
                return;
            }
        }
    }
}

/// The files are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Reads the certificates anew when their files have changed, or when asked; connections that run are not touched.
pub struct CertificateWatch {
    ask: Sender<()>,
    thread: JoinHandle<()>,
}

impl CertificateWatch {
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(files: Vec<CertificateFiles>, acceptor: Arc<Acceptor>) -> std::io::Result<Self> {
        let (ask, asked) = bounded(1);
        let thread = std::thread::Builder::new().name("certificates".to_owned()).spawn(move || {
            let mut known = changed_at(&files);
            loop {
                let now_asked = match asked.recv_timeout(LOOK_EVERY) {
                    Ok(()) => true,
                    Err(RecvTimeoutError::Timeout) => false,
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                let found = changed_at(&files);
                if now_asked || found != known {
                    known = found;
                    replace(&files, &acceptor);
                }
            }
        })?;
        Ok(Self { ask, thread })
    }

    /// Reads them now.
    pub fn reload(&self) {
        // A question that waits already is as good.
        let _ = self.ask.try_send(());
    }

    pub fn stop(self) {
        drop(self.ask);
        if self.thread.join().is_err() {
            tracing::error!("the certificates thread panicked");
        }
    }
}

fn changed_at(files: &[CertificateFiles]) -> Vec<Option<SystemTime>> {
    let paths = files.iter().flat_map(|files| [&files.certificate, &files.key]);
    paths.map(|path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()).collect()
}

fn replace(files: &[CertificateFiles], acceptor: &Acceptor) {
    match server_config(files) {
        Ok(config) => {
            acceptor.store(config);
            tracing::info!(certificates = files.len(), "the certificates of RTMPS were read anew; new connections get them");
        }
        // While both files of a pair are being written they do not fit: the next look finds them whole.
        Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "the certificates of RTMPS are not read anew; what was, stays"),
    }
}
