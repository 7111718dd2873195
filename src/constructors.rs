//! The constructors that handles and options of both rings share, written once.
//!
//! A macro rather than a trait, so that they are inherent: found without an import, and documented
//! on the type on which one looks for them.

/// `create`, `create_with` and `memfd` of a ring's options.
macro_rules! creatable {
    ($options:ident) => {
        #[cfg(not(loom))]
        impl $options {
            /// Creates the ring's file, whole or not at all, for its owner only (mode 0600).
            ///
            /// # Errors
            /// See [`CreateError`](crate::segment::CreateError).
            pub fn create(
                &self,
                location: impl Into<crate::Location>,
            ) -> Result<(), crate::segment::CreateError> {
                self.create_with(location, &crate::segment::CreateOptions::default())
            }

            /// Creates the ring's file as `options` say.
            ///
            /// # Errors
            /// See [`CreateError`](crate::segment::CreateError).
            pub fn create_with(
                &self,
                location: impl Into<crate::Location>,
                options: &crate::segment::CreateOptions,
            ) -> Result<(), crate::segment::CreateError> {
                crate::segment::create(&location.into(), &self.geometry()?, options)
            }

            /// Creates the ring in a file without a name, to be handed to other processes as a
            /// descriptor. `name` is for display.
            ///
            /// # Errors
            /// See [`CreateError`](crate::segment::CreateError).
            pub fn memfd(
                &self,
                name: &str,
                options: &crate::segment::CreateOptions,
            ) -> Result<std::os::fd::OwnedFd, crate::segment::CreateError> {
                crate::segment::create_memfd(name, &self.geometry()?, options)
            }

            /// Creates the ring in a file without a name, and its locks in another one, so that it
            /// can be shown to those who are trusted with nothing: see
            /// [`Observable`](crate::segment::Observable).
            ///
            /// # Errors
            /// See [`CreateError`](crate::segment::CreateError).
            pub fn observable(
                &self,
                name: &str,
                options: &crate::segment::CreateOptions,
            ) -> Result<crate::segment::Observable, crate::segment::CreateError> {
                crate::segment::create_observable(name, &self.geometry()?, options)
            }
        }
    };
}
pub(crate) use creatable;

/// `attach`, `attach_with` and `attach_untrusting` of a handle, on its `of`.
macro_rules! attachable {
    ($handle:ident, $role:ident, $kind:ident) => {
        #[cfg(not(loom))]
        impl $handle {
            /// Attaches a handle that trusts its peers, and so may lend slices of the ring itself.
            ///
            /// # Errors
            /// See [`AttachError`](crate::segment::AttachError). In an SPSC ring `RoleTaken` names
            /// the one who has this role; if that one is dead, this handle goes on in its place.
            ///
            /// # Safety
            /// - Every process that can write to the ring's file, now or while this handle lives,
            ///   uses it through this library (of the same layout version) only.
            /// - None of them runs unsafe code that stores to a span it has not claimed, or to one
            ///   that it has committed or released.
            pub unsafe fn attach(
                location: impl Into<crate::Location>,
            ) -> Result<Self, crate::segment::AttachError> {
                // SAFETY: the caller's contract is the same.
                unsafe { Self::attach_with(location, &crate::segment::AttachOptions::default()) }
            }

            /// Attaches as `options` say.
            ///
            /// # Errors
            /// See [`AttachError`](crate::segment::AttachError).
            ///
            /// # Safety
            /// As for [`attach`](Self::attach).
            pub unsafe fn attach_with(
                location: impl Into<crate::Location>,
                options: &crate::segment::AttachOptions,
            ) -> Result<Self, crate::segment::AttachError> {
                use crate::segment::{Role, attach};
                let kind = crate::Kind::$kind;
                let mapped = attach(&location.into(), Role::$role, kind, options)?;
                Ok(Self::of(mapped)?)
            }
        }

        #[cfg(not(loom))]
        impl $handle<crate::Guarded> {
            /// Attaches a handle to which a file that somebody makes shorter is an error,
            /// `CutShort`, and not SIGBUS, which ends the process. Installs a handler of SIGBUS
            /// for the whole process, which passes on what concerns others.
            ///
            /// Nothing that the file has lost is ever handed out as a record of zeroes, with one
            /// exception: a record that is being read in place at the moment of the cut. Whoever
            /// must know asks [`loss`](Self::loss) after reading and before acting, or copies with
            /// `pop`, which does so by itself. A commit into what is lost tells nothing, the next
            /// operation does. A file that is cut and made longer again, or has a hole punched
            /// into it, reads as zeroes without any signal, and nobody can tell.
            ///
            /// # Errors
            /// See [`AttachError`](crate::segment::AttachError).
            ///
            /// # Safety
            /// As for `attach`, except that the file may be made shorter.
            pub unsafe fn attach_guarded(
                location: impl Into<crate::Location>,
                options: &crate::segment::AttachOptions,
            ) -> Result<Self, crate::segment::AttachError> {
                use crate::segment::{Role, attach_guarded};
                let kind = crate::Kind::$kind;
                let guarded = attach_guarded(&location.into(), Role::$role, kind, options)?;
                Ok(Self::of(guarded)?)
            }
        }

        #[cfg(not(loom))]
        impl $handle<crate::Untrusted> {
            /// Attaches a handle that need not trust its peers: whatever they do to the ring's
            /// memory, it sees errors or wrong bytes and nothing worse. It copies, and lends
            /// nothing.
            ///
            /// # Errors
            /// See [`AttachError`](crate::segment::AttachError); `NotSealed` for a file that
            /// somebody may cut short, such as any with a name.
            pub fn attach_untrusting(
                location: impl Into<crate::Location>,
                options: &crate::segment::AttachOptions,
            ) -> Result<Self, crate::segment::AttachError> {
                use crate::segment::{Role, attach_untrusted};
                let kind = crate::Kind::$kind;
                let mapped = attach_untrusted(&location.into(), Role::$role, kind, options)?;
                Ok(Self::of(mapped)?)
            }
        }
    };
}
pub(crate) use attachable;
