//! RabbitMQ, as Debian has it, as a node of the test's own: own ports, own folder, ended by its
//! process group. Nothing of the machine's own broker is touched, if there is one.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::authority::Files;
use crate::rig::wait_until;

/// Where Debian's package puts the scripts that run as whoever calls them.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// A broker that was killed takes a while to come back, on a crowded machine a long while.
const BOOT_PATIENCE: Duration = Duration::from_secs(240);

/// A broker, and the mapper of its nodes' names.
pub struct Node {
    folder: TempDir,
    server: Mutex<Option<Child>>,
    mapper: Child,
    mapper_port: u16,
    nodes_port: u16,
    pub port: u16,
    /// Where [encrypted](Self::encrypted) nodes listen too.
    pub tls_port: u16,
}

impl Node {
    /// One that is shared by all tests that are under way.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Node>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let node = Arc::new(Self::new());
            *shared = Arc::downgrade(&node);
            node
        })
    }

    /// One for those who hurt it.
    pub fn new() -> Self {
        Self::with(|_| String::new())
    }

    /// One that is reached over TLS too: it shows what `own` has, and lets in who shows what `ca`
    /// has signed, and nobody else.
    pub fn encrypted(own: &Files, ca: &Path) -> Self {
        Self::with(|port| {
            format!(
                "listeners.ssl.local = 127.0.0.1:{port}\n\
                 ssl_options.certfile = {}\n\
                 ssl_options.keyfile = {}\n\
                 ssl_options.cacertfile = {}\n\
                 ssl_options.verify = verify_peer\n\
                 ssl_options.fail_if_no_peer_cert = true\n",
                own.cert.display(),
                own.key.display(),
                ca.display()
            )
        })
    }

    /// One with more configuration, in which a port may be used.
    fn with(more: impl FnOnce(u16) -> String) -> Self {
        assert!(
            Path::new(SCRIPTS).join("rabbitmq-server").exists(),
            "these tests need a broker: apt-get install --no-install-recommends rabbitmq-server"
        );
        let ports: Vec<u16> = free_ports().take(4).collect();
        let mapper = Command::new("epmd")
            .args(["-address", "127.0.0.1", "-port", &ports[1].to_string()])
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let node = Self {
            folder: tempfile::Builder::new()
                .prefix("annulus-amqp-")
                .tempdir()
                .unwrap(),
            server: Mutex::new(None),
            mapper,
            mapper_port: ports[1],
            nodes_port: ports[2],
            port: ports[0],
            tls_port: ports[3],
        };
        let config = format!(
            "listeners.tcp.local = 127.0.0.1:{}\n\
             disk_free_limit.absolute = 1MB\n\
             vm_memory_high_watermark.absolute = 2GB\n\
             log.console = false\n{}",
            node.port,
            more(node.tls_port)
        );
        std::fs::write(node.path("rabbitmq.conf"), config).unwrap();
        std::fs::write(node.path("plugins"), "[].\n").unwrap();
        node.start();
        node
    }

    /// What it has said last.
    fn log(&self) -> String {
        let name = format!("annulus-{}@localhost.log", self.port);
        let log = std::fs::read_to_string(self.path("log").join(name)).unwrap_or_default();
        let from = log.len().saturating_sub(4000);
        log.get(from..).unwrap_or(&log).to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(Path::new(SCRIPTS).join(script));
        command
            .env("HOME", self.folder.path())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.nodes_port.to_string())
            .env(
                "RABBITMQ_NODENAME",
                format!("annulus-{}@localhost", self.port),
            )
            .env("RABBITMQ_MNESIA_BASE", self.path("data"))
            .env("RABBITMQ_LOG_BASE", self.path("log"))
            .env("RABBITMQ_CONFIG_FILE", self.path("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.path("plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Starts it, and waits until it answers.
    pub fn start(&self) {
        let server = self.command("rabbitmq-server").process_group(0).spawn();
        *self.server.lock().unwrap() = Some(server.unwrap());
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            std::thread::sleep(Duration::from_millis(50));
            let ended = self.server.lock().unwrap().as_mut().unwrap().try_wait();
            let has_time = begun.elapsed() < BOOT_PATIENCE;
            assert!(
                ended.unwrap().is_none() && has_time,
                "the broker does not start: {}",
                self.log()
            );
        }
        self.control(&["await_startup"]);
    }

    /// Kills it by SIGKILL, wherever it is.
    pub fn kill(&self) {
        if let Some(mut server) = self.server.lock().unwrap().take() {
            killpg(group(&server), Signal::SIGKILL).unwrap();
            server.wait().unwrap();
            // The script was waited for; what it had started takes a moment to die.
            wait_until("its port is free", || {
                TcpListener::bind(("127.0.0.1", self.port)).is_ok()
            });
        }
    }

    /// `rabbitmqctl`.
    #[track_caller]
    pub fn control(&self, arguments: &[&str]) {
        let mut command = self.command("rabbitmqctl");
        let output = command
            .arg("--quiet")
            .args(arguments)
            .stderr(Stdio::piped())
            .output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {said}");
    }

    /// A new virtual host, in which `guest` may do anything.
    pub fn vhost(&self, name: &str) {
        self.control(&["add_vhost", name]);
        self.control(&["set_permissions", "-p", name, "guest", ".*", ".*", ".*"]);
    }

    /// The URL of an end.
    pub fn url(&self, vhost: &str, options: &str) -> String {
        format!(
            "amqp://guest:guest@127.0.0.1:{}/{vhost}?{options}",
            self.port
        )
    }
}

/// What was started with it.
fn group(server: &Child) -> Pid {
    Pid::from_raw(server.id().cast_signed())
}

/// Ports that nobody listens at, and that no caller is given: a call to a broker that is down must
/// not be answered by itself, nor keep its port. Taken at random, since others may be looking for
/// some at the same moment.
fn free_ports() -> impl Iterator<Item = u16> {
    std::iter::repeat_with(|| fastrand::u16(10_000..32_000))
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}

impl Drop for Node {
    fn drop(&mut self) {
        // Whatever comes of each: a test that has failed must not fail again here.
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let server = server.take();
        if let Some(mut server) = server {
            let _killed = killpg(group(&server), Signal::SIGKILL);
            let _waited = server.wait();
        }
        let _killed = self.mapper.kill();
        let _waited = self.mapper.wait();
    }
}
