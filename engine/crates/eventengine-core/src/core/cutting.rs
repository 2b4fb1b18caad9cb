//! The core's side of a cut: positions and after-images at one boundary between two events.

use std::sync::atomic::Ordering;

use super::{Core, DIRECT_BASE};
use crate::arena::Change;
use crate::changelog::{VALUE_BYTES_MAX, encode_key, encode_value};
use crate::cut::Position;
use crate::executor::{EventOf, Executor};
use crate::program::Program;
use crate::ring::{Descriptor, Kind};

impl<X: Executor, P: for<'payload> Program<EventOf<'payload, X>>> Core<X, P> {
    /// Hands positions and after-images to the publisher, if it has given the buffer back.
    pub(super) fn try_cut(&mut self) -> bool {
        let Some(cut) = self.cut.buffer() else { return false };
        if self.publish.free(1) == 0 {
            return false;
        }
        cut.clear();
        let mut value = [0; VALUE_BYTES_MAX];
        for change in self.arena.changes() {
            match change {
                Change::Image { key, version, payload } if key.partition < DIRECT_BASE => {
                    let length = encode_value(version, payload, &mut value);
                    cut.push(key.partition, &encode_key(&key), &value[..length]);
                }
                Change::Gone { key } if key.partition < DIRECT_BASE => {
                    cut.push(key.partition, &encode_key(&key), b"");
                }
                Change::Image { .. } | Change::Gone { .. } => {}
            }
        }
        for partition in self.moved.drain(..) {
            let state = &mut self.partitions[partition as usize];
            state.moved = false;
            cut.positions.push(Position { partition, offset: state.position });
        }
        cut.ticket = std::mem::take(&mut self.cut_ticket);
        self.arena.clear_dirty();
        self.stats.uncut.store(false, Ordering::Relaxed);
        self.stats.cuts.add(1);
        self.cut_requested.store(false, Ordering::Relaxed);
        self.cut.hand_over();
        let pushed = self.publish.push(Descriptor::new(Kind::Cut));
        assert!(pushed.is_ok(), "the publish ring had room");
        true
    }
}
