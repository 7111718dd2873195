//! iceoryx2: publish-subscribe over shared memory. One subscriber here, for all subscribers see
//! all records.
//!
//! Zero-copy: a sample is lent, written in place, sent as an offset, read in place. Without safe
//! overflow and with `RetryUntilDelivered`, its way to lose nothing: `send` waits until there is
//! room. A subscriber is polled; sleeping would take an event service beside it.
//!
//! Its files lie below a root path and in `/dev/shm` under a prefix. The link makes both names and
//! removes what has them.

use std::path::Path;

use annulus_lab::transport::Cannot;
use annulus_lab::{Fixed, Payload as _, Place, Receive, Send, Transport, Work};
use iceoryx2::config::Config;
use iceoryx2::node::{Node, NodeBuilder};
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{
    BackpressureStrategy, FileName, LogLevel, SemanticString as _, set_log_level,
};
use iceoryx2::service::ipc;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use crate::ends::{attach, cannot};
use crate::leavings::Leavings;

pub(crate) struct Iceoryx;

pub(crate) struct Link {
    config: Config,
    service: String,
    _leavings: Leavings,
}

pub(crate) struct Sender<const W: usize> {
    publisher: Publisher<ipc::Service, [u64; W], ()>,
    _service: PortFactory<ipc::Service, [u64; W], ()>,
    _node: Node<ipc::Service>,
}

pub(crate) struct Receiver<const W: usize> {
    subscriber: Subscriber<ipc::Service, [u64; W], ()>,
    _service: PortFactory<ipc::Service, [u64; W], ()>,
    _node: Node<ipc::Service>,
}

type Opened<const W: usize> = (Node<ipc::Service>, PortFactory<ipc::Service, [u64; W], ()>);

impl Link {
    /// A node and the service, whoever comes first.
    fn open<const W: usize>(&self, work: &Work) -> Result<Opened<W>, Cannot> {
        set_log_level(LogLevel::Error); // it would warn that there is no file of settings
        let node = NodeBuilder::new()
            .config(&self.config)
            .create::<ipc::Service>()
            .map_err(cannot)?;
        let name = self.service.as_str().try_into().map_err(cannot)?;
        let service = attach(|| {
            node.service_builder(&name)
                .publish_subscribe::<[u64; W]>()
                .enable_safe_overflow(false)
                .history_size(0)
                .subscriber_max_buffer_size(work.capacity)
                .max_publishers(work.producers)
                .max_subscribers(work.consumers)
                .max_nodes(work.producers + work.consumers)
                .open_or_create()
        })?;
        Ok((node, service))
    }
}

impl<const W: usize> Transport<Fixed<W>> for Iceoryx {
    type Link = Link;
    type Sender<'l> = Sender<W>;
    type Receiver<'l> = Receiver<W>;

    fn name(&self) -> String {
        "iceoryx2".into()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, folder: &Path, name: &str) -> Result<Link, Cannot> {
        if work.consumers != 1 {
            let why = "its consumers do not share the records, each sees all of them";
            return Err(Cannot(why.into()));
        }
        let leavings = Leavings::new();
        let mut config = Config::default();
        config.global.prefix = FileName::new(leavings.prefix().as_bytes()).map_err(cannot)?;
        let root = folder.to_str().ok_or_else(|| cannot("a path in UTF-8"))?;
        let root = root.try_into().map_err(cannot)?;
        config.global.set_root_path(&root);
        Ok(Link {
            config,
            service: name.to_owned(),
            _leavings: leavings,
        })
    }

    fn sender<'l>(
        &'l self,
        link: &'l Link,
        work: &Work,
        _: usize,
    ) -> Result<Self::Sender<'l>, Cannot> {
        let (node, service) = link.open(work)?;
        let publisher = service
            .publisher_builder()
            .max_loaned_samples(1)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .map_err(cannot)?;
        Ok(Sender {
            publisher,
            _service: service,
            _node: node,
        })
    }

    fn receiver<'l>(
        &'l self,
        link: &'l Link,
        work: &Work,
        _: usize,
    ) -> Result<Self::Receiver<'l>, Cannot> {
        let (node, service) = link.open(work)?;
        let subscriber = service.subscriber_builder().create().map_err(cannot)?;
        Ok(Receiver {
            subscriber,
            _service: service,
            _node: node,
        })
    }
}

impl<const W: usize> Send<Fixed<W>> for Sender<W> {
    /// Waits for room, as `send` does.
    #[inline(always)]
    fn try_send(&mut self, payload: Fixed<W>, number: u64) -> bool {
        let Ok(mut sample) = self.publisher.loan_uninit() else {
            return false;
        };
        sample.payload_mut().write(payload.value(number));
        // SAFETY: written in the line above.
        let sample = unsafe { sample.assume_init() };
        sample.send() == Ok(1)
    }
}

impl<const W: usize> Receive<Fixed<W>> for Receiver<W> {
    #[inline(always)]
    fn try_receive(&mut self, payload: Fixed<W>, mut seen: impl FnMut(Option<u64>)) -> bool {
        let Ok(Some(sample)) = self.subscriber.receive() else {
            return false;
        };
        seen(payload.check_value(&sample));
        true
    }
}
