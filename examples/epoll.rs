//! cargo run --example epoll
//!
//! One thread serves a ring and a socket in an epoll loop, and sleeps when neither has anything.
#![expect(clippy::print_stdout, reason = "a program tells what it did")]

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use annulus::{Heap, TryReadError, Wait, mpmc};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

const RECORDS: u32 = 10_000;
const BYTES: usize = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let (producer, consumer) = mpmc::Options::new(16, 8).heap()?;
    let (mut near, mut far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    let records = thread::spawn(move || {
        for number in 0..RECORDS {
            producer.push(number, b"", Wait::block()).expect("open");
        }
        producer.close();
    });
    let bytes = thread::spawn(move || far.write_all(&[0; BYTES]).expect("somebody reads"));

    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let readable = || EpollEvent::new(EpollFlags::EPOLLIN, 0);
    epoll.add(consumer.descriptor()?, readable())?;
    epoll.add(&near, readable())?;

    let (mut records_read, mut bytes_read) = (0, 0);
    let (mut ring_open, mut socket_open) = (true, true);
    loop {
        if ring_open {
            ring_open = serve_ring(&consumer, &mut records_read)?;
        }
        if socket_open {
            socket_open = serve_socket(&mut near, &mut bytes_read)?;
        }
        if !ring_open && !socket_open {
            break;
        }
        epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE)?;
    }
    records.join().expect("it does not panic");
    bytes.join().expect("it does not panic");
    println!("{records_read} records, {bytes_read} bytes");
    Ok(())
}

/// Arms, then reads until refused: nothing can come unnoticed in between. False at the end.
fn serve_ring(consumer: &mpmc::Consumer<Heap>, count: &mut u32) -> Result<bool, Box<dyn Error>> {
    consumer.arm()?;
    loop {
        match consumer.try_read() {
            Ok(record) => assert_eq!(record.tag(), *count),
            Err(TryReadError::Empty) => return Ok(true),
            Err(TryReadError::Closed) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        *count += 1;
    }
}

/// Reads until refused. False at the end.
fn serve_socket(socket: &mut UnixStream, count: &mut usize) -> Result<bool, Box<dyn Error>> {
    loop {
        match socket.read(&mut [0; 64]) {
            Ok(0) => return Ok(false),
            Ok(bytes) => *count += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}
