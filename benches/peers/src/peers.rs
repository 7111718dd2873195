//! Who takes part.

use annulus_lab::{Contender, Fixed, Of, Transport, contenders, floors};

/// Which contenders a scenario asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// Those that carry records from one to one.
    OneToOne,
    /// Those that share records among many.
    ManyToMany,
}

fn of<const W: usize>(transport: impl Transport<Fixed<W>> + 'static) -> Box<dyn Contender> {
    let payload = Fixed::<W>;
    Box::new(Of { payload, transport })
}

/// The contenders of a field, for records of `W` words.
fn with_words<const W: usize>(field: Field) -> Vec<Box<dyn Contender>> {
    match field {
        Field::OneToOne => vec![
            of::<W>(contenders::Spsc::default()),
            of::<W>(crate::rtrb::Rtrb),
            of::<W>(crate::ringbuf::Ringbuf),
            of::<W>(crate::crossbeam::Crossbeam),
            of::<W>(crate::kanal::Kanal),
            of::<W>(crate::ringfire::Lossless),
            of::<W>(crate::disruptor_mp::DisruptorMp),
            of::<W>(crate::shaq::Spsc),
            of::<W>(crate::ipc_ring::IpcRing),
            of::<W>(crate::ipc_channel::IpcChannel),
            #[cfg(feature = "iceoryx2")]
            of::<W>(crate::iceoryx::Iceoryx),
            #[cfg(feature = "aeron")]
            of::<W>(crate::aeron::Aeron),
        ],
        Field::ManyToMany => vec![
            of::<W>(contenders::Mpmc::default()),
            of::<W>(floors::Slots),
            of::<W>(crate::crossbeam::Crossbeam),
            of::<W>(crate::kanal::Kanal),
            of::<W>(crate::shaq::Mpmc),
            of::<W>(crate::ringfire::Mpmc),
        ],
    }
}

/// Calls a function that is generic over the words of a record.
macro_rules! for_payload {
    ($bytes:expr, $function:ident($($argument:expr),*)) => {
        match $bytes {
            8 => $function::<1>($($argument),*),
            56 => $function::<7>($($argument),*),
            64 => $function::<8>($($argument),*),
            4096 => $function::<512>($($argument),*),
            65536 => $function::<8192>($($argument),*),
            other => unreachable!("no scenario has records of {other} bytes"),
        }
    };
}

/// The contenders of a field, for records of so many bytes.
pub(crate) fn contenders(field: Field, payload: usize) -> Vec<Box<dyn Contender>> {
    for_payload!(payload, with_words(field))
}
