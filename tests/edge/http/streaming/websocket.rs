//! WebSockets on either side of the edge.

use super::*;

/// A TCP stream for `tungstenite`. Reads and writes that cannot go on return `WouldBlock`.
pub(crate) struct NonBlocking(pub(crate) TcpStream);

impl Read for NonBlocking {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for NonBlocking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One end of a WebSocket.
pub(crate) struct Socket(pub(crate) WebSocket<NonBlocking>);

impl Socket {
    /// Opens a WebSocket through the edge.
    pub(crate) async fn open(edge: &TestEdge, path: &str) -> tungstenite::Result<Self> {
        let stream = TcpStream::connect(edge.address).await.expect("the edge listens");
        let request = format!("ws://{}{path}", edge.address).into_client_request().expect("a URL");
        shake(client(request, NonBlocking(stream))).await.map(|(socket, _)| Self(socket))
    }

    pub(crate) async fn send(&mut self, message: Message) {
        let mut sent = self.0.send(message);
        while let Err(Error::Io(error)) = &sent
            && error.kind() == io::ErrorKind::WouldBlock
        {
            self.0.get_ref().0.writable().await.expect("a TCP socket");
            sent = self.0.flush();
        }
        sent.expect("the WebSocket is open");
    }

    /// The next message, or how the WebSocket ended.
    pub(crate) async fn receive(&mut self) -> tungstenite::Result<Message> {
        let message = async {
            loop {
                match self.0.read() {
                    Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.0.get_ref().0.readable().await.expect("a TCP socket");
                    }
                    message => return message,
                }
            }
        };
        let message = tokio::time::timeout(PATIENCE, message).await.expect("a message in time");
        if matches!(message, Ok(Message::Close(_))) {
            // The library holds its answer to a close until it is flushed. An error means that the message was itself
            // the answer to our close, so nothing is left to send.
            let _ = self.0.flush();
        }
        message
    }

    pub(crate) async fn text(&mut self) -> String {
        self.receive().await.expect("a message").into_text().expect("a text").to_string()
    }
}

/// Completes a handshake.
pub(crate) async fn shake<R: HandshakeRole<InternalStream = NonBlocking>>(
    mut outcome: Result<R::FinalResult, HandshakeError<R>>,
) -> tungstenite::Result<R::FinalResult> {
    let shaken = async {
        loop {
            match outcome {
                Ok(done) => return Ok(done),
                Err(HandshakeError::Failure(error)) => return Err(error),
                Err(HandshakeError::Interrupted(unfinished)) => {
                    unfinished.get_ref().get_ref().0.readable().await.expect("a TCP socket");
                    outcome = unfinished.handshake();
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, shaken).await.expect("a handshake in time")
}

/// An origin that hands its WebSockets to the test.
pub(crate) async fn held_sockets() -> (Origin, Receiver<Socket>) {
    let (sender, accepted) = channel(16);
    let origin = Origin::scripted(move |stream, _| {
        let sender = sender.clone();
        async move {
            let socket = shake(accept(NonBlocking(stream))).await.expect("a WebSocket");
            let _ = sender.send(Socket(socket)).await;
        }
    });
    (origin.await, accepted)
}
