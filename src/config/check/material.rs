//! Reads the files that a configuration names: certificates, keys, secrets. They are read while the configuration is
//! checked, so that a reload sees their changes, and a broken file is an error of the configuration.

use std::io::Read;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use rustls::RootCertStore;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use crate::config::checked::ConfigFile;
use crate::config::checked::key_pair::KeyPair;
use crate::config::limits;
use crate::config::read::place::Place;
use crate::config::read::problems::Problems;
use crate::config::units::SecretSource;
use crate::types::{Secret, SigningKey, hex};

/// Reads files and remembers their paths and digests, for the file watcher and for `/status`.
#[derive(Default)]
pub(crate) struct Materials {
    pub(crate) files: Vec<ConfigFile>,
}

/// The paths of a certificate chain and of its private key.
#[derive(Clone, Copy)]
pub(crate) struct KeyPairFiles<'a> {
    pub(crate) certificate: &'a Path,
    pub(crate) key: &'a Path,
}

impl Materials {
    /// Returns the content of `path`. A relative path starts at `folder`, the folder of the file that names it.
    fn read(&mut self, folder: &Path, path: &Path) -> Result<Vec<u8>, String> {
        let full = folder.join(path);
        let cannot = |error: std::io::Error| format!("`{}` cannot be read ({error})", full.display());
        // The file is remembered even when it cannot be read, so that the file watcher notices when it appears.
        let mut bytes = Vec::new();
        let result = std::fs::File::open(&full)
            .and_then(|file| file.take(limits::MATERIAL_FILE_BYTES + 1).read_to_end(&mut bytes));
        self.remember(full.clone(), &bytes, false);
        result.map_err(cannot)?;
        if bytes.len() as u64 > limits::MATERIAL_FILE_BYTES {
            return Err(format!("`{}` is larger than 1 MiB", full.display()));
        }
        Ok(bytes)
    }

    /// Adds a file to [`Self::files`], unless a file with this path is there already.
    pub(crate) fn remember(&mut self, path: PathBuf, bytes: &[u8], is_config: bool) {
        if !self.files.iter().any(|file| file.path == path) {
            let hash = hex(digest(&SHA256, bytes).as_ref());
            self.files.push(ConfigFile { path, sha256: hash, is_config });
        }
    }

    /// Returns the content of a file, such as a key set. Reports an error at `place`.
    pub(crate) fn bytes(
        &mut self,
        folder: &Path,
        path: &Path,
        place: &Place,
        problems: &mut Problems,
    ) -> Option<Vec<u8>> {
        self.read(folder, path)
            .map_err(|message| problems.add(place, format!("{message}: give the path of a readable file")))
            .ok()
    }

    /// Returns the secret that `source` names. Reports an error at `place`.
    pub(crate) fn secret(
        &mut self,
        folder: &Path,
        source: &SecretSource,
        place: &Place,
        problems: &mut Problems,
    ) -> Option<Secret> {
        let bytes = match (&source.env, &source.file) {
            (Some(name), None) => match std::env::var_os(name) {
                Some(value) => value.into_encoded_bytes(),
                // `name` may be the secret itself, written in the wrong place. So the error does not repeat `name`.
                None if !is_variable(name) => {
                    problems.add(
                        &place.key("env"),
                        "is not a valid name of an environment variable: write one such as `EDGE_SECRET`",
                    );
                    return None;
                }
                None => {
                    problems.add(
                        &place.key("env"),
                        format!("the environment variable `{name}` is not set: set it before mcp-edge starts"),
                    );
                    return None;
                }
            },
            (None, Some(path)) => {
                let mut bytes = self.bytes(folder, path, &place.key("file"), problems)?;
                while bytes.last().is_some_and(|&last| last == b'\n' || last == b'\r') {
                    bytes.pop();
                }
                bytes
            }
            _ => {
                problems.add(place, "a secret has exactly one source: write `{env: NAME}` or `{file: PATH}`");
                return None;
            }
        };
        if bytes.is_empty() {
            let source = match (&source.env, &source.file) {
                (Some(name), _) => format!("the environment variable `{name}`"),
                (_, path) => format!("`{}`", folder.join(path.as_deref().unwrap_or(Path::new(""))).display()),
            };
            problems.add(place, format!("{source} is empty: put the secret there"));
            return None;
        }
        Some(Secret::new(bytes))
    }

    /// Returns the private key of a PEM file, for signatures.
    pub(crate) fn signing_key(
        &mut self,
        folder: &Path,
        path: &Path,
        place: &Place,
        problems: &mut Problems,
    ) -> Option<SigningKey> {
        let pem = self.bytes(folder, path, place, problems)?;
        SigningKey::from_pem(&pem)
            .map_err(|error| problems.add(place, format!("`{}` {error}", folder.join(path).display())))
            .ok()
    }

    /// Returns the certificates of a PEM file; at least one.
    pub(crate) fn certificates(
        &mut self,
        folder: &Path,
        path: &Path,
        place: &Place,
        problems: &mut Problems,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let pem = self.bytes(folder, path, place, problems)?;
        let name = folder.join(path);
        let name = name.display();
        let Ok(certificates) = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() else {
            problems.add(place, format!("`{name}` is not valid PEM: give a PEM file of complete certificates"));
            return None;
        };
        if certificates.is_empty() {
            problems.add(place, format!("`{name}` contains no certificate: give a PEM file with `BEGIN CERTIFICATE`"));
            return None;
        }
        if let Some(index) =
            certificates.iter().position(|certificate| ParsedCertificate::try_from(certificate).is_err())
        {
            problems.add(
                place,
                format!("certificate {} of `{name}` cannot be read: give a PEM file of X.509 certificates", index + 1),
            );
            return None;
        }
        Some(certificates)
    }

    /// Returns the certificates of a PEM file. Each must be accepted as a certificate authority.
    pub(crate) fn authorities(
        &mut self,
        folder: &Path,
        path: &Path,
        place: &Place,
        problems: &mut Problems,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let certificates = self.certificates(folder, path, place, problems)?;
        let mut roots = RootCertStore::empty();
        if let Some(index) = certificates.iter().position(|certificate| roots.add(certificate.clone()).is_err()) {
            let name = folder.join(path);
            problems.add(
                place,
                format!(
                    "certificate {} of `{}` cannot be trusted as an authority: give a PEM file of CA certificates",
                    index + 1,
                    name.display()
                ),
            );
            return None;
        }
        Some(certificates)
    }

    /// Returns a certificate chain with the private key that belongs to it.
    pub(crate) fn key_pair(
        &mut self,
        folder: &Path,
        files: KeyPairFiles<'_>,
        place: &Place,
        problems: &mut Problems,
    ) -> Option<KeyPair> {
        let KeyPairFiles { certificate, key } = files;
        let chain = self.certificates(folder, certificate, &place.key("certificate"), problems);
        let pem = self.bytes(folder, key, &place.key("key"), problems)?;
        let (certificate, key) = (folder.join(certificate), folder.join(key));
        let Ok(der) = PrivateKeyDer::from_pem_slice(&pem) else {
            let name = key.display();
            problems.add(
                &place.key("key"),
                format!("`{name}` contains no private key: give a PEM file with `BEGIN PRIVATE KEY`"),
            );
            return None;
        };
        let bytes = der.secret_der().to_vec();
        let Ok(signer) = any_supported_type(&der) else {
            let name = key.display();
            problems.add(
                &place.key("key"),
                format!(
                    "`{name}` contains a kind of key that TLS cannot use: give an RSA, ECDSA P-256/P-384 or Ed25519 key"
                ),
            );
            return None;
        };
        let certified = CertifiedKey::new(chain?, signer);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
                Some(KeyPair::new(certified, bytes))
            }
            Err(_) => {
                let (certificate, key) = (certificate.display(), key.display());
                problems.add(&place.key("key"), format!("the key `{key}` does not belong to the certificate `{certificate}`: give the pair that was issued together"));
                None
            }
        }
    }
}

/// True when `name` may be the name of an environment variable.
fn is_variable(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(legal) && !name.starts_with(|first: char| first.is_ascii_digit())
}
