//! A payload with sentinels behind it, so that a parser may load whole words without asking where it ends.
//!
//! Owns the promise that [`PADDING`] zero bytes follow the payload. Zero ends every token
//! of JSON: a scan stops there by itself, and stands then at the payload's length or, if
//! the zero was the payload's own, before it.

use std::marker::PhantomData;
use std::ptr::NonNull;

/// Zero bytes that follow a payload: no token's load reaches further than this behind its first zero.
pub const PADDING: usize = 64;

/// The bytes of one event, followed by [`PADDING`] zero bytes.
///
/// Two words, so that it is handed on in registers. In memory, what was written in pieces is read as a whole only after
/// the CPU has stored everything before it: also the payload, whose lines may still come from another core.
#[derive(Debug, Clone, Copy)]
pub struct Payload<'a> {
    start: NonNull<u8>,
    /// Bytes of the payload, and the source in the lowest [`SOURCE_BITS`].
    length_and_source: usize,
    bytes: PhantomData<&'a [u8]>,
}

const _: () = assert!(size_of::<Payload>() == 2 * size_of::<usize>());

const SOURCE_BITS: u32 = u8::BITS;
const SOURCE_MASK: usize = u8::MAX as usize;

impl<'a> Payload<'a> {
    /// Puts the sentinels into the buffer that the payload lies at the start of; the buffer's bytes behind the
    /// payload are lost. `None` if there is no room for them.
    #[inline]
    pub fn seal(buffer: &'a mut [u8], length: usize) -> Option<Payload<'a>> {
        let padded = buffer.get_mut(..length.checked_add(PADDING)?)?;
        // As an array, it is stored by a few instructions.
        *padded[length..].first_chunk_mut::<PADDING>()? = [0; PADDING];
        if length > usize::MAX >> SOURCE_BITS {
            return None;
        }
        let length_and_source = length << SOURCE_BITS;
        Some(Payload { start: NonNull::from(padded).cast(), length_and_source, bytes: PhantomData })
    }

    /// Copies a payload into a scratch buffer and seals it there. `None` if it doesn't fit.
    pub fn copy(bytes: &[u8], scratch: &'a mut [u8]) -> Option<Payload<'a>> {
        scratch.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Payload::seal(scratch, bytes.len())
    }

    /// The payload as one of a source, by its position among the sources; the first one's where nobody says.
    #[inline]
    pub fn from_source(self, source: u8) -> Payload<'a> {
        Payload { length_and_source: self.length_and_source & !SOURCE_MASK | usize::from(source), ..self }
    }

    /// The source that it came by.
    #[inline]
    pub fn source(&self) -> u8 {
        (self.length_and_source & SOURCE_MASK) as u8
    }

    /// The payload itself.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        // SAFETY: `seal` had so many bytes from there on, borrowed for as long.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len()) }
    }

    /// Bytes of the payload.
    #[inline]
    pub fn len(&self) -> usize {
        self.length_and_source >> SOURCE_BITS
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first byte; [`PADDING`] zero bytes follow the last.
    #[inline]
    pub(super) fn start(&self) -> *const u8 {
        self.start.as_ptr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lay_behind_a_payload_is_gone() {
        let mut buffer = [b'x'; 100];
        let payload = Payload::seal(&mut buffer, 30).unwrap();
        assert_eq!((payload.bytes(), payload.len()), (&[b'x'; 30][..], 30));
        assert_eq!(&buffer[30..94], [0; PADDING]);
        assert_eq!(&buffer[94..], [b'x'; 6]);
    }

    #[test]
    fn a_buffer_without_room_for_the_sentinels_is_no_payload() {
        assert!(Payload::seal(&mut [0; 100], 37).is_none());
        assert!(Payload::copy(b"{}", &mut [0; 64]).is_none());
        assert!(Payload::copy(b"{}", &mut [0; 66]).is_some());
    }
}
