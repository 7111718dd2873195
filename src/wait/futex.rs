//! The three system calls of waiting: futex wait, futex wake, membarrier. Under loom, their models.

use crate::layout::EventLine;
use crate::protocol::event;

/// Wakes everybody who sleeps on the event or is about to, without asking whether anybody does.
pub(crate) fn wake_all(event: &EventLine) {
    event::count_wake_up(&event.word);
    wake_sleepers(event);
}

#[cfg(not(loom))]
pub(crate) use real::{global_barrier, heavy_barrier, register_barrier, sleep, wake_sleepers};

#[cfg(loom)]
pub(crate) use model::{global_barrier, heavy_barrier, sleep, wake_sleepers};

#[cfg(not(loom))]
mod real {
    use super::EventLine;
    use rustix::thread::futex;
    use std::time::Duration;

    /// MEMBARRIER_CMD_GLOBAL of linux/membarrier.h.
    const GLOBAL: libc::c_int = 1;
    /// MEMBARRIER_CMD_GLOBAL_EXPEDITED of the same.
    const GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
    /// MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED of the same.
    const REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;
    /// MEMBARRIER_CMD_PRIVATE_EXPEDITED of the same.
    const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    /// MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED of the same.
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

    /// Sleeps while the event word is `armed`, for `timeout` at most. Returns false on a time-out.
    pub(crate) fn sleep(event: &EventLine, armed: u32, timeout: Duration) -> bool {
        let timeout = rustix::time::Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let slept = futex::wait(
            event.word.as_futex(),
            futex::Flags::empty(),
            armed,
            Some(&timeout),
        );
        slept != Err(rustix::io::Errno::TIMEDOUT)
    }

    /// Wakes everybody who sleeps on the event, in every process.
    #[cold]
    #[inline(never)]
    pub(crate) fn wake_sleepers(event: &EventLine) {
        // It fails only for an address that is not mapped, which `event` excludes.
        let _woken = futex::wake(
            event.word.as_futex(),
            futex::Flags::empty(),
            i32::MAX as u32,
        );
    }

    /// Makes the processors that run a participant execute a full barrier, all that the kernel
    /// knows of. False if it does not offer that here.
    ///
    /// Of other processes the kernel asks what each processor has noted of the one that it runs, of
    /// this one what it runs. The note may be older than the registration: a processor that ran
    /// that process before it attached, and nothing but the kernel since, keeps it and is passed
    /// over for as long (Linux 6.18; `kernel/sched/membarrier.c` tells the processor on which a
    /// process registers, and a switch from an idle one back to the same process tells nobody). So
    /// threads of this process are told by the second call; a sleeper that was missed by those of
    /// others looks again before long; and who has no second look uses [`global_barrier`].
    pub(crate) fn heavy_barrier() -> bool {
        membarrier(GLOBAL_EXPEDITED) && membarrier(PRIVATE_EXPEDITED)
    }

    /// Waits until every processor has executed a full barrier, whatever it runs: 8 to 16 ms here.
    /// False where the kernel refuses it: it does if any processor may run without a tick
    /// (`nohz_full`).
    #[cold]
    pub(crate) fn global_barrier() -> bool {
        membarrier(GLOBAL)
    }

    /// Lets this process take part in heavy barriers.
    pub(crate) fn register_barrier() -> bool {
        membarrier(REGISTER_GLOBAL_EXPEDITED) && membarrier(REGISTER_PRIVATE_EXPEDITED)
    }

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: takes three integers and no pointer; an unknown command is refused with EINVAL.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }
}

#[cfg(loom)]
mod model {
    use super::EventLine;

    pub(crate) fn sleep(event: &EventLine, armed: u32) {
        event.lot.sleep_while(&event.word, armed);
    }

    pub(crate) fn wake_sleepers(event: &EventLine) {
        event.lot.wake_all();
    }

    pub(crate) fn heavy_barrier() -> bool {
        crate::sync::full_fence();
        true
    }

    pub(crate) fn global_barrier() -> bool {
        heavy_barrier()
    }
}
