//! Simple servers behind the edge. They record the requests that reach them, byte for byte, and answer as the test
//! decides.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::http::find;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub head: String,
    pub body: Vec<u8>,
}

impl Recorded {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// All values of a field.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }
}

/// A listening server. It stops when this value is dropped.
pub struct Origin {
    pub address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    requests: Mutex<Vec<Recorded>>,
    connections: AtomicUsize,
    closed: AtomicUsize,
}

/// A 200 with a body.
pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

impl Origin {
    /// Answers each request with the bytes that `answer` returns for it. The connections stay open.
    pub async fn answering(answer: impl Fn(&Recorded) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::scripted(move |mut stream, recorder| {
            let answer = Arc::clone(&answer);
            async move {
                while let Some(request) = recorder.read(&mut stream).await {
                    if stream.write_all(&answer(&request)).await.is_err() {
                        break;
                    }
                }
            }
        })
        .await
    }

    /// Answers every request with 200 and `body`.
    pub async fn saying(body: &'static str) -> Self {
        Self::answering(move |_| ok(body)).await
    }

    /// Hands each connection to `serve`.
    pub async fn scripted<F>(serve: impl Fn(TcpStream, Recorder) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State::default());
        let recorder = Recorder(Arc::clone(&state));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a TCP socket");
                recorder.0.connections.fetch_add(1, Ordering::SeqCst);
                let (serving, closing) = (serve(stream, recorder.clone()), recorder.clone());
                open.spawn(async move {
                    serving.await;
                    closing.0.closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, state, _tasks: tasks }
    }

    /// All requests that have arrived so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last request.
    pub fn last(&self) -> Recorded {
        self.requests().last().cloned().expect("a request has arrived")
    }

    pub fn count(&self) -> usize {
        self.requests().len()
    }

    /// The number of connections that were accepted.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The number of connections whose `serve` has ended.
    pub fn closed(&self) -> usize {
        self.state.closed.load(Ordering::SeqCst)
    }
}

/// Records the requests that arrive.
#[derive(Clone)]
pub struct Recorder(Arc<State>);

impl Recorder {
    /// Reads one request with its body; `None` when the connection ends before the request is complete.
    pub async fn read(&self, stream: &mut (impl AsyncRead + Unpin)) -> Option<Recorded> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = find(&bytes, b"\r\n\r\n") {
                break end;
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let mut request = Recorded { head: String::from_utf8_lossy(&bytes[..end]).into_owned(), body: Vec::new() };
        let mut body = bytes[end + 4..].to_vec();
        if request.header("transfer-encoding").is_some() {
            while !body.ends_with(b"0\r\n\r\n") {
                if stream.read_buf(&mut body).await.ok()? == 0 {
                    return None;
                }
            }
        } else {
            let length = request.header("content-length").map_or(0, |length| length.parse().expect("a number"));
            while body.len() < length {
                if stream.read_buf(&mut body).await.ok()? == 0 {
                    return None;
                }
            }
        }
        request.body = body;
        self.0.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        Some(request)
    }
}
