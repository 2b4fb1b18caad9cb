//! Nothing beyond a payload and its sentinels is looked at: they fill a place between two pages that nobody may touch.
//!
//! Vectors load whole lanes, so a wrong bound reads a few bytes too far, which no other test would notice. Here such
//! a read ends the program. Payloads of every length near the lanes' sizes end where the readable page ends, or begin
//! where it begins, on all levels, by walks that were trained and by walks that were not.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[expect(dead_code, reason = "other tests use the rest")]
mod differential;

use std::ffi::{c_int, c_void};

use differential::{LIMITS, parse, parsers, read};
use eventengine_core::parse::*;

// The core has no dependency, and its tests need none for three calls that the standard library is linked with.
unsafe extern "C" {
    fn mmap(
        at: *mut c_void,
        length: usize,
        may: c_int,
        flags: c_int,
        file: c_int,
        offset: i64,
    ) -> *mut c_void;
    fn mprotect(at: *mut c_void, length: usize, may: c_int) -> c_int;
    fn munmap(at: *mut c_void, length: usize) -> c_int;
}

const NOTHING: c_int = 0;
const READ_AND_WRITE: c_int = 1 | 2;
const PRIVATE_AND_ANONYMOUS: c_int = 0x02 | 0x20;

/// As long as a page is on any machine that the tests run on, or a multiple of it.
const PAGE: usize = 65_536;

/// One readable page between two that are not.
struct Guarded(*mut u8);

impl Guarded {
    fn new() -> Guarded {
        // SAFETY: a new mapping, of which the middle is made accessible.
        unsafe {
            let pages = mmap(std::ptr::null_mut(), 3 * PAGE, NOTHING, PRIVATE_AND_ANONYMOUS, -1, 0);
            assert!(pages.addr() != usize::MAX, "{}", std::io::Error::last_os_error());
            let page = pages.byte_add(PAGE);
            assert_eq!(mprotect(page, PAGE, READ_AND_WRITE), 0, "{}", std::io::Error::last_os_error());
            Guarded(page.cast())
        }
    }

    /// The last bytes of the page.
    fn end(&mut self, length: usize) -> &mut [u8] {
        assert!(length <= PAGE);
        // SAFETY: they lie within the page, which is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(PAGE - length), length) }
    }

    /// The first bytes of the page.
    fn begin(&mut self, length: usize) -> &mut [u8] {
        assert!(length <= PAGE);
        // SAFETY: they lie within the page, which is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.0, length) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's, and nobody borrows it any more.
        unsafe { munmap(self.0.sub(PAGE).cast(), 3 * PAGE) };
    }
}

/// Reads a payload that fills the page's end, then one that fills its begin, sentinels included.
fn judge(page: &mut Guarded, parsers: &mut [Parser], payload: &[u8]) {
    let expected = parse(payload);
    for parser in parsers {
        let level = parser.instructions();
        let shown = String::from_utf8_lossy(payload);
        let place = page.end(payload.len() + PADDING);
        assert_eq!(
            parser.parse(Payload::copy(payload, place).unwrap()).map(read),
            expected,
            "{level:?}: {shown}"
        );
        let place = page.begin(payload.len() + PADDING);
        assert_eq!(
            parser.parse(Payload::copy(payload, place).unwrap()).map(read),
            expected,
            "{level:?}: {shown}"
        );
    }
}

/// Events that are alike, twice as long as any lane, and end in each kind of value.
fn events() -> Vec<String> {
    let head =
        r#"{"kind":"team_solved","producer":1,"sequence":100000000007,"level":3,"delta":-12,"x":1234.567"#;
    let point = r#"{"id":7,"at":100000000007,"value":-1.5,"mark":2,"sensor":"s-1","state":"team_solved"}"#;
    vec![
        format!("{head},\"on\":true}}"),
        format!("{head},\"team\":1234567890}}"),
        format!("{head},\"y\":1234.5678}}"),
        format!(r#"{head},"note":"a \"b\" \u00e9 é \ud83d\ude00 {}"}}"#, r"\n é".repeat(30)),
        format!("{head},\"points\":[{point},{point}]}}"),
        format!(r#"{{"note":"{}"}}"#, "x".repeat(200)),
    ]
}

#[test]
fn a_payload_is_read_up_to_its_sentinels_wherever_it_is_cut_off() {
    let mut page = Guarded::new();
    for event in events() {
        let mut trained = parsers();
        for length in 0..=event.len() {
            // Learned anew, as what is cut off is like nothing before.
            for _ in 0..3 {
                judge(&mut page, &mut trained, event.as_bytes());
            }
            judge(&mut page, &mut trained, &event.as_bytes()[..length]);
            judge(&mut page, &mut parsers(), &event.as_bytes()[..length]);
        }
    }
}

#[test]
fn whole_events_of_every_length_near_the_lanes_sizes_are_read_up_to_their_sentinels() {
    let mut page = Guarded::new();
    let head = r#"{"kind":"team_solved","producer":1,"sequence":100000000007,"level":3,"x":-2.5,"note":""#;
    let mut trained = parsers();
    let ends = [128, 192, 256, 512, 1_024, 4_096, 8_192].into_iter().flat_map(|size| size - 34..size + 35);
    for length in ends {
        for filling in ["x", r"\n", r"\u00e9", "é"] {
            let room = length - head.len() - 2;
            let mut note = filling.repeat(room / filling.len());
            note += &"x".repeat(room % filling.len());
            judge(&mut page, &mut trained, format!("{head}{note}\"}}").as_bytes());
        }
    }
}

#[test]
fn bytes_without_sentinels_are_read_up_to_their_end() {
    let mut page = Guarded::new();
    let mut parser = parsers().remove(0);
    let mut trees = TreeParser::new(LIMITS, TREE_NODES_MAX);
    for event in events() {
        for length in 0..=event.len() {
            let payload = &event.as_bytes()[..length];
            let place = page.end(length);
            place.copy_from_slice(payload);
            assert_eq!(parser.parse_carefully(place).map(read), parse(payload));
            assert_eq!(trees.parse(place).is_ok(), parse(payload).is_ok());
        }
    }
}

#[test]
fn a_string_at_the_end_of_a_page_is_unescaped_into_a_scratch_that_ends_with_one() {
    let (mut page, mut room) = (Guarded::new(), Guarded::new());
    let mut trees = TreeParser::new(LIMITS, TREE_NODES_MAX);
    for length in 0..300 {
        for escape in [r"\n", r"\u00e9", r"\ud83d\ude00", "é"] {
            let text = format!("\"{}{escape}{}\"", "x".repeat(length / 2), escape.repeat(length / 8));
            let expected: String = serde_json::from_str(&text).unwrap();
            let place = page.end(text.len());
            place.copy_from_slice(text.as_bytes());
            let string = trees.parse(place).unwrap().root().string().unwrap();
            assert_eq!(string.unescape(room.end(string.bytes().len())), Some(expected.as_str()));
            if string.is_escaped() {
                assert_eq!(string.unescape(room.end(expected.len())), Some(expected.as_str()));
                assert_eq!(string.unescape(room.begin(expected.len() - 1)), None);
            }
        }
    }
}
