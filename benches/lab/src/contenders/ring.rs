//! Where annulus' rings lie, and how both of them wait.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use annulus::segment::{AttachOptions, CreateError, CreateOptions};
use annulus::{Location, Wait};

use super::cannot;
use crate::transport::Cannot;
use crate::work::Waiting;

/// Where a ring of annulus lies. All of its pages are there from the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// In a file on tmpfs.
    #[default]
    File,
    /// In a file without a name.
    Memfd,
    /// In a file without a name, of huge pages.
    Huge,
}

/// Looks whether the slice is over at least this often.
pub(super) const MOMENT: Duration = Duration::from_millis(50);

impl Backing {
    /// As it follows a ring's name.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::File => "",
            Self::Memfd => ", memfd",
            Self::Huge => ", huge pages",
        }
    }

    /// Makes a ring's file, by its options' `create_with` or `memfd`.
    pub(super) fn make(
        self,
        folder: &Path,
        name: &str,
        create: impl FnOnce(&Path, &CreateOptions) -> Result<(), CreateError>,
        memfd: impl FnOnce(&CreateOptions) -> Result<OwnedFd, CreateError>,
    ) -> Result<Location, Cannot> {
        let options = CreateOptions {
            huge_pages: self == Self::Huge,
            ..CreateOptions::default()
        };
        match self {
            Self::File => {
                let path = folder.join(name);
                create(&path, &options).map_err(cannot)?;
                Ok(Location::from(path))
            }
            Self::Memfd | Self::Huge => {
                let file: File = memfd(&options).map_err(cannot)?.into();
                Ok(Location::fd(file.into()))
            }
        }
    }

    pub(super) fn attach_options(self) -> AttachOptions {
        AttachOptions {
            prefault: true,
            huge_pages: self == Self::Huge,
            ..AttachOptions::default()
        }
    }
}

pub(super) fn wait_of(waiting: Waiting) -> Wait {
    match waiting {
        Waiting::Spin => Wait::spin(),
        Waiting::Yield => Wait::yielding(),
        Waiting::Block => Wait::block(),
    }
}
