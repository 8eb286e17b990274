//! A caller: one keep-alive connection that writes a request and reads its answer, and costs little
//! else.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    head: String,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

impl Client {
    pub(crate) async fn connect(address: &str, token: &str) -> Client {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        let head = format!("host: control\r\nauthorization: Bearer {token}\r\n");
        Client { stream: BufReader::new(stream), head }
    }

    /// More header lines for all requests.
    pub(crate) fn with(mut self, lines: &str) -> Client {
        self.head.push_str(lines);
        self
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    pub(crate) async fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = &self.head;
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{head}content-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.expect("sent");
        let mut line = String::new();
        self.stream.read_line(&mut line).await.expect("a status line");
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line).await.expect("a header line");
            let text = line.trim_end();
            if text.is_empty() {
                break;
            }
            let (name, value) = text.split_once(':').expect("a colon");
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().expect("a length");
            }
            assert!(!name.eq_ignore_ascii_case("transfer-encoding"), "a length is expected");
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.expect("the body");
        Answer { status: status.expect("a status"), body }
    }

    /// A call that must succeed.
    pub(crate) async fn ok(&mut self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let answer = self.call(method, path, body).await;
        let text = String::from_utf8_lossy(&answer.body);
        assert!(matches!(answer.status, 200..=299), "{method} {path}: {} {text}", answer.status);
        answer
    }
}
