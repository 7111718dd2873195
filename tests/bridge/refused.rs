//! What cannot work is refused before anything moves, with its reason.

use annulus::bridge::{Bridge, End};
use annulus::{Redelivery, mpmc};

use crate::rig::{Place, Running, ring_end, settings};

#[test]
fn options_that_cannot_work_are_refused_when_they_are_checked_and_when_it_attaches() {
    let place = Place::new();
    let bytes = ring_end(&place.ring("a", 4096));
    let slots = |name, redelivery| {
        let path = place.path(name);
        let options = mpmc::Options::new(8, 64).redelivery(redelivery);
        options.create(&path).unwrap();
        ring_end(&path)
    };
    let records = slots("records", Redelivery::Unlimited);
    let never = slots("never", Redelivery::Never);
    let twice = slots("twice", Redelivery::AtMost(2));
    let end = |text: &str| text.parse::<End>().unwrap();
    for (source, destination, words) in [
        (&bytes, "tcp://127.0.0.1:1?subscribers=2", "`subscribers`"),
        (&bytes, "unix:/s?lag=100", "`lag`"),
        (&bytes, "unix-listen:/s?slow=block&lag=100", "`lag`"),
        (&records, "unix-listen:/s?forget=x", "`forget`"),
        (&records, "unix-listen:/s?slow=drop", "`slow`"),
        (&never, "unix-listen:/s", "--redelivery unlimited"),
        (
            &twice,
            "unix-listen:/s?framing=lines",
            "--redelivery unlimited",
        ),
        (&bytes, &*records, "two rings"),
    ] {
        let checked = Bridge::check(&end(source), &end(destination)).unwrap_err();
        assert!(checked.to_string().contains(words), "{checked}");
        let attached = Running::with(source, destination, settings());
        let attached = attached.err().map(|error| error.to_string());
        assert_eq!(attached, Some(checked.to_string()));
    }
    for (source, destination) in [
        (&*bytes, "tcp://127.0.0.1:1?subscribers=1"),
        (&bytes, "unix-listen:/s?slow=drop&lag=100&forget=x"),
        (&records, "unix-listen:/s?subscribers=2"),
        // As a destination it is one like others.
        ("unix:/s", &never),
        // It may be any ring, once it is there.
        ("ring:/nowhere", "unix-listen:/s?forget=x"),
    ] {
        Bridge::check(&end(source), &end(destination)).unwrap();
    }
}
