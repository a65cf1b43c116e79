//! Calls as gRPC makes them.

use super::*;

/// A gRPC call in which both the client and the server can go on sending messages.
pub(crate) struct Grpc {
    pub(crate) _http2: Http2,
    pub(crate) sending: SendStream<Bytes>,
    pub(crate) body: RecvStream,
    /// The messages that the server receives.
    pub(crate) received: RecvStream,
    pub(crate) answer: SendStream<Bytes>,
    pub(crate) head: Request<()>,
}

impl Grpc {
    pub(crate) async fn open(edge: &TestEdge, path: &str, accepted: &mut Receiver<Call>) -> Self {
        let mut http2 = Http2::connect(edge.address).await;
        let request = Request::post(format!("http://edge.example{path}"));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        let (response, sending) = http2.send(request.body(()).expect("a request"), false).await;
        let (request, mut answer) = next(accepted).await;
        let head = Response::builder().header("content-type", "application/grpc").body(()).expect("a response");
        let answer = answer.send_response(head, false).expect("the stream is open");
        let response = http2::head(response).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"application/grpc".parse().expect("a value"))
        );
        let (parts, received) = request.into_parts();
        Self {
            _http2: http2,
            sending,
            body: response.into_body(),
            received,
            answer,
            head: Request::from_parts(parts, ()),
        }
    }

    /// Sends one message to the server and one back to the client.
    pub(crate) async fn talk(&mut self, text: &str) {
        let (there, back) = (format!("there {text}"), format!("back {text}"));
        self.sending.send_data(there.clone().into(), false).expect("the stream is open");
        assert_eq!(http2::piece(&mut self.received).await.expect("a message").expect("no stream error"), there);
        self.answer.send_data(back.clone().into(), false).expect("the stream is open");
        assert_eq!(http2::piece(&mut self.body).await.expect("a message").expect("no stream error"), back);
    }
}
