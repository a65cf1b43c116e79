//! Where load goes: `http://HOST:PORT/PATH`, and the request that is sent there.

use crate::failure::Failure;

/// What load is sent to.
#[derive(clap::Args, Clone)]
pub(crate) struct Target {
    /// Such as `http://127.0.0.1:8080/one/mcp`; load goes to loopback only.
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
        if address.ip().is_loopback() { Ok(address) } else { Err("load goes to loopback addresses only".into()) }
    }

    /// A whole request.
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
        let rest = self.url.strip_prefix("http://").ok_or("the URL begins with `http://`")?;
        Ok(rest.split_once('/').unwrap_or((rest, "")))
    }
}
