//! How the scheduler treats the calling thread.

/// Before ordinary programs, as the kernel's own forwarding comes; far from those that nothing may delay (setpriority(2)).
#[cfg(target_os = "linux")]
const NICE: libc::c_int = -10;

/// Makes the calling thread one that carries packets between others. Where the system refuses a part, all stays as it
/// was; without privileges it refuses the second.
///
/// * It waits until who sent it work has gone to sleep, instead of taking the processor from it or waking another one
///   (sched(7), `SCHED_BATCH`). What follows a packet then mostly happens on the processor that sent it, no sleeping one
///   is woken on the way, and more packets are there when the thread looks.
/// * Who gets a packet does not take the processor from it at once. A thread stopped in the middle of its turn would
///   keep the processor busy, and the answer would have to wake another one.
pub fn between_others() {
    #[cfg(target_os = "linux")]
    #[expect(
        unsafe_code,
        reason = "neither call has a safe wrapper among our libraries"
    )]
    // SAFETY: the structure is whole, lives through the call and is only read; thread 0 is the calling one.
    unsafe {
        let none = libc::sched_param { sched_priority: 0 };
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const none);
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
    }
}
