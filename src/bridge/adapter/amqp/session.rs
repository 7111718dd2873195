//! A session's thread, its two queues, its connection, and the exchanges and queues it needs.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Target;
use super::key::Key;
use crate::bridge::error::LinkError;
use crate::bridge::url::{AmqpEnd, ExchangeType};

/// How long the end of a connection may take that nobody waits for.
const PARTING: Duration = Duration::from_secs(1);

/// What came, for the driver.
#[derive(Debug)]
struct Told<T> {
    came: Mutex<Came<T>>,
    ready: EventFd,
}

#[derive(Debug)]
struct Came<T> {
    queue: Vec<T>,
    ended: Option<LinkError>,
}

impl<T> Told<T> {
    fn lock(&self) -> MutexGuard<'_, Came<T>> {
        self.came.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, put: impl FnOnce(&mut Came<T>)) {
        put(&mut self.lock());
        // It cannot be full: it is read before 2^64 things have come.
        let _written = self.ready.write(1);
    }
}

/// The session's side of its queues.
pub(super) struct Teller<T>(Arc<Told<T>>);

impl<T> Teller<T> {
    pub(super) fn tell(&self, things: impl IntoIterator<Item = T>) {
        let mut things = things.into_iter().peekable();
        if things.peek().is_some() {
            self.0.tell(|came| came.queue.extend(things));
        }
    }
}

/// The driver's side of them.
#[derive(Debug)]
pub(super) struct Session<C, T> {
    /// None once it is to end.
    commands: Option<UnboundedSender<C>>,
    told: Arc<Told<T>>,
    ended: Receiver<()>,
}

impl<C, T> Session<C, T> {
    pub(super) fn command(&self, command: C) {
        if let Some(commands) = &self.commands {
            // Whoever is no more does not do it, and that it is no more is told.
            let _sent = commands.send(command);
        }
    }

    pub(super) fn take(&self, things: &mut Vec<T>) -> Result<(), LinkError> {
        // Before the queue, so that what comes behind this look is told anew.
        let _count = self.told.ready.read();
        let mut came = self.told.lock();
        things.append(&mut came.queue);
        came.ended.take().map_or(Ok(()), Err)
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.told.ready.as_fd()
    }

    pub(super) fn close(&mut self, patience: Duration) {
        self.commands = None;
        let (Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) =
            self.ended.recv_timeout(patience);
    }
}

/// Begins a session: `work` in a thread of its own. It is to end when no command can come any more.
pub(super) fn begin<C, T, W, F>(name: &str, work: W) -> io::Result<Session<C, T>>
where
    C: Send + 'static,
    T: Send + 'static,
    W: FnOnce(UnboundedReceiver<C>, Teller<T>) -> F + Send + 'static,
    F: Future<Output = Result<(), LinkError>>,
{
    let told = Arc::new(Told {
        came: Mutex::new(Came {
            queue: Vec::new(),
            ended: None,
        }),
        ready: EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
    });
    let (commands, orders) = unbounded_channel();
    let (end, ended) = sync_channel(1);
    let teller = Arc::clone(&told);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let outcome = runtime.block_on(work(orders, Teller(Arc::clone(&teller))));
            // Whatever the library has left at work ends with it.
            runtime.shutdown_background();
            let why = outcome.err().unwrap_or(LinkError::HungUp);
            teller.tell(|came| came.ended = Some(why));
            // Most likely nobody waits.
            let _told = end.try_send(());
        })?;
    Ok(Session {
        commands: Some(commands),
        told,
        ended,
    })
}

/// The broker's own words, in which there is no password.
pub(super) fn said(error: lapin::Error) -> LinkError {
    LinkError::Broker(error.to_string())
}

/// Connects, and opens the one channel.
pub(super) async fn connect(
    target: &Target,
    silence: Duration,
) -> Result<(Connection, Channel), LinkError> {
    let end = &target.end;
    // Both sides give up after two of them without a word.
    let heartbeat = silence.as_secs().div_euclid(2).clamp(1, 60);
    let uri = AMQPUri {
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: end.user.clone(),
                password: end.password.read()?,
            },
            host: end.host.clone(),
            port: end.port,
        },
        vhost: end.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: u16::try_from(heartbeat).ok(),
            ..AMQPQueryString::default()
        },
    };
    let name = format!("annulus bridge, pid {}", std::process::id());
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connection = target.transport.connect(uri, properties);
    let connection = connection.await.map_err(said)?;
    let channel = connection.create_channel().await.map_err(said)?;
    Ok((connection, channel))
}

/// Ends a connection in good order, if that takes no longer than a moment.
pub(super) async fn part(connection: &Connection) {
    let closing = connection.close(200, "done".into());
    // If it does not go well, the end of the executor ends it.
    let _closed = tokio::time::timeout(PARTING, closing).await;
}

/// Creates what there is to be, or looks whether it is there.
pub(super) async fn prepare(channel: &Channel, end: &AmqpEnd) -> Result<(), LinkError> {
    let durable = end.durable.unwrap_or(true);
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let exchange = named(&end.exchange);
    let queue = named(&end.queue);
    if let Some(exchange) = &exchange {
        let options = ExchangeDeclareOptions {
            passive: !end.declare,
            durable,
            ..ExchangeDeclareOptions::default()
        };
        let kind = match end.exchange_type.unwrap_or(ExchangeType::Direct) {
            ExchangeType::Direct => ExchangeKind::Direct,
            ExchangeType::Fanout => ExchangeKind::Fanout,
            ExchangeType::Topic => ExchangeKind::Topic,
            ExchangeType::Headers => ExchangeKind::Headers,
        };
        let name = exchange.as_str().into();
        let declared = channel.exchange_declare(name, kind, options, FieldTable::default());
        declared.await.map_err(said)?;
    }
    if let Some(queue) = &queue {
        let options = QueueDeclareOptions {
            passive: !end.declare,
            durable,
            ..QueueDeclareOptions::default()
        };
        let name = queue.as_str().into();
        let declared = channel.queue_declare(name, options, FieldTable::default());
        declared.await.map_err(said)?;
    }
    if let (Some(exchange), Some(queue), true) = (&exchange, &queue, end.declare) {
        let key = Key::of_any(end.routing_key.as_deref().unwrap_or_default());
        let options = QueueBindOptions::default();
        let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
        let bound = channel.queue_bind(queue, exchange, key, options, FieldTable::default());
        bound.await.map_err(said)?;
    }
    Ok(())
}
