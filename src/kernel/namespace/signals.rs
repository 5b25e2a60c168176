//! While a program runs in the foreground, its signals are its own.
#![expect(
    unsafe_code,
    reason = "installing a signal handler has no safe interface"
)]

use anyhow::Result;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::sync::atomic::{AtomicI32, Ordering};

/// Signals that ask a process to end or to do something, and that a terminal or a supervisor sends.
const PASSED_ON: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// The process signals are passed on to; 0 is none.
static PROGRAM: AtomicI32 = AtomicI32::new(0);

/// Passes signals on to a program as long as it lives.
#[derive(Debug)]
pub(super) struct PassedOn {
    before: Vec<(Signal, SigAction)>,
}

impl PassedOn {
    /// Begins to pass signals on to the process `program`.
    pub(super) fn to(program: u32) -> Result<Self> {
        PROGRAM.store(i32::try_from(program)?, Ordering::SeqCst);
        let action = SigAction::new(
            SigHandler::SigAction(pass_on),
            SaFlags::SA_RESTART | SaFlags::SA_SIGINFO,
            SigSet::empty(),
        );
        let mut passed_on = Self { before: Vec::new() };
        for signal in PASSED_ON {
            // SAFETY: the handler does nothing but load an atomic and call kill(2), both async-signal-safe.
            let before = unsafe { sigaction(signal, &action) }?;
            passed_on.before.push((signal, before));
        }
        Ok(passed_on)
    }

    /// From here on signals are this process's own: to be called before the program's number may be used again.
    pub(super) fn stop() {
        PROGRAM.store(0, Ordering::SeqCst);
    }
}

impl Drop for PassedOn {
    fn drop(&mut self) {
        Self::stop();
        for (signal, before) in self.before.drain(..) {
            // SAFETY: this puts back an action that was in force before. Failing would leave a handler that does
            // nothing, since there is no program any more.
            let _ = unsafe { sigaction(signal, &before) };
        }
    }
}

extern "C" fn pass_on(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let program = PROGRAM.load(Ordering::SeqCst);
    // SAFETY: with SA_SIGINFO the kernel hands a valid `siginfo_t` to the handler.
    let from_kernel = unsafe { info.as_ref() }.is_some_and(|info| info.si_code > 0);
    // What the terminal sends (Ctrl-C), it sends to the whole foreground group, and so to the program, too.
    if program > 0 && !from_kernel {
        // SAFETY: kill(2) takes two numbers; the program has not been waited for yet, so the number is still its own.
        unsafe { libc::kill(program, signal) };
    }
}
