//! Who hands records over: annulus, and the kernel's ways.

mod spsc;

pub use spsc::Spsc;

/// Where a ring of annulus lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// In a file on tmpfs, its pages there from the beginning.
    #[default]
    File,
    /// In a file without a name.
    Memfd,
    /// In a file without a name, of huge pages.
    Huge,
}
