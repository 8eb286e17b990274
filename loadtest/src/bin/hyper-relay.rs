//! A relay on bare hyper: the engine of Portcullis without Portcullis. One single-threaded runtime,
//! one pool of upstream connections, no key check.
//!
//! What it costs above the floor is hyper's price; what Portcullis costs above it is ours. It must
//! never check, count or rewrite anything but the hop-by-hop `Connection` header.
//!
//! `hyper-relay LISTEN UPSTREAM`

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context, Result};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: hyper-relay LISTEN UPSTREAM";
    let listen: SocketAddr = arguments.next().context(usage)?.parse().context(usage)?;
    let upstream: SocketAddr = arguments.next().context(usage)?.parse().context(usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(listen, upstream))
}

async fn serve(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await.context("binding")?;
    let pool = Rc::new(Pool { upstream, idle: RefCell::new(Vec::new()) });
    loop {
        let (downstream, _) = listener.accept().await?;
        downstream.set_nodelay(true)?;
        let pool = Rc::clone(&pool);
        let relay = service_fn(move |request| {
            let pool = Rc::clone(&pool);
            async move { pool.forward(request).await }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(downstream), relay);
        // A connection that breaks is simply over; the load generator is who counts.
        spawn_local(serving);
    }
}

struct Pool {
    upstream: SocketAddr,
    idle: RefCell<Vec<SendRequest<Incoming>>>,
}

impl Pool {
    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>> {
        request.headers_mut().remove(header::CONNECTION);
        let mut sender = self.take().await?;
        let response = sender.send_request(request).await?;
        // Back before the body has been read: hyper holds the next request until it has.
        self.idle.borrow_mut().push(sender);
        Ok(response)
    }

    async fn take(&self) -> Result<SendRequest<Incoming>> {
        while let Some(sender) = self.pop() {
            if sender.is_ready() {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        spawn_local(connection);
        Ok(sender)
    }

    fn pop(&self) -> Option<SendRequest<Incoming>> {
        self.idle.borrow_mut().pop()
    }
}
