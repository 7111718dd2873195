//! cargo run --release -p annulus-lab --example own_workload [RECORDS_A_SECOND]
//!
//! Your own record type at your own rate, by the lab: orders, as they might come, over both rings
//! and a UNIX socket. Latency counts from when an order was due.

use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use annulus_lab::contenders::{Bytes, Mpmc, Spsc};
use annulus_lab::report::table;
use annulus_lab::result::{REPORT_VERSION, Report};
use annulus_lab::slices::{self, Rounds};
use annulus_lab::system::System;
use annulus_lab::{Conditions, Of, Pattern, Payload, Waiting, Work, ladder, machine};
use bytemuck::{Pod, Zeroable};

/// What you hand over.
#[derive(Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Order {
    number: u64,
    price: f64,
    quantity: u32,
    instrument: [u8; 12],
}

/// How it is made and what is checked of it, in the timed part: your work, not the lab's.
#[derive(Clone, Copy)]
struct Orders;

impl Payload for Orders {
    type Value = Order;

    fn bytes(self) -> usize {
        size_of::<Order>()
    }

    fn fill(self, to: &mut [u8], number: u64) {
        to.copy_from_slice(bytemuck::bytes_of(&self.value(number)));
    }

    fn check(self, from: &[u8]) -> Option<u64> {
        // By value: a transport need not align it.
        self.check_value(&bytemuck::try_pod_read_unaligned(from).ok()?)
    }

    fn value(self, number: u64) -> Order {
        Order {
            number,
            price: 100.0 + (number % 1000) as f64 * 0.01,
            quantity: u32::from(number.is_multiple_of(7)) + 1,
            instrument: *b"XS0123456789",
        }
    }

    fn check_value(self, order: &Order) -> Option<u64> {
        (*order == self.value(order.number)).then_some(order.number)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let rate: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(20_000), |rate| rate.parse())?;
    let work = Work {
        pattern: Pattern::Paced {
            interval: Duration::from_nanos(1_000_000_000 / rate.max(1)),
        },
        payload: Orders.bytes(),
        batch: 1,
        capacity: 1024,
        waiting: Waiting::Block,
        producers: 1,
        consumers: 1,
    };
    // As many as there are players; on one processor they take turns.
    let mut cpus = machine::allowed_cpus(&System::here());
    cpus.truncate(2);
    let payload = Orders;
    let bench = ladder::bench(
        work,
        vec![
            Box::new(Of {
                payload,
                transport: Spsc::default(),
            }),
            Box::new(Of {
                payload,
                transport: Mpmc::default(),
            }),
            Box::new(Of {
                payload,
                transport: Bytes::Unix,
            }),
        ],
        &cpus,
    );
    let slice = Conditions {
        cpus,
        warm_up: Duration::from_millis(10),
        time: Duration::from_millis(100),
        folder: "/dev/shm".into(),
    };
    let rounds = Rounds {
        rounds: 9,
        floor: slice.clone(),
        slice,
    };
    let scenario = slices::run(&bench, &rounds, &mut |_| ControlFlow::Continue(()))?;
    let report = Report {
        version: REPORT_VERSION,
        machine: machine::describe("this one".to_owned(), Vec::new()),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        began: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_secs(),
        scenarios: vec![scenario],
    };
    std::io::stdout().write_all(table::render(&report).as_bytes())?;
    Ok(())
}
