//! HTTP/2 clients, for tests that look at single frames.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::PATIENCE;

/// A client's connection. It is closed when this value is dropped.
pub struct Http2 {
    sender: SendRequest<Bytes>,
    _connection: JoinSet<()>,
}

impl Http2 {
    /// Connects without TLS, with prior knowledge.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the edge listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Self::over(stream).await
    }

    pub async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let shaken = tokio::time::timeout(PATIENCE, h2::client::handshake(stream)).await;
        let (sender, connection) = shaken.expect("a handshake in time").expect("the edge speaks HTTP/2");
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        Self { sender, _connection: driver }
    }

    /// Sends the head of a request. With `end`, the request has no body.
    pub async fn send(&mut self, request: Request<()>, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut sender = self.sender.clone().ready().await.expect("the connection is open");
        sender.send_request(request, end).expect("a request that can be sent")
    }

    /// Sends a GET and waits for the head of the response.
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Response<RecvStream> {
        let mut request = Request::get(format!("http://edge.example{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (response, _) = self.send(request.body(()).expect("a request"), true).await;
        head(response).await
    }
}

/// Waits for the head of a response.
pub async fn head(response: ResponseFuture) -> Response<RecvStream> {
    tokio::time::timeout(PATIENCE, response).await.expect("a response in time").expect("a response")
}

/// The next piece of a body; `None` at its end.
pub async fn piece(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let piece = tokio::time::timeout(PATIENCE, body.data()).await.expect("a piece in time");
    if let Some(Ok(piece)) = &piece {
        body.flow_control().release_capacity(piece.len()).expect("it was received");
    }
    piece
}

/// Reads a body to its end.
pub async fn text(mut body: RecvStream) -> String {
    let mut bytes = Vec::new();
    while let Some(piece) = piece(&mut body).await {
        bytes.extend_from_slice(&piece.expect("the stream does not break off"));
    }
    String::from_utf8(bytes).expect("the tests send text")
}
