//! `--metrics`: what the bridge's gauges say, over HTTP.
//!
//! | path | answer |
//! | --- | --- |
//! | `/metrics` | the figures, as Prometheus reads them (OpenMetrics text) |
//! | `/livez` | 200 as long as the driver turns |
//! | `/readyz` | 200 if everybody is connected, and records get on or there are none |
//!
//! A thread of its own answers, and touches neither the ring nor the driver.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use annulus::bridge::{Figures, Gauges};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use tiny_http::{Header, Method, Request, Response, Server};

use crate::report::Failure;

/// A driver that does not turn for so long hangs. Names may take long to look up, so it is long.
const HANGS: Duration = Duration::from_secs(60);

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers from here on, and says where. A bridge is not ready if what it owes gets no further for
/// longer than `patience`.
pub fn serve(
    address: SocketAddr,
    gauges: Arc<Gauges>,
    patience: Duration,
) -> Result<SocketAddr, Failure> {
    let what = format!("cannot serve metrics at {address}");
    let server = Server::http(address).map_err(|error| Failure::because(&what, &*error))?;
    let at = server.server_addr().to_ip().unwrap_or(address);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Collected(Arc::clone(&gauges))));
    let answers = move || {
        // Ends with the process.
        for request in server.incoming_requests() {
            answer(request, &registry, &gauges.figures(), patience);
        }
    };
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(answers)
        .map_err(|error| Failure::because(what, &error))?;
    Ok(at)
}

fn answer(request: Request, registry: &Registry, figures: &Figures, patience: Duration) {
    let path = request.url().split('?').next().unwrap_or_default();
    let (status, kind, text) = match path {
        _ if !matches!(request.method(), Method::Get | Method::Head) => {
            (405, TEXT, "only GET and HEAD\n".to_owned())
        }
        "/metrics" => {
            let mut text = String::new();
            match prometheus_client::encoding::text::encode(&mut text, registry) {
                Ok(()) => (200, OPEN_METRICS, text),
                Err(fmt::Error) => (500, TEXT, "the figures cannot be written\n".to_owned()),
            }
        }
        "/livez" if figures.turn_age > HANGS => {
            let age = figures.turn_age.as_secs();
            (503, TEXT, format!("the driver hangs for {age} s\n"))
        }
        "/livez" => (200, TEXT, "alive\n".to_owned()),
        "/readyz" => match figures.check_ready(patience) {
            Ok(()) => (200, TEXT, "ready\n".to_owned()),
            Err(why) => (503, TEXT, format!("not ready: {why}\n")),
        },
        _ => (
            404,
            TEXT,
            "there are /metrics, /livez and /readyz\n".to_owned(),
        ),
    };
    let mut response = Response::from_string(text).with_status_code(status);
    if let Ok(header) = Header::from_bytes("Content-Type", kind) {
        response = response.with_header(header);
    }
    // Who asked may be gone.
    let _answered = request.respond(response);
}

/// Reads the gauges anew each time.
#[derive(Debug)]
struct Collected(Arc<Gauges>);

/// Names and helps what is written.
struct Writer<'e>(DescriptorEncoder<'e>);

impl Writer<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        let name = format!("annulus_bridge_{name}");
        counter.encode(
            self.0
                .encode_descriptor(&name, help, None, counter.metric_type())?,
        )
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        let name = format!("annulus_bridge_{name}");
        gauge.encode(
            self.0
                .encode_descriptor(&name, help, None, gauge.metric_type())?,
        )
    }

    fn age(&mut self, name: &str, help: &str, age: Duration) -> fmt::Result {
        let gauge = ConstGauge::new(age.as_secs_f64());
        let (name, unit) = (format!("annulus_bridge_{name}"), Some(&Unit::Seconds));
        let kind = gauge.metric_type();
        gauge.encode(self.0.encode_descriptor(&name, help, unit, kind)?)
    }

    /// The same of each subscriber.
    fn by_subscriber<'f>(
        &mut self,
        (name, help): (&str, &str),
        figures: impl Iterator<Item = (&'f str, u64)>,
    ) -> fmt::Result {
        let name = format!("annulus_bridge_subscriber_{name}");
        let kind = MetricType::Gauge;
        let mut family = self.0.encode_descriptor(&name, help, None, kind)?;
        for (subscriber, value) in figures {
            let labels = [("subscriber", subscriber)];
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collector for Collected {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = self.0.figures();
        let mut to = Writer(encoder);
        ends(&mut to, &figures)?;
        if figures.sends {
            sending(&mut to, &figures)?;
            subscribers(&mut to, &figures)
        } else {
            to.counter(
                "duplicates_dropped",
                "Records that came once more and were dropped",
                figures.duplicates,
            )
        }
    }
}

/// What both directions have.
fn ends(to: &mut Writer<'_>, figures: &Figures) -> fmt::Result {
    let is_not_ready = "Peers that are connected; not ready below peers_wanted";
    to.gauge("connected", is_not_ready, figures.connected)?;
    to.gauge(
        "peers_wanted",
        "Peers that should be connected",
        figures.wanted,
    )?;
    let forbidden = "Connections of users who are not allowed to be there";
    to.counter("forbidden_connections", forbidden, figures.forbidden)?;
    let connections = "Connections that were made";
    to.counter("connections", connections, figures.connections)?;
    let reconnects = "Connections of peers that had been connected before";
    to.counter("reconnects", reconnects, figures.reconnects)?;
    let read = "Number of the first record that was not read, or not received";
    to.gauge("read_position", read, figures.read)?;
    let confirmed = "Number of the first record that is not confirmed by all, or not committed";
    to.gauge("confirmed_position", confirmed, figures.confirmed)?;
    let confirmations = "Records that were confirmed by all, or committed";
    to.counter("confirmed_records", confirmations, figures.confirmations)?;
    to.counter("gaps", "Gaps that were told", figures.gaps)?;
    to.counter("gap_records", "Records in gaps", figures.gap_records)?;
    let age = "Time for which something is owed and nothing was confirmed; near 0 while idle";
    to.age("progress_age", age, figures.progress_age)?;
    let turned = "Time since the driver last turned; it hangs if this is long";
    to.age("turn_age", turned, figures.turn_age)
}

/// What only a sender knows.
fn sending(to: &mut Writer<'_>, figures: &Figures) -> fmt::Result {
    let lag = "Records in the ring that are not confirmed by all";
    to.gauge("lag_records", lag, figures.lag_records)?;
    let lag = "Bytes of the ring that are not released";
    to.gauge("lag_bytes", lag, figures.lag_bytes)?;
    let in_flight = "Records that were sent and are not confirmed";
    to.gauge("in_flight_records", in_flight, figures.in_flight)?;
    let published = "Records that were sent, those sent again included";
    to.counter("published_records", published, figures.published)?;
    let again = "Records that were sent once more to the same subscriber";
    to.counter("republished_records", again, figures.republished)?;
    let nacked = "Records that a broker did not take";
    to.counter("nacked_records", nacked, figures.nacked)?;
    let returned = "Records for which a broker had no queue";
    to.counter("returned_records", returned, figures.returned)?;
    let blocked = "Whether a broker takes nothing for now";
    to.gauge("blocked", blocked, figures.is_blocked.into())?;
    let latency = &figures.confirm_latency;
    let buckets: Vec<(f64, u64)> = latency
        .buckets
        .iter()
        .map(|(bound, records)| match *bound {
            Duration::MAX => (f64::INFINITY, *records),
            bound => (bound.as_secs_f64(), *records),
        })
        .collect();
    let count = buckets.iter().map(|(_, records)| records).sum();
    let sum = latency.sum.as_secs_f64();
    to.0.encode_descriptor(
        "annulus_bridge_confirm_latency",
        "Time from the sending of a record to its confirmation, counted by records",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?
    .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

fn subscribers(to: &mut Writer<'_>, figures: &Figures) -> fmt::Result {
    let all = &figures.subscribers;
    let connected = ("connected", "Whether it is connected");
    let each = all.iter();
    to.by_subscriber(
        connected,
        each.map(|one| (&*one.name, one.is_connected.into())),
    )?;
    let confirmed = (
        "confirmed_position",
        "Number of the first record that it has not confirmed",
    );
    let each = all.iter();
    to.by_subscriber(confirmed, each.map(|one| (&*one.name, one.confirmed)))?;
    let in_flight = (
        "in_flight_records",
        "Records that it was sent and has not confirmed",
    );
    let each = all.iter();
    to.by_subscriber(in_flight, each.map(|one| (&*one.name, one.in_flight)))
}
