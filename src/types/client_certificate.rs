//! The names in a client's certificate (RFC 5280, RFC 6125).

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::UnixSeconds;

/// The names in a certificate, and its end. The certificate was verified when the connection was made, so only its end
/// has to be checked later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The URIs among the subject alternative names.
    pub uris: Vec<String>,
    /// The DNS names among the subject alternative names, in lower case.
    pub dns_names: Vec<String>,
    /// The common names of the subject.
    pub common_names: Vec<String>,
    /// The last second in which the certificate is valid.
    pub not_after: UnixSeconds,
}

impl ClientCertificate {
    /// Reads the names in a certificate. `None` when the certificate cannot be read.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let not_after = UnixSeconds::try_from(certificate.validity().not_after.timestamp()).ok()?;
        let mut read = Self { not_after, ..Self::default() };
        let names = certificate.subject_alternative_name().ok()?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => read.uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => read.dns_names.push(name.to_ascii_lowercase()),
                _ => {}
            }
        }
        for name in certificate.subject().iter_common_name() {
            // A common name that is not text makes the certificate unusable. If it were skipped, another common name
            // would count as the only one.
            read.common_names.push(name.as_str().ok()?.to_owned());
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    #[test]
    fn names_of_a_certificate() {
        let mut params = CertificateParams::new(["Robot.Example".to_owned()]).expect("a name");
        let uri = |uri: &str| SanType::URI(uri.try_into().expect("ASCII"));
        params.subject_alt_names.extend([uri("spiffe://corp/robot"), uri("https://corp/Robot")]);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Zoë");
        params.not_after = rcgen::date_time_ymd(2040, 1, 2);
        let certificate = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        let read = ClientCertificate::from_der(certificate.der()).expect("it can be read");
        let expected = ClientCertificate {
            uris: vec!["spiffe://corp/robot".into(), "https://corp/Robot".into()],
            dns_names: vec!["robot.example".into()],
            common_names: vec!["Zoë".into()],
            not_after: 2_209_075_200,
        };
        assert_eq!(read, expected);
        assert_eq!(ClientCertificate::from_der(b"garbage"), None);
    }
}
