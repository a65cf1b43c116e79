//! Raw connections on either side of the edge, and origins whose answers the test writes itself.

use super::*;

/// A raw connection on either side of the edge. It can be read before a message is complete.
pub struct Wire {
    pub stream: TcpStream,
    pub unread: Vec<u8>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP socket");
        Self { stream, unread: Vec::new() }
    }

    /// Opens a client's connection to the edge and sends `text`.
    pub async fn open(edge: &TestEdge, text: &str) -> Self {
        let mut wire = Self::new(TcpStream::connect(edge.address).await.expect("the edge listens"));
        wire.send(text).await;
        wire
    }

    pub async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("the connection is open");
    }

    /// Reads everything up to `mark` and `mark` itself.
    pub async fn until(&mut self, mark: &str) -> String {
        let read = tokio::time::timeout(PATIENCE, async {
            loop {
                let at = self.unread.windows(mark.len()).position(|window| window == mark.as_bytes());
                if let Some(at) = at {
                    return self.unread.drain(..at + mark.len()).collect::<Vec<u8>>();
                }
                if !matches!(self.stream.read_buf(&mut self.unread).await, Ok(1..)) {
                    panic!("the connection ends before `{mark}`: {}", String::from_utf8_lossy(&self.unread));
                }
            }
        });
        String::from_utf8(read.await.unwrap_or_else(|_| panic!("`{mark}` did not arrive in time")))
            .expect("the tests send text")
    }

    /// Reads everything up to the end of the connection, which may be a close or a reset.
    pub async fn end(mut self) -> String {
        let rest = async { while matches!(self.stream.read_buf(&mut self.unread).await, Ok(1..)) {} };
        tokio::time::timeout(PATIENCE, rest).await.expect("the connection ends");
        String::from_utf8(self.unread).expect("the tests send text")
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }
}

pub fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Parses a response, which may be incomplete.
pub async fn parse(text: &str) -> Reply {
    read_reply(&mut text.as_bytes()).await
}

/// The next connection or request that an origin has accepted.
pub async fn next<T>(accepted: &mut Receiver<T>) -> T {
    tokio::time::timeout(PATIENCE, accepted.recv())
        .await
        .expect("the request reaches the origin")
        .expect("the origin is running")
}

/// An origin that reads the first request of each connection, and then hands the connection to the test.
pub async fn held() -> (Origin, Receiver<Wire>) {
    let (sender, accepted) = channel(16);
    let origin = Origin::scripted(move |mut stream, recorder| {
        let sender = sender.clone();
        async move {
            if recorder.read(&mut stream).await.is_some() {
                // An error means that the test has ended.
                let _ = sender.send(Wire::new(stream)).await;
            }
        }
    });
    (origin.await, accepted)
}

/// An origin that hands each connection to the test before it has read anything.
pub async fn raw() -> (Origin, Receiver<Wire>) {
    let (sender, accepted) = channel(16);
    let origin = Origin::scripted(move |stream, _| {
        let sender = sender.clone();
        async move { drop(sender.send(Wire::new(stream)).await) }
    });
    (origin.await, accepted)
}

/// A request to an HTTP/2 origin, and the handle that answers it.
pub type Call = (Request<RecvStream>, SendResponse<Bytes>);

/// An HTTP/2 origin whose requests the test answers.
pub async fn held_calls() -> (Origin, Receiver<Call>) {
    let (sender, accepted) = channel(16);
    let origin = Origin::scripted(move |stream, _| {
        let sender = sender.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.expect("the edge speaks HTTP/2");
            while let Some(Ok(call)) = connection.accept().await {
                let _ = sender.send(call).await;
            }
        }
    });
    (origin.await, accepted)
}
