//! The target of load: its URL, `http://HOST:PORT/PATH`, and the request that is sent to it.

use crate::failure::Failure;

/// The target of load, and the header fields of requests.
#[derive(clap::Args, Clone)]
pub(crate) struct Target {
    /// The URL, such as `http://127.0.0.1:8080/one/mcp`. Only loopback addresses are allowed.
    #[arg(long)]
    url: String,
    /// A field of the request, `NAME: VALUE`; may be repeated.
    #[arg(long = "header")]
    headers: Vec<String>,
}

impl Target {
    /// Host and port.
    pub(crate) fn address(&self) -> Result<std::net::SocketAddr, Failure> {
        let address: std::net::SocketAddr = self.parts()?.0.parse()?;
        if address.ip().is_loopback() {
            Ok(address)
        } else {
            Err("`--url` must have a loopback address such as 127.0.0.1".into())
        }
    }

    /// Adds a field, `NAME: VALUE`, to the request.
    pub(crate) fn add(&mut self, field: &str) {
        self.headers.push(field.to_owned());
    }

    /// The bytes of a whole request.
    pub(crate) fn request(&self, method: &str, body: &str) -> Result<Vec<u8>, Failure> {
        let (authority, path) = self.parts()?;
        let mut head = format!("{method} /{path} HTTP/1.1\r\nHost: {authority}\r\n");
        for header in &self.headers {
            head.push_str(&format!("{header}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        Ok(format!("{head}\r\n{body}").into_bytes())
    }

    fn parts(&self) -> Result<(&str, &str), Failure> {
        let rest = self.url.strip_prefix("http://").ok_or("`--url` must begin with `http://`")?;
        Ok(rest.split_once('/').unwrap_or((rest, "")))
    }
}
