//! What bridges tell of themselves in numbers.

use std::io::Read;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use annulus::bridge::{NotReady, Settings, SubscriberFigures};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, UnixAddr, bind, getsockname, listen,
    socket,
};

use crate::rig::{
    Place, Running, consumer, payload, pop, producer, push, ring_end, settings, wait_until,
};

const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_slot_ring_lags_by_what_nobody_has_claimed_and_what_is_not_confirmed() {
    const SLOT: u64 = 120;
    let place = Place::new();
    let slots = place.path("slots");
    annulus::mpmc::Options::new(64, SLOT)
        .create(&slots)
        .unwrap();
    // SAFETY: nobody but the test uses the file, and through this library only.
    let source = unsafe { annulus::mpmc::Producer::attach(&slots) }.unwrap();
    for number in 0..50 {
        source.try_push(0, &payload(number)).unwrap();
    }
    let to = place.ring("b", 1 << 16);
    let at = format!("unix-listen:{}", place.path("s").display());
    let sends = Running::new(&ring_end(&slots), &at);
    wait_until("all of it is owed", || sends.figures().lag_records == 50);
    let figures = sends.figures();
    assert_eq!(figures.lag_bytes, 50 * SLOT);
    assert_eq!((figures.confirmed, figures.confirmations), (0, 0));
    let dial = format!("unix:{}", place.path("s").display());
    let receives = Running::new(&dial, &ring_end(&to));
    wait_until("all is confirmed", || {
        let now = sends.figures();
        assert!(now.lag_records <= 50, "{now:?}");
        now.confirmed == 50 && now.lag_records + now.lag_bytes == 0
    });
    let figures = sends.figures();
    assert_eq!((figures.lag_bytes, figures.in_flight), (0, 0));
    assert_eq!((figures.read, figures.published), (50, 50));
    assert_eq!(receives.figures().confirmations, 50);
}

#[test]
fn a_plain_peer_counts_as_well() {
    let place = Place::new();
    let path = place.ring("a", 1 << 16);
    let at = "tcp-listen://127.0.0.1:0?framing=len32";
    let sends = Running::new(&ring_end(&path), at);
    let mut producer = producer(&path);
    for record in ["one", "two"] {
        producer.try_push(0, record.as_bytes()).unwrap();
    }
    wait_until("it lags", || sends.figures().lag_records == 2);
    let (connected, wanted) = (0, 1);
    let missing = NotReady::Unconnected { connected, wanted };
    assert_eq!(sends.figures().check_ready(LONG), Err(missing));
    let mut client = TcpStream::connect(sends.at()).unwrap();
    client.read_exact(&mut [0; 14]).unwrap();
    wait_until("all has gone", || {
        let now = sends.figures();
        now.confirmed == 2 && now.lag_records + now.lag_bytes == 0
    });
    let figures = sends.figures();
    assert_eq!(figures.check_ready(LONG), Ok(()));
    assert_eq!((figures.confirmations, figures.published), (2, 2));
    assert_eq!((figures.read, figures.confirmed), (2, 2));
    assert_eq!((figures.lag_bytes, figures.in_flight), (0, 0));

    drop(client);
    wait_until("it is missed", || sends.figures().connected == 0);
    let _client = TcpStream::connect(sends.at()).unwrap();
    wait_until("another one is there", || sends.figures().connected == 1);
    let figures = sends.figures();
    assert_eq!((figures.connections, figures.reconnects), (2, 1));
}

/// One of two is away: the other one gets on, all in all nothing does, and it shows by name.
#[test]
fn each_subscriber_has_figures_of_its_own() {
    let place = Place::new();
    let from = place.ring("a", 1 << 16);
    let [one, two] = ["b", "c"].map(|name| ring_end(&place.ring(name, 1 << 16)));
    let socket = place.path("s");
    let at = format!("unix-listen:{}?subscribers=2", socket.display());
    let mut sends = Running::new(&ring_end(&from), &at);
    sends.at();
    let dial = |name| format!("unix:{}?name={name}", socket.display());
    let first = Running::new(&dial("first"), &one);
    let second = Running::new(&dial("second"), &two);
    wait_until("both are there", || {
        sends.figures().check_ready(LONG).is_ok()
    });
    push(&mut producer(&from), 0..10);
    wait_until("both have all", || sends.figures().confirmed == 10);
    assert_eq!(sends.figures().published, 20);
    // Idle is not late: each turn that finds nothing owed counts as progress.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(50));
        for bridge in [&sends, &first, &second] {
            let figures = bridge.figures();
            assert!(figures.progress_age <= figures.turn_age, "{figures:?}");
        }
    }

    assert!(second.stop().all_confirmed);
    wait_until("it is missed", || sends.figures().connected == 1);
    push(&mut producer(&from), 10..15);
    let row = |name: &str| -> SubscriberFigures {
        let rows = sends.figures().subscribers;
        assert_eq!(rows.len(), 2, "{rows:?}");
        rows.into_iter().find(|row| row.name == name).unwrap()
    };
    wait_until("the other one has more", || row("first").confirmed == 15);
    wait_until("that is looked up", || sends.figures().lag_records == 5);
    let away = row("second");
    assert_eq!((away.confirmed, away.is_connected), (10, false));
    assert!(row("first").is_connected);
    let figures = sends.figures();
    assert_eq!((figures.confirmed, figures.confirmations), (10, 10));
    let (connected, wanted) = (1, 2);
    let missing = NotReady::Unconnected { connected, wanted };
    assert_eq!(figures.check_ready(LONG), Err(missing));
    let waited = figures.progress_age;
    wait_until("it ages", || {
        sends.figures().progress_age > waited + Duration::from_millis(500)
    });

    sends.ask_to_stop();
    wait_until("it drains", || sends.figures().draining);
    assert_eq!(sends.figures().check_ready(LONG), Err(NotReady::Draining));
    drop(first);
}

#[test]
fn a_gap_is_counted_at_both_ends() {
    let place = Place::new();
    let (from, to) = (place.ring("a", 1 << 14), place.ring("b", 1 << 20));
    let socket = place.path("s");
    let at = format!("unix-listen:{}?slow=drop", socket.display());
    let sends = Running::new(&ring_end(&from), &at);
    sends.at();
    let dial = format!("unix:{}", socket.display());
    let receives = Running::new(&dial, &ring_end(&to));
    let mut producer = producer(&from);
    push(&mut producer, 0..10);
    wait_until("it has the first ones", || sends.figures().confirmed == 10);
    assert!(receives.stop().all_confirmed);
    // Nobody is there to confirm, and the ring holds far less than this.
    push(&mut producer, 10..2000);
    let receives = Running::new(&dial, &ring_end(&to));
    wait_until("the rest has come", || receives.figures().confirmed == 2000);
    wait_until("that is known", || sends.figures().confirmed == 2000);
    let (sent, received) = (sends.figures(), receives.figures());
    assert!(sent.gaps >= 1 && sent.gap_records > 0, "{sent:?}");
    assert_eq!(
        (received.gaps, received.gap_records),
        (sent.gaps, sent.gap_records)
    );
    assert_eq!(received.confirmations + received.gap_records, 1990);
    let mut consumer = consumer(&to);
    pop(&mut consumer, 0..10);
}

/// A socket that is bound to a free port, and at which nobody can connect yet.
fn bound() -> (OwnedFd, String) {
    let (flags, any) = (SockFlag::SOCK_CLOEXEC, SockaddrIn::new(127, 0, 0, 1, 0));
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    bind(socket.as_raw_fd(), &any).unwrap();
    let at: SockaddrIn = getsockname(socket.as_raw_fd()).unwrap();
    (socket, at.to_string())
}

/// A driver that the system holds up: by a full queue before a socket at which nobody answers.
#[test]
fn a_driver_that_hangs_shows_in_the_age_of_its_turn() {
    let (listener, at) = bound();
    let place = Place::new();
    let to = ring_end(&place.ring("b", 1 << 14));
    let patient = Settings {
        dial_patience: Duration::from_secs(40),
        ..settings()
    };
    let receives = Running::with(&format!("tcp://{at}"), &to, patient).unwrap();
    receives.wait_until_it_says("cannot reach");
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    // As many as there is room for, and more that wait as the driver does.
    let others = [(); 3].map(|()| {
        let at = at.parse().unwrap();
        TcpStream::connect_timeout(&at, Duration::from_millis(50)).ok()
    });
    assert!(others.iter().any(Option::is_none), "the queue has no bound");
    let soon = Duration::from_millis(900);
    wait_until("it hangs", || receives.figures().turn_age > 2 * soon);
    drop((listener, others));
    wait_until("it goes on", || receives.figures().turn_age < soon);
}

#[test]
fn a_full_queue_before_a_unix_socket_holds_nobody_up() {
    let place = Place::new();
    let to = place.ring("b", 1 << 14);
    let path = place.path("s");
    let flags = SockFlag::SOCK_CLOEXEC;
    let listener = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let takes_the_one_place = UnixStream::connect(&path).unwrap();
    let receives = Running::new(&format!("unix:{}", path.display()), &ring_end(&to));
    // They go before the bridge does, so that one that is held up ends with this test.
    let _held = (listener, takes_the_one_place);
    receives.wait_until_it_says("too many others wait");
    assert!(receives.stop().all_confirmed);
}
