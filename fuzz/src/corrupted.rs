//! Handles that trust nobody, on a ring to which somebody writes who should not.

use std::fs::File;
use std::time::Duration;

use annulus::segment::{AttachOptions, RecoverOptions, inspect, recover};
use annulus::{Location, TryClaimError, TryReadError, Untrusted, Wait, mpmc, spsc};

use crate::memory::{Input, Scribble, location, ring};

const MAX_STEPS: u32 = 300;

/// Operations and stores, in any order. Whatever is stored: errors or bytes, and an end.
pub fn corrupted_ops(data: &[u8]) {
    let mut input = Input(data);
    let slots = input.u8() % 2 == 1;
    let file = ring(slots, input.origin());
    let at = location(&file);
    if slots {
        Run::<Slots>::new(file, at).all(&mut input);
    } else {
        Run::<Bytes>::new(file, at).all(&mut input);
    }
}

/// One of the two rings.
trait Ring {
    type Producer;
    type Consumer;

    fn producer(at: &Location) -> Option<Self::Producer>;
    fn consumer(at: &Location) -> Option<Self::Consumer>;
    fn push(producer: &mut Self::Producer, payload: &[u8]) -> Result<(), TryClaimError>;
    fn pop(consumer: &mut Self::Consumer, payload: &mut Vec<u8>) -> Result<u32, TryReadError>;
    /// Everything that has no answer to be checked.
    fn other(producer: &mut Self::Producer, consumer: &mut Self::Consumer, which: u8);
}

struct Bytes;
struct Slots;

const SHORT: Duration = Duration::from_micros(100);

impl Ring for Bytes {
    type Producer = spsc::Producer<Untrusted>;
    type Consumer = spsc::Consumer<Untrusted>;

    fn producer(at: &Location) -> Option<Self::Producer> {
        spsc::Producer::attach_untrusting(at, &AttachOptions::default()).ok()
    }

    fn consumer(at: &Location) -> Option<Self::Consumer> {
        spsc::Consumer::attach_untrusting(at, &AttachOptions::default()).ok()
    }

    fn push(producer: &mut Self::Producer, payload: &[u8]) -> Result<(), TryClaimError> {
        producer.try_push(7, payload)
    }

    fn pop(consumer: &mut Self::Consumer, payload: &mut Vec<u8>) -> Result<u32, TryReadError> {
        let popped = consumer.try_pop(payload);
        assert!(popped.is_err() || payload.len() <= consumer.max_record());
        popped
    }

    fn other(producer: &mut Self::Producer, consumer: &mut Self::Consumer, which: u8) {
        match which % 8 {
            0 => producer.close(),
            1 => consumer.close(),
            2 | 3 => producer.reopen(),
            4 => {
                consumer.release_all();
            }
            5 => consumer.rewind(),
            6 => {
                let wait = Wait::block().for_at_most(SHORT);
                let _ = producer.push(1, &[1; 8], wait);
                let _ = consumer.pop(&mut Vec::new(), wait);
            }
            _ => {
                assert!(producer.backlog() <= producer.capacity());
                assert!(consumer.backlog() <= consumer.capacity());
                let _ = (producer.committed_records(), consumer.released_records());
                let _ = (producer.peer(), consumer.peer());
            }
        }
    }
}

impl Ring for Slots {
    type Producer = mpmc::Producer<Untrusted>;
    type Consumer = mpmc::Consumer<Untrusted>;

    fn producer(at: &Location) -> Option<Self::Producer> {
        mpmc::Producer::attach_untrusting(at, &AttachOptions::default()).ok()
    }

    fn consumer(at: &Location) -> Option<Self::Consumer> {
        mpmc::Consumer::attach_untrusting(at, &AttachOptions::default()).ok()
    }

    fn push(producer: &mut Self::Producer, payload: &[u8]) -> Result<(), TryClaimError> {
        producer.try_push(7, payload)
    }

    fn pop(consumer: &mut Self::Consumer, payload: &mut Vec<u8>) -> Result<u32, TryReadError> {
        let popped = consumer.try_pop(payload);
        assert!(popped.is_err() || payload.len() <= consumer.max_record());
        popped
    }

    fn other(producer: &mut Self::Producer, consumer: &mut Self::Consumer, which: u8) {
        match which % 8 {
            0 => producer.close(),
            1 => consumer.close(),
            2..=4 => producer.reopen(),
            5 | 6 => {
                let wait = Wait::block().for_at_most(SHORT);
                let _ = producer.push(1, &[1; 8], wait);
                let _ = consumer.pop(&mut Vec::new(), wait);
            }
            _ => assert!(producer.backlog() <= producer.slots()),
        }
    }
}

/// A ring, its handles, and the file through which it is written to.
struct Run<R: Ring> {
    file: File,
    at: Location,
    producer: Option<R::Producer>,
    consumer: Option<R::Consumer>,
    payload: Vec<u8>,
}

impl<R: Ring> Run<R> {
    fn new(file: File, at: Location) -> Self {
        let (producer, consumer) = (R::producer(&at), R::consumer(&at));
        assert!(producer.is_some() && consumer.is_some(), "a sound ring");
        Self {
            file,
            at,
            producer,
            consumer,
            payload: Vec::new(),
        }
    }

    fn all(mut self, input: &mut Input<'_>) {
        for _ in 0..MAX_STEPS {
            if input.is_empty() {
                break;
            }
            self.step(input);
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let kind = input.u8();
        match kind % 32 {
            0..=7 => {
                let len = usize::from(input.u16());
                let len = if kind < 128 { len % 48 } else { len % 2100 };
                if let Some(producer) = &mut self.producer {
                    let _ = R::push(producer, &[kind; 2100][..len]);
                }
            }
            8..=15 => {
                if let Some(consumer) = &mut self.consumer {
                    let _ = R::pop(consumer, &mut self.payload);
                }
            }
            16..=25 => Scribble::of(input).store(&self.file),
            26..=27 => {
                if let (Some(producer), Some(consumer)) = (&mut self.producer, &mut self.consumer) {
                    R::other(producer, consumer, input.u8());
                }
            }
            28 => {
                self.producer = None;
                self.producer = R::producer(&self.at);
            }
            29 => {
                self.consumer = None;
                self.consumer = R::consumer(&self.at);
            }
            30 => {
                let _ = recover(&self.at, &RecoverOptions::default());
            }
            _ => {
                let _ = inspect(&self.at);
            }
        }
    }
}
