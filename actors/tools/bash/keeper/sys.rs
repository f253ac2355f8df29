//! The system calls that no safe wrapper offers. All `unsafe` of the project is in this file.

#![expect(unsafe_code, reason = "the one place for it")]

use std::ffi::{CStr, CString, c_char};
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Which side of a fork this is.
pub(crate) enum Side {
    Child,
    Parent { child: i32 },
}

/// Forks, with new namespaces if `namespaces` (`CLONE_NEW…`) asks for them. Refused where there is a second thread.
pub(crate) fn fork(namespaces: i32) -> io::Result<Side> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("this process has more than one thread"));
    }
    fork_single_threaded(namespaces)
}

/// [`fork`] without the look at `/proc`, for processes of this crate that have one thread.
pub(crate) fn fork_single_threaded(namespaces: i32) -> io::Result<Side> {
    if namespaces == 0 {
        // SAFETY: there is no other thread, so the child's copy of the memory is in no half-done state: it may do whatever
        // the parent may.
        return side(unsafe { nix::unistd::fork() });
    }
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    // SAFETY: no new stack and no shared memory: this is `fork` with other flags, in a process with one thread (above).
    // What libc's own `fork` does beyond the call (handlers of other threads' locks) concerns other threads only.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        child => Ok(Side::Parent { child: i32::try_from(child).unwrap_or(i32::MAX) }),
    }
}

fn side(forked: nix::Result<nix::unistd::ForkResult>) -> io::Result<Side> {
    Ok(match forked? {
        nix::unistd::ForkResult::Child => Side::Child,
        nix::unistd::ForkResult::Parent { child } => Side::Parent { child: child.as_raw() },
    })
}

/// Forks a child that is to become another program, born in this cgroup if one is given: `cgroup` is its open directory.
/// There may be other threads.
///
/// Until it has executed its program, or ended, the child may only make system calls. It must take no memory and no lock:
/// another thread may have held that lock, and is not there in the child to give it back.
pub(crate) fn fork_to_execute(cgroup: Option<BorrowedFd<'_>>) -> io::Result<Side> {
    // Not libc's constant: where that is as long as a C `int` it has lost this bit.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let Some(cgroup) = cgroup else {
        // SAFETY: the child keeps to the above.
        return side(unsafe { nix::unistd::fork() });
    };
    // The kernel's `struct clone_args` as far as the cgroup, its eleventh word; zero is "none" for all the others.
    let mut arguments = [0_u64; 11];
    arguments[0] = CLONE_INTO_CGROUP;
    arguments[4] = u64::from(libc::SIGCHLD.unsigned_abs());
    arguments[10] = u64::try_from(cgroup.as_raw_fd()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads a struct of the given size. No new stack and no shared memory: this is `fork` with
    // another flag, and the child keeps to the above.
    match unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        child => Ok(Side::Parent { child: i32::try_from(child).unwrap_or(i32::MAX) }),
    }
}

/// Strings as the kernel wants them for a program that is executed. To be made before a fork: it takes memory.
pub(crate) struct Strings<'a> {
    /// Ends with a null pointer.
    pointers: Vec<*const c_char>,
    of: PhantomData<&'a [CString]>,
}

impl<'a> Strings<'a> {
    pub(crate) fn of(strings: &'a [CString]) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect();
        Self { pointers, of: PhantomData }
    }
}

/// Becomes another program. Returns only if that fails.
pub(crate) fn execute(program: &CStr, arguments: &Strings<'_>, environment: &Strings<'_>) -> io::Error {
    // SAFETY: three lists of C strings that live as long as the borrows here, the last two ended by a null pointer.
    unsafe { libc::execve(program.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends the process without running anything of the program it was forked from.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: always allowed; it does not return.
    unsafe { libc::_exit(code) }
}

/// Has all threads allocate from two pools, in the place of one each: what a long conversation frees on one thread the next
/// one can use. For the beginning of a process: it concerns glibc's allocator, and pools that are not made yet.
pub fn share_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number, under the allocator's own lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Lets these signals arrive through a descriptor instead, and ignores the ones a terminal or a closed pipe sends.
pub(crate) fn signals(wanted: &[Signal]) -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in wanted {
        set.add(*signal);
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None)?;
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGQUIT, Signal::SIGTSTP] {
        // SAFETY: ignoring a signal installs no handler that could run.
        unsafe { sigaction(signal, &ignore) }?;
    }
    for signal in wanted {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default disposition installs no handler. An inherited "ignore" for SIGCHLD would reap unseen.
        unsafe { sigaction(*signal, &default) }?;
    }
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Every signal to its default and none blocked, for a program about to be executed.
pub(crate) fn reset_signals() -> io::Result<()> {
    // The kernel's `struct sigaction`, all zero: the default action, no flags, no mask. It has at most four words.
    const DEFAULT: [u64; 4] = [0; 4];
    const SET_SIZE: usize = 8;
    let none = std::ptr::null_mut::<u64>();
    for signal in 1..=64 {
        // By the kernel's own call, because two signals are hidden by the C library, and can be ignored all the same.
        // SAFETY: the kernel reads one `struct sigaction`, not longer than this; no handler is installed.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), none, SET_SIZE) };
    }
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

/// Marks every descriptor from `first` on close-on-exec, whoever opened it.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    let flags = libc::c_long::from(libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: only flags of descriptors change.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes every descriptor from 3 on except these.
///
/// For a freshly forked child that never returns into the code that owns the descriptors it was forked with.
pub(crate) fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep.into_iter().filter(|fd| *fd >= 3).chain([u32::MAX]) {
        // SAFETY: the owners of these descriptors are in frames that the child never returns to and never drops, so
        // nobody uses or closes one of these numbers again.
        if first < fd && unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

/// Makes the mount at `path` read-only, and those below it too if `recursive`. Every other flag of it stays.
pub(crate) fn make_read_only(path: &Path, recursive: bool) -> io::Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let size = std::mem::size_of::<libc::mount_attr>();
    // SAFETY: the path is a C string and the attributes are a struct of the given size; both outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, path.as_ptr(), flags, &raw const attributes, size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Which version of Landlock the kernel has; an error where it has none, or it is switched off.
pub(crate) fn landlock_version() -> io::Result<u32> {
    const VERSION: u32 = 1;
    let nothing = std::ptr::null::<u8>();
    // SAFETY: with this flag the kernel reads nothing and makes nothing.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) };
    u32::try_from(version).map_err(|_| io::Error::last_os_error())
}

/// A set of rules under which these accesses to files are refused where no rule allows them, and all of these scopes.
pub(crate) fn landlock_rules(files: u64, scopes: u64) -> io::Result<OwnedFd> {
    // The kernel's `struct landlock_ruleset_attr`: files, network, scopes. An older kernel wants its unknown end zero.
    let attributes = [files, 0, scopes];
    // SAFETY: the kernel reads a struct of the given size.
    let rules = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, attributes.as_ptr(), size_of_val(&attributes), 0_u32)
    };
    match i32::try_from(rules) {
        // SAFETY: the kernel has just made this descriptor, close-on-exec, and nobody else knows of it.
        Ok(rules) if rules >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(rules) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Allows these accesses to a file, or to everything below a directory.
pub(crate) fn landlock_allow(rules: BorrowedFd<'_>, accesses: u64, path: BorrowedFd<'_>) -> io::Result<()> {
    const PATH_BENEATH: u32 = 1;
    // The kernel's `struct landlock_path_beneath_attr`, which is packed: eight bytes and four.
    let mut rule = [0_u8; 12];
    rule[..8].copy_from_slice(&accesses.to_ne_bytes());
    rule[8..].copy_from_slice(&path.as_raw_fd().to_ne_bytes());
    // SAFETY: the kernel reads the twelve bytes of a rule of this type.
    let added =
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, rules.as_raw_fd(), PATH_BENEATH, rule.as_ptr(), 0_u32) };
    if added == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts this thread, and whatever it forks from now on, under the rules, for good.
pub(crate) fn landlock_enter(rules: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: only the rights of this thread change.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0_u32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
