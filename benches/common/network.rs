//! A network of this process's own, in which there is loopback and nothing else.

use std::fs;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};
use nix::unistd::{getgid, getuid};

/// `RTM_NEWLINK` with `NLM_F_REQUEST | NLM_F_ACK`, for the interface 1: set `IFF_UP`, change nothing else. Words of the
/// header are length, type and flags, sequence number, port; then family and type, interface, flags, which of them.
const LOOPBACK_UP: [u32; 8] = [32, 16 | 5 << 16, 1, 0, 0, 1, 1, 1];
/// The type of the acknowledgement, and where in it the error stands.
const ACKNOWLEDGED: (u16, usize) = (2, 16);

/// Leaves every network but a loopback of its own: nothing that this process or a child of it says can get out.
/// To be called before there is a second thread.
///
/// # Errors
/// The kernel does not let it.
pub(crate) fn cut_off() -> Result<()> {
    let (user, group) = (getuid(), getgid());
    match unshare(CloneFlags::CLONE_NEWNET) {
        Err(Errno::EPERM) => {
            let flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET;
            unshare(flags).context("no network of its own (neither as root nor in a user namespace)")?;
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
            fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
        }
        outcome => outcome.context("no network of its own")?,
    }
    loopback_up().context("loopback")
}

fn loopback_up() -> Result<()> {
    let kernel = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let message: Vec<u8> = LOOPBACK_UP.iter().flat_map(|word| word.to_ne_bytes()).collect();
    sendto(kernel.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0; 1024];
    let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let (kind, error) = (u16::from_ne_bytes([answer[4], answer[5]]), ACKNOWLEDGED.1);
    let error = i32::from_ne_bytes([answer[error], answer[error + 1], answer[error + 2], answer[error + 3]]);
    ensure!(length >= 20 && kind == ACKNOWLEDGED.0, "an answer of the kind {kind} and {length} bytes");
    ensure!(error == 0, "{}", Errno::from_raw(-error));
    Ok(())
}
