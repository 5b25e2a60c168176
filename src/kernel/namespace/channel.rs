//! A socket pair between the command and its helper: messages with descriptors.
#![expect(
    unsafe_code,
    reason = "descriptors that come with a message are bare numbers"
)]

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Bytes of the longest message: a task with a few addresses, or a sentence.
const LONGEST: usize = 32 << 10;
/// The most descriptors in one message: the queues of a TUN.
const MOST_FDS: usize = 64;
/// The first byte of a message that says what went wrong.
const FAILURE: u8 = b'!';

/// One end of the pair.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Our end, and the one for the helper.
    pub(super) fn pair() -> Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .context("cannot make a socket pair")?;
        Ok((Self(ours), theirs))
    }

    /// The helper's end, which it was given as its standard input.
    pub(super) fn from_stdin() -> Result<Self> {
        let fd = fcntl(std::io::stdin(), FcntlArg::F_DUPFD_CLOEXEC(3))?;
        // SAFETY: the descriptor has just been made and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        nix::sys::socket::getsockopt(&fd, nix::sys::socket::sockopt::SockType)
            .context("its standard input is no socket")?;
        Ok(Self(fd))
    }

    /// Sends a message, which must not be empty.
    pub(super) fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights };
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(message)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .context("cannot reach the other process")?;
        Ok(())
    }

    /// Tells the other side why it will get no more.
    pub(super) fn fail(&self, error: &anyhow::Error) -> Result<()> {
        let mut message = vec![FAILURE];
        message.extend(format!("{error:#}").into_bytes());
        message.truncate(LONGEST);
        self.send(&message, &[])
    }

    /// The next message; `None` when the other side has closed.
    pub(super) fn receive(&self) -> Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        let mut message = vec![0; LONGEST];
        let mut control = nix::cmsg_space!([RawFd; MOST_FDS]);
        let mut fds = Vec::new();
        let len = {
            let mut parts = [IoSliceMut::new(&mut message)];
            let received = loop {
                match recvmsg::<()>(
                    self.0.as_raw_fd(),
                    &mut parts,
                    Some(&mut control),
                    MsgFlags::MSG_CMSG_CLOEXEC,
                ) {
                    Err(nix::errno::Errno::EINTR) => {}
                    // A process that dies with messages unread resets the connection: the same as closing it.
                    Err(nix::errno::Errno::ECONNRESET) => return Ok(None),
                    other => break other?,
                }
            };
            for control in received.cmsgs()? {
                if let ControlMessageOwned::ScmRights(rights) = control {
                    // SAFETY: the kernel has made these descriptors for this process with the message, and nobody
                    // else knows them.
                    fds.extend(
                        rights
                            .into_iter()
                            .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                    );
                }
            }
            received.bytes
        };
        message.truncate(len);
        Ok((len > 0).then_some((message, fds)))
    }

    /// The descriptors that come with the message `wanted`.
    ///
    /// # Errors
    /// If the other side failed, says something else, or is gone.
    pub(super) fn expect(&self, wanted: &[u8]) -> Result<Vec<OwnedFd>> {
        match self.receive()? {
            Some((message, fds)) if message == wanted => Ok(fds),
            Some((message, _)) => match message.split_first() {
                Some((&FAILURE, text)) => bail!("{}", String::from_utf8_lossy(text)),
                _ => bail!("the helper speaks another version: start the same program again"),
            },
            None => bail!("the helper ended before it was ready"),
        }
    }

    /// Waits until the other side closes.
    ///
    /// # Errors
    /// If it failed instead.
    pub(super) fn closed(&self) -> Result<()> {
        match self.receive()? {
            None => Ok(()),
            Some((message, _)) => bail!(
                "{}",
                String::from_utf8_lossy(message.get(1..).unwrap_or_default())
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    #[test]
    fn messages_keep_their_bounds_and_bring_their_descriptors() {
        let (a, b) = Channel::pair().unwrap();
        let b = Channel(b);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello").unwrap();
        a.send(b"one", &[file.as_fd()]).unwrap();
        a.send(b"two", &[]).unwrap();
        let fds = b.expect(b"one").unwrap();
        assert!(b.expect(b"two").unwrap().is_empty());
        let [fd] = <[OwnedFd; 1]>::try_from(fds).unwrap();
        let mut other = std::fs::File::from(fd);
        other.rewind().unwrap();
        let mut text = String::new();
        other.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn a_failure_is_told_in_words_and_silence_is_told_apart() {
        let (a, b) = Channel::pair().unwrap();
        let b = Channel(b);
        a.fail(&anyhow::anyhow!("no tun").context("cannot begin"))
            .unwrap();
        assert_eq!(
            b.expect(b"ready").unwrap_err().to_string(),
            "cannot begin: no tun"
        );
        drop(a);
        assert_eq!(
            b.expect(b"ready").unwrap_err().to_string(),
            "the helper ended before it was ready"
        );
        assert!(b.closed().is_ok());
    }
}
