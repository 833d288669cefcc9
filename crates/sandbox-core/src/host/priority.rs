//! How urgent the work of a thread is.
//!
//! A low nice(2) value is not enough for work that others must not wait behind: a shell script that starts hundreds of
//! short programs then waits for the end of a time slice at each of them. A thread of the policy `SCHED_IDLE` gives way
//! at once.
//!
//! **Source**: sched_setscheduler(2), sched(7).

use rustix::process::Pid;

/// A thread of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread(Pid);

impl Thread {
    /// Names the thread that asks.
    #[must_use]
    pub fn this() -> Self {
        Self(rustix::thread::gettid())
    }

    /// Has it run only while nobody else wants the processor. A kernel that refuses leaves it as it is.
    pub fn yields(self) {
        self.set(libc::SCHED_IDLE);
    }

    /// Has it run as any other thread.
    pub fn competes(self) {
        self.set(libc::SCHED_OTHER);
    }

    #[allow(unsafe_code, reason = "sched_setscheduler(2) has no safe form")]
    fn set(self, policy: libc::c_int) {
        // SAFETY: the structure is all zeroes but for the one field that Linux has, and lives as long as the call.
        unsafe {
            let mut parameters: libc::sched_param = std::mem::zeroed();
            parameters.sched_priority = 0;
            libc::sched_setscheduler(self.0.as_raw_nonzero().get(), policy, &raw const parameters);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(unsafe_code, reason = "sched_getscheduler(2) has no safe form")]
    fn policy() -> libc::c_int {
        // SAFETY: the call takes numbers only.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn a_thread_gives_way_and_another_takes_that_back() {
        let (name, named) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel();
        let own = policy();
        let yielding = std::thread::spawn(move || {
            Thread::this().yields();
            let while_yielding = policy();
            name.send(Thread::this()).unwrap();
            gone.recv().unwrap();
            (while_yielding, policy())
        });
        named.recv().unwrap().competes();
        go.send(()).unwrap();
        assert_eq!(yielding.join().unwrap(), (libc::SCHED_IDLE, libc::SCHED_OTHER));
        assert_eq!(policy(), own, "the whole process was meant");
    }
}
