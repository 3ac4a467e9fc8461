//! One core's way to one disk.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, TrySendError};

use crate::container::Unfit;
use crate::segment::arena::Block;
use crate::segment::health::DiskHealth;
use crate::units::MonoTime;

use super::command::DiskCommand;

/// One core's way to one disk.
pub(super) struct DiskLink {
    pub(super) to_disk: Sender<DiskCommand>,
    pub(super) health: Arc<DiskHealth>,
    /// What the full channel did not take; drained at every tick. Bounded by the arena's blocks and a few commands for each open file.
    pub(super) outbox: VecDeque<DiskCommand>,
    pub(super) returned: Receiver<Block>,
    pub(super) give_back: Sender<Block>,
    /// Bytes of the blocks that its files hold, on the core or on their way to the disk.
    pub(super) held_bytes: usize,
}

impl DiskLink {
    pub(super) fn send(&mut self, command: DiskCommand) {
        // Order matters: nothing overtakes what waits.
        if self.outbox.is_empty() {
            match self.to_disk.try_send(command) {
                Ok(()) => {}
                Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => self.outbox.push_back(command),
            }
        } else {
            self.outbox.push_back(command);
        }
    }

    pub(super) fn send_waiting(&mut self) {
        while let Some(command) = self.outbox.pop_front() {
            match self.to_disk.try_send(command) {
                Ok(()) => {}
                Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => {
                    self.outbox.push_front(command);
                    break;
                }
            }
        }
    }

    pub(super) fn what_is_wrong(&self, now: MonoTime) -> Option<Unfit> {
        match () {
            () if self.health.is_full() => Some(Unfit::Full),
            () if self.health.is_missing() || self.health.is_failing() => Some(Unfit::Failing),
            () if self.health.is_stalled(now) => Some(Unfit::Stalled),
            () => None,
        }
    }
}
