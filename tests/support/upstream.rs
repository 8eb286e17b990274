//! Real upstreams: nginx from Debian, uvicorn from PyPI. Each gets a listening socket that this
//! process has bound to port 0, so no port is guessed and connections queue until the server
//! accepts them.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A running upstream; stopped when dropped.
pub(crate) struct Upstream {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Upstream {
    /// nginx with the locations of [`nginx_config`]; files put into [`Upstream::files`] are served
    /// below `/files/`.
    pub(crate) fn nginx() -> Self {
        let (socket, address) = bind();
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(directory.path().join("files")).expect("a directory to serve");
        let config = directory.path().join("nginx.conf");
        std::fs::write(&config, nginx_config(address.port()))
            .expect("the configuration is written");
        let mut command = Command::new(nginx_program());
        command.arg("-p").arg(directory.path()).arg("-c").arg(&config).arg("-e").arg("stderr");
        // nginx takes over the listening sockets named here, as it does in a binary upgrade.
        command.env("NGINX", format!("{};", socket.as_raw_fd()));
        Self::spawn(command, address, directory)
    }

    /// uvicorn with `tests/upstreams/echo.py`: answers with the request as a Python application saw
    /// it.
    pub(crate) fn uvicorn() -> Self {
        let (socket, address) = bind();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = root.join("target/test-tools/venv/bin/uvicorn");
        assert!(program.exists(), "uvicorn is missing; run: scripts/test tools");
        let mut command = Command::new(program);
        command.args([
            "--http",
            "h11",
            "--no-access-log",
            "--no-proxy-headers",
            "--no-server-header",
        ]);
        command.args(["--log-level", "warning", "--fd", &socket.as_raw_fd().to_string()]);
        command.arg("--app-dir").arg(root.join("tests/upstreams")).arg("echo:app");
        Self::spawn(command, address, directory)
    }

    fn spawn(mut command: Command, address: SocketAddr, directory: TempDir) -> Self {
        let log = File::create(directory.path().join("log")).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file twice"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{command:?} does not start: {error}; run: scripts/test tools")
            });
        Self { child, address, directory }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The directory that nginx serves below `/files/`.
    pub(crate) fn files(&self) -> PathBuf {
        self.directory.path().join("files")
    }

    /// The access log nginx writes: one line per request, `method uri status`.
    pub(crate) fn access_log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // Not SIGKILL: nginx's master process must have the time to end its worker.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Binds port 0 and lets children inherit the socket.
fn bind() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("a bound socket has an address");
    // Accepted connections inherit it; uvicorn sets it only on sockets it has opened itself, and
    // would otherwise wait 40 ms between a head and its body.
    rustix::net::sockopt::set_tcp_nodelay(&socket, true).expect("a TCP socket");
    rustix::io::fcntl_setfd(&socket, FdFlags::empty()).expect("the socket can be inherited");
    (socket, address)
}

fn nginx_program() -> &'static str {
    // Debian keeps it out of an ordinary user's PATH.
    ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("nginx")
}

fn nginx_config(port: u16) -> String {
    format!(
        r#"daemon off;
worker_processes 1;
# Started as root, the worker would change to a user that cannot read this test's directory.
user root root;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    log_format plain '$request_method $request_uri $status';
    access_log access.log plain;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_max_body_size 0;
    large_client_header_buffers 4 64k;
    underscores_in_headers on;
    keepalive_requests 100000;
    sendfile on;
    server {{
        listen 127.0.0.1:{port};
        default_type text/plain;
        location / {{
            return 200 "method=$request_method\nuri=$request_uri\nhost=$http_host\nauthorization=$http_authorization\nsubject=$http_x_auth_subject\norg=$http_x_auth_org\nkey=$http_x_auth_key_id\nmethod_of_auth=$http_x_auth_method\nforwarded_for=$http_x_forwarded_for\n";
        }}
        location /files/ {{ alias files/; }}
        location = /teapot {{ return 418 "short and stout"; }}
        location = /hangup {{ return 444; }}
    }}
}}
"#
    )
}
