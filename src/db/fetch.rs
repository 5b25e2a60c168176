//! Bytes from the network and out of their wrapping, both within bounds.

use anyhow::{Context, Result, anyhow, bail};
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// An HTTPS client that tells publishers no more than it must. `ureq` because it is small, blocking and kept up, and
/// speaks TLS by rustls and ring like the rest of the program.
#[derive(Debug)]
pub(super) struct Https(ureq::Agent);

impl Https {
    /// Trusts the public authorities, or only the certificates in `ca`.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self> {
        let roots = match ca {
            None => RootCerts::WebPki,
            Some(path) => RootCerts::from(read_certificates(path)?),
        };
        let config = ureq::Agent::config_builder()
            .https_only(true)
            .max_redirects(5)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_global(Some(Duration::from_secs(600)))
            .user_agent("cordon")
            .accept("*/*")
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Ok(Self(config.into()))
    }

    /// Fetches at most `most` bytes. Errors name the address without its query, where tokens stand.
    pub(super) fn get(&self, url: &str, most: u64) -> Result<Vec<u8>> {
        let shown = url.split('?').next().unwrap_or_default();
        let fetch = || -> Result<Vec<u8>, ureq::Error> {
            let mut response = self.0.get(url).call()?;
            response.body_mut().with_config().limit(most).read_to_vec()
        };
        fetch().map_err(|error| anyhow!("{shown} {}", what_happened(&error, most)))
    }
}

/// Unpacks gzip and zstd; other bytes come back as they are. The result has at most `most` bytes.
///
/// # Errors
/// If it is damaged or larger.
pub fn decompress(bytes: Vec<u8>, most: u64) -> Result<Vec<u8>> {
    let packed = bytes.as_slice();
    let reader: Box<dyn Read + '_> = match packed {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::new(packed)?),
        _ => return Ok(bytes),
    };
    let mut plain = Vec::new();
    reader
        .take(most.saturating_add(1))
        .read_to_end(&mut plain)
        .context("it cannot be decompressed")?;
    if u64::try_from(plain.len()).is_ok_and(|length| length <= most) {
        return Ok(plain);
    }
    bail!("it unpacks to more than the {most} bytes that are allowed")
}

/// The end of a sentence that begins with the address.
fn what_happened(error: &ureq::Error, most: u64) -> String {
    if let ureq::Error::StatusCode(code) = error {
        return format!("answers with status {code}");
    }
    if let ureq::Error::BodyExceedsLimit(_) = error {
        return format!("is larger than the {most} bytes that are allowed");
    }
    // This one shows the address with its query.
    if let ureq::Error::BadUri(_) = error {
        return "is no address".into();
    }
    format!("cannot be fetched: {error}")
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(error) => bail!("{} is no file of certificates: {error}", path.display()),
        }
    }
    if certificates.is_empty() {
        bail!("{} holds no certificate", path.display());
    }
    Ok(certificates)
}
