//! The connection of one flow to the outside, and the bytes between it and the flow's rings.

use crate::exit::{Advance, Stream, Watch};
use crate::flow::FlowId;
use crate::gateway::{ExitFault, Failure, Gateway, Outgoing};
use crate::time::Time;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// Bytes moved for one flow before the others get their turn.
pub(super) const BYTES_A_TURN: usize = 1 << 20;
/// Bytes asked of a socket in one read.
const CHUNK: usize = 256 << 10;

/// The connection of a flow to the outside.
pub(super) struct Upstream {
    pub(super) flow: FlowId,
    stream: Stream,
    /// Who looks after the exit that carries it.
    watch: Option<Arc<Watch>>,
    pub(super) connected: bool,
    readable: bool,
    writable: bool,
    /// The outside closed its writing half: a short read is not the end before it returned zero.
    closing: bool,
    done: bool,
    pub(super) shut: bool,
}

impl Upstream {
    pub(super) fn new(flow: FlowId, stream: Stream, watch: Option<Arc<Watch>>) -> Self {
        Self {
            flow,
            stream,
            watch,
            connected: false,
            readable: false,
            writable: false,
            closing: false,
            done: false,
            shut: false,
        }
    }

    /// Notes what the socket is ready for.
    pub(super) fn note(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable();
        self.writable |= event.is_writable();
        self.closing |= event.is_read_closed() || event.is_error();
    }

    /// Goes on towards the other end; true when it has just been reached.
    pub(super) fn advance(&mut self) -> Result<bool, Failure> {
        match self.stream.advance() {
            Ok(Advance::Waiting) => Ok(false),
            Ok(Advance::Ready(_)) => {
                // What the handshake left unread shows by no further event.
                (self.connected, self.readable, self.writable) = (true, true, true);
                Ok(true)
            }
            Err(failure) => {
                if let (Failure::Exit(ExitFault::Unreachable), Some(watch)) = (failure, &self.watch)
                {
                    watch.suspect();
                }
                Err(failure)
            }
        }
    }

    /// Bytes of the client may still be written.
    pub(super) fn takes_more(&self) -> bool {
        self.connected && !self.shut
    }

    /// Has the connection end with a RST.
    pub(super) fn reset(self) {
        self.stream.reset();
    }

    /// From the client to the outside; how many bytes.
    pub(super) fn push(&mut self, gateway: &mut Gateway, now: Time) -> usize {
        let mut moved = 0;
        if self.writable {
            match self.stream.flush() {
                Err(error) if is_temporary(&error) => self.writable = false,
                // What is broken shows by the next write or read, too.
                _ => {}
            }
        }
        while self.writable && moved < BYTES_A_TURN {
            let (stream, writable) = (&mut self.stream, &mut self.writable);
            let fills = stream.short_writes_fill();
            let mut broken = None;
            let outgoing = gateway.outgoing(self.flow, now, |bytes| match stream.write(bytes) {
                Ok(written) => {
                    *writable = written == bytes.len() || !fills;
                    written
                }
                Err(error) => {
                    *writable = false;
                    broken = (!is_temporary(&error)).then_some(error);
                    0
                }
            });
            if broken.is_some() {
                gateway.upstream_reset(self.flow, now);
                return moved;
            }
            match outgoing {
                Outgoing::Taken(taken) => moved += taken,
                Outgoing::Finished if !self.shut => {
                    self.shut = true;
                    // It fails only if the other end is gone, which the next read tells.
                    let _ = self.stream.finish();
                    break;
                }
                Outgoing::Empty | Outgoing::Finished | Outgoing::Gone => break,
            }
        }
        if moved > 0
            && let Some(watch) = &self.watch
        {
            watch.used();
        }
        moved
    }

    /// From the outside to the client; how many bytes. The last ones and the end go on together.
    pub(super) fn pull(&mut self, gateway: &mut Gateway, now: Time) -> usize {
        let mut moved = 0;
        while self.readable && !self.done && moved < BYTES_A_TURN {
            let put = self.pull_once(gateway, now);
            moved += put;
            if put == 0 || !self.closing {
                break;
            }
        }
        moved
    }

    fn pull_once(&mut self, gateway: &mut Gateway, now: Time) -> usize {
        let (stream, readable) = (&mut self.stream, &mut self.readable);
        let drains = stream.short_reads_drain() && !self.closing;
        let (mut ended, mut broken) = (false, false);
        let put = gateway.incoming(self.flow, now, |room| {
            let wanted = room.len().min(CHUNK);
            let Some(room) = room.get_mut(..wanted) else {
                return 0;
            };
            match stream.read(room) {
                Ok(0) => {
                    ended = true;
                    0
                }
                Ok(read) => {
                    // Edge-triggered: a short read means drained, unless the end is near and would be missed.
                    *readable = read == wanted || !drains;
                    read
                }
                Err(error) => {
                    *readable = false;
                    broken = !is_temporary(&error);
                    0
                }
            }
        });
        if ended {
            self.done = true;
            gateway.upstream_done(self.flow);
        } else if broken {
            gateway.upstream_reset(self.flow, now);
        }
        let put = put.unwrap_or(0);
        if put > 0
            && let Some(watch) = &self.watch
        {
            watch.used();
        }
        put
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
