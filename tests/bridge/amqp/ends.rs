//! What one may write for a broker, and what of it is never shown.

use annulus::bridge::{AmqpEnd, Credentials, End, EndError, Password};

use crate::rig::{Place, Running, ring_end, settings};

fn amqp(text: &str) -> AmqpEnd {
    match text.parse::<End>() {
        Ok(End::Amqp(end)) => *end,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn an_end_is_what_the_url_says_and_otherwise_what_brokers_take_for_granted() {
    let end = amqp("amqp://localhost");
    assert_eq!(
        (&*end.host, end.port, &*end.vhost, &*end.user),
        ("localhost", 5672, "/", "guest")
    );
    assert_eq!(end.password, Password::Given("guest".to_owned()));
    assert!(!end.declare && !end.shows_password());
    let end = amqp("amqp://a%40b:c%2Fd@[::1]:5673/%2fv%20h?exchange=e&routing_key=k.%23");
    assert_eq!(
        (&*end.host, end.port, &*end.vhost, &*end.user),
        ("::1", 5673, "/v h", "a@b")
    );
    assert_eq!(end.password, Password::Given("c/d".to_owned()));
    assert_eq!(
        (end.exchange.as_deref(), end.routing_key.as_deref()),
        (Some("e"), Some("k.#"))
    );
    assert_eq!(end.at(), "amqp://a@b@[::1]:5673, vhost /v h");
    assert!(end.shows_password());
    assert_eq!(
        amqp("amqp://h/").vhost,
        "",
        "as the broker's own URLs are read"
    );
    let end = amqp("amqp://h/v?queue=q&declare=yes&durable=no&exchange_type=topic&prefetch=65535");
    assert_eq!(
        (end.declare, end.durable, end.prefetch),
        (true, Some(false), Some(65535))
    );
    assert_eq!(end.tls, None);
    let end = amqp("amqps://h?queue=q&ca=/c%20a&cert=/c&key=/k");
    let files = Credentials {
        ca: Some("/c a".into()),
        cert: Some("/c".into()),
        key: Some("/k".into()),
    };
    assert_eq!((end.port, end.tls.as_ref()), (5671, Some(&files)));
    assert_eq!(end.at(), "amqps://guest@h:5671, vhost /");
    let file = amqp("amqp://me@h?password_file=/run/secrets/it");
    assert_eq!(file.password, Password::File("/run/secrets/it".into()));
    let variable = amqp("amqp://me@h?password_env=SECRET");
    assert_eq!(
        variable.password,
        Password::Environment("SECRET".to_owned())
    );
    assert!(!file.shows_password() && !variable.shows_password());
}

#[test]
fn what_is_no_end_is_refused_and_its_password_never_shown() {
    let long = format!("amqp://me:s3cret@h?queue={}", "q".repeat(256));
    let tagged = format!("amqp://h?routing_key={}{{tag}}", "k".repeat(246));
    for (bad, why) in [
        (
            "amqp://me:s3cret@h/%2f?queue=q&ca=f",
            "`ca` is no option of `amqp:`",
        ),
        ("amqps://me:s3cret@h?verify=no", "`verify` is no option"),
        ("amqp://me:s3cret@/v", "host"),
        ("amqp://me:s3cret@h/a/b", "must be written %2f"),
        ("amqp://me:s3cret@h/%ff", "UTF-8"),
        ("amqp://me:s3cret@h?password_file=/f", "given twice"),
        ("amqp://h?password_file=/f&password_env=E", "given twice"),
        (
            "amqp://me:s3cret@h?password=s3cret",
            "`password` is no option",
        ),
        (
            "amqp://me:s3cret@h?queue=a&queue=b",
            "`queue` is given twice",
        ),
        ("amqp://me:s3cret@h?prefetch=0", "1 to 65535"),
        ("amqp://me:s3cret@h?prefetch=65536", "1 to 65535"),
        ("amqp://me:s3cret@h?declare=maybe", "yes or no"),
        ("amqp://me:s3cret@h?exchange_type=x", "direct, fanout"),
        ("amqp://me:s3cret@h:99999?queue=q", "port"),
        (&long, "255 bytes"),
        (&tagged, "a tag of 10 digits"),
        ("amqp://h?routing_key={tag}.{tag}", "`{tag}` once"),
    ] {
        let refused: EndError = bad.parse::<End>().expect_err(bad);
        let shown = format!("{refused} {refused:?}");
        assert!(shown.contains(why), "{bad}: {shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    let shown = format!("{:?}", amqp("amqp://me:s3cret@h"));
    assert!(shown.contains("me") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn ends_that_make_no_bridge_are_refused() {
    let place = Place::new();
    let ring = ring_end(&place.ring("a", 4096));
    let other = format!("{ring}?accept-other-source=yes");
    for (source, destination, why) in [
        (&*ring, "amqp://h", "where messages go"),
        (&*ring, "amqp://h?queue=q", "where messages go"),
        (
            &*ring,
            "amqp://h?routing_key=k&prefetch=1",
            "`prefetch` means nothing here",
        ),
        (
            &*ring,
            "amqp://h?routing_key=k&durable=no",
            "`durable` means nothing here",
        ),
        (
            &*ring,
            "amqp://h?exchange=e&queue=q&routing_key=k.{tag}&declare=yes",
            "needs `exchange_type=topic`",
        ),
        ("amqp://h?exchange=e", &*ring, "where messages come from"),
        (
            "amqp://h?queue=q&exchange_type=topic",
            &*ring,
            "`exchange_type` means nothing here",
        ),
        (
            "amqp://h?queue=q",
            "amqp://h?routing_key=k",
            "one end of a bridge must be a ring",
        ),
        (
            "amqp://h?queue=q",
            &*other,
            "`accept-other-source` means nothing here",
        ),
    ] {
        let refused = Running::with(source, destination, settings())
            .err()
            .expect(why);
        assert!(
            refused.to_string().contains(why),
            "{source} {destination}: {refused}"
        );
    }
}
