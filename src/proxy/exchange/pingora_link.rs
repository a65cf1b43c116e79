//! One request to a replica and its answer, over a connection that Pingora writes and reads: HTTP/2, and sessions that are
//! opened again.

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, StatusCode, Uri, Version};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::{Error, ErrorType, OrErr};

/// Writes the head of a request, in the version that the connection speaks.
pub(crate) async fn write_head(upstream: &mut HttpSession, mut request: RequestHeader) -> pingora::Result<()> {
    if let HttpSession::H2(connection) = upstream {
        let is_tls = connection.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        let scheme = if is_tls { "https" } else { "http" };
        let host = request.remove_header(&HOST).unwrap_or(HeaderValue::from_static(""));
        let target = String::from_utf8_lossy(request.raw_path()).into_owned();
        let uri = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(target).build();
        request.set_uri(uri.or_err(ErrorType::InvalidHTTPHeader, "the target cannot be written in HTTP/2")?);
        request.set_version(Version::HTTP_2);
    }
    upstream.write_request_header(Box::new(request)).await
}

/// Writes the whole body.
pub(crate) async fn write_body(upstream: &mut HttpSession, body: Bytes) -> pingora::Result<()> {
    if !body.is_empty() {
        upstream.write_request_body(body, true).await?;
    }
    upstream.finish_request_body().await
}

/// Reads the head of the answer, and gives its status.
pub(crate) async fn read_head(upstream: &mut HttpSession) -> pingora::Result<StatusCode> {
    loop {
        upstream.read_response_header().await?;
        match upstream.response_header().map(|head| head.status) {
            // MCP has no upgrades.
            Some(StatusCode::SWITCHING_PROTOCOLS) | None => {
                return Error::e_explain(ErrorType::InvalidHTTPHeader, "the answer has no head, or switches protocols");
            }
            // A 1xx is not the answer yet.
            Some(status) if status.is_informational() => {}
            Some(status) => return Ok(status),
        }
    }
}
