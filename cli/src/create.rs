//! `annulus create`.

use std::path::PathBuf;

use annulus::segment::{AttachOptions, CreateOptions, inspect};
use annulus::{Location, Redelivery, mpmc, spsc};
use clap::Args;

use crate::report::{Answer, Failure};
use crate::size;

/// Creates a ring.
///
/// The file appears under its name whole or not at all, with all of its blocks allocated, and
/// never replaces another one.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  annulus create /dev/shm/bytes.ring --spsc --capacity 1MiB
  annulus create /dev/shm/jobs.ring --mpmc --slots 4096 --slot-size 256 --participants 16
  annulus create /dev/shm/team.ring --mpmc --mode 0660")]
pub struct CreateArgs {
    /// The file to be made; /dev/shm keeps it in memory.
    path: PathBuf,

    /// One producer, one consumer, records of any length in a ring of bytes.
    #[arg(long, required_unless_present = "mpmc", conflicts_with = "mpmc")]
    spsc: bool,
    /// Bytes of the ring, a power of two from 4KiB on. The longest record is just under half.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "1MiB")]
    #[arg(conflicts_with = "mpmc")]
    capacity: u64,

    /// Many producers and consumers, records in slots of one size.
    #[arg(long)]
    mpmc: bool,
    /// How many slots, a power of two from 2 on.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 4096,
        conflicts_with = "spsc"
    )]
    slots: u64,
    /// Longest record in bytes. A slot takes 16 bytes more, rounded up to a multiple of 64.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "256")]
    #[arg(conflicts_with = "spsc")]
    slot_size: u64,
    /// Most senders and receivers at a time, 1 to 2047.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 64,
        conflicts_with = "spsc"
    )]
    participants: u16,
    /// What becomes of a record whose receiver died holding it: delivered again without limit,
    /// never, or so many times at most. One that is not delivered again is dropped and counted.
    #[arg(long, value_name = "unlimited|never|1..3", value_parser = parse_redelivery)]
    #[arg(default_value = "unlimited", conflicts_with = "spsc")]
    redelivery: Redelivery,

    /// Permissions of the file, exactly, whatever the umask. Who may write to it is trusted; who
    /// may read it can keep the dead from being recovered, by a lock on the file.
    #[arg(long, value_name = "OCTAL", value_parser = size::parse_mode, default_value = "0600")]
    mode: u32,
    /// Ask for transparent huge pages; tmpfs has them if mounted with huge=advise, and hugetlbfs
    /// has nothing else.
    #[arg(long)]
    huge_pages: bool,
    /// Touch every page now, so that the first lap is as fast as the others.
    #[arg(long)]
    prefault: bool,
    /// Also on file systems on which the guarantees are not known to hold.
    #[arg(long)]
    force_file_system: bool,
}

fn parse_redelivery(text: &str) -> Result<Redelivery, String> {
    match text {
        "unlimited" => Ok(Redelivery::Unlimited),
        "never" => Ok(Redelivery::Never),
        "1" => Ok(Redelivery::AtMost(1)),
        "2" => Ok(Redelivery::AtMost(2)),
        "3" => Ok(Redelivery::AtMost(3)),
        _ => Err("expected unlimited, never, 1, 2 or 3".to_owned()),
    }
}

pub fn run(args: &CreateArgs) -> Result<Answer, Failure> {
    let options = CreateOptions {
        mode: args.mode,
        huge_pages: args.huge_pages,
        force_file_system: args.force_file_system,
    };
    let created = if args.mpmc {
        mpmc::Options::new(args.slots, args.slot_size)
            .participants(args.participants)
            .redelivery(args.redelivery)
            .create_with(&args.path, &options)
    } else {
        spsc::Options::new(args.capacity).create_with(&args.path, &options)
    };
    created.map_err(|error| Failure::of_ring("create", &args.path, &error))?;
    if args.prefault || args.huge_pages {
        touch(args)?;
    }
    describe(args)
}

/// Has the kernel make the pages: it does so for whoever maps them first.
fn touch(args: &CreateArgs) -> Result<(), Failure> {
    let options = AttachOptions {
        prefault: args.prefault,
        huge_pages: args.huge_pages,
        force_file_system: args.force_file_system,
        ..AttachOptions::default()
    };
    let touched = if args.mpmc {
        // SAFETY: no record is read or written through the handle, which is gone at once; and
        // whoever may write to the file uses it through annulus, see `annulus --help`.
        unsafe { mpmc::Consumer::attach_with(&args.path, &options) }.map(drop)
    } else {
        // SAFETY: as above.
        unsafe { spsc::Consumer::attach_with(&args.path, &options) }.map(drop)
    };
    touched.map_err(|error| Failure::of_ring("prefault", &args.path, &error))
}

fn describe(args: &CreateArgs) -> Result<Answer, Failure> {
    let ring = inspect(&Location::from(&args.path))
        .map_err(|error| Failure::of_ring("look at", &args.path, &error))?;
    eprintln!(
        "created {} `{}`: records of up to {} bytes, {} in all",
        ring.kind,
        args.path.display(),
        size::grouped(ring.max_record_bytes),
        size::show(ring.file_bytes),
    );
    Ok(Answer::Yes)
}
