//! What a command is given to read: kept until its pipe takes it, so that the keeper waits for nobody.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::Keeper;
use crate::protocol::{Input, MAX_INPUT, Refusal, RefusalCode, Reply};

/// The end of a command's standard input that the keeper holds.
#[derive(Debug)]
pub(super) struct Pipe {
    end: OwnedFd,
    /// What the pipe has not taken yet, at most [`MAX_INPUT`].
    waiting: VecDeque<u8>,
    /// To be closed behind that.
    ends: bool,
}

/// What is to become of a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poured {
    /// It takes more, now or later.
    Open,
    /// All of it is in there, and that was the end.
    Ended,
    /// Nobody will ever read it.
    Broken,
}

impl Pipe {
    /// A pipe that does not block.
    pub(super) fn new(end: OwnedFd) -> Self {
        Self { end, waiting: VecDeque::new(), ends: false }
    }

    /// Whether something waits for room in it.
    pub(super) fn has_more(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.waiting.len() + bytes <= MAX_INPUT
    }

    /// Fills the pipe as far as it takes.
    fn pour(&mut self) -> Poured {
        while self.has_more() {
            let (front, back) = self.waiting.as_slices();
            match rustix::io::writev(&self.end, &[IoSlice::new(front), IoSlice::new(back)]) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(Errno::AGAIN) => return Poured::Open,
                Err(Errno::INTR) => {}
                Err(_) => return Poured::Broken,
            }
        }
        if self.ends { Poured::Ended } else { Poured::Open }
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

impl Keeper {
    /// Takes text for a command, unless it was taken before.
    pub(super) fn input(&mut self, input: &Input) -> Result<Reply, Refusal> {
        if input.text.len() > MAX_INPUT {
            return Err(Refusal::new(RefusalCode::BadRequest, format!("text has more than {MAX_INPUT} bytes")));
        }
        let Some(job) = self.jobs.get_mut(&input.seq) else {
            return Err(Refusal::new(RefusalCode::NotFound, format!("call {} is not alive", input.seq)));
        };
        // Before anything else: what was taken once stays taken, whatever became of the pipe.
        if job.last_input >= Some(input.key) {
            return Ok(Reply::Taken {});
        }
        let closed = |why: &str| Err(Refusal::new(RefusalCode::InputClosed, why));
        let Some(pipe) = &mut job.input else { return closed("its standard input is empty, or ended") };
        if pipe.ends {
            return closed("its standard input was ended before");
        }
        if !pipe.has_room_for(input.text.len()) {
            let message = format!("{} bytes wait to be read", pipe.waiting.len());
            return Err(Refusal::new(RefusalCode::InputFull, message));
        }
        pipe.waiting.extend(input.text.as_bytes());
        pipe.ends = input.end;
        match pipe.pour() {
            Poured::Open => {}
            Poured::Ended => job.input = None,
            Poured::Broken => {
                // Who read a part of it and left was given it.
                let read = pipe.waiting.len() < input.text.len();
                job.input = None;
                if !read {
                    return closed("nobody reads its standard input any more");
                }
            }
        }
        job.last_input = Some(input.key);
        Ok(Reply::Taken {})
    }

    /// Goes on filling a pipe.
    pub(super) fn pour(&mut self, seq: u64) {
        let Some(job) = self.jobs.get_mut(&seq) else { return };
        if job.input.as_mut().is_some_and(|pipe| pipe.pour() != Poured::Open) {
            job.input = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use super::*;

    #[test]
    fn a_pipe_takes_what_fits_and_the_rest_later_and_ends_behind_it() -> io::Result<()> {
        let (mut reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&writer, true)?;
        let mut pipe = Pipe::new(writer.into());
        // More than the pipe takes, and as much as may wait.
        assert!(pipe.has_room_for(MAX_INPUT) && !pipe.has_room_for(MAX_INPUT + 1));
        for _ in 0..2 {
            pipe.waiting.extend(vec![b'x'; MAX_INPUT]);
            assert_eq!(pipe.pour(), Poured::Open);
        }
        assert!(pipe.has_more() && !pipe.has_room_for(MAX_INPUT));
        pipe.ends = true;
        let mut read = vec![0; 2 * MAX_INPUT];
        let mut got = 0;
        while pipe.pour() == Poured::Open {
            got += reader.read(read.get_mut(got..).unwrap_or_default())?;
        }
        assert!(!pipe.has_more());
        drop(pipe);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest)?;
        assert_eq!(got + rest.len(), 2 * MAX_INPUT);
        Ok(())
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_broken() -> io::Result<()> {
        let (reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&writer, true)?;
        drop(reader);
        let mut pipe = Pipe::new(writer.into());
        assert_eq!(pipe.pour(), Poured::Open);
        pipe.waiting.push_back(b'x');
        // Test programs do not get SIGPIPE, as the keeper does not.
        assert_eq!(pipe.pour(), Poured::Broken);
        Ok(())
    }
}
