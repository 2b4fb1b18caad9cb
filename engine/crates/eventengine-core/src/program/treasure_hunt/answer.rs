//! The one record that answers an event.
//!
//! Owns its form, and the rendered leaders of the districts that were answered about last. The leaders of a district
//! change far less often than they are told: their text is kept beside the places that it was made of, and used again
//! only while it would come out the same. So it holds no state that could be wrong, lost or in need of a rollback.

use super::slots::{District, Place, Progress};
use super::{Move, Origin, Output};

/// Teams that an output names as leaders.
const LEADERS: usize = 5;

/// Districts whose leaders are kept rendered. Two that share a place render in turns.
const REMEMBERED: usize = 128;

/// Bytes that the leaders' text has at most: five objects of 38 bytes and what lies between them, in whole words.
const TEXT_BYTES: usize = 200;

/// Rendered leaders.
#[derive(Debug, Clone)]
pub(super) struct Leaders(Box<[Rendered]>);

#[derive(Debug, Clone, Copy)]
struct Rendered {
    places: [Place; LEADERS],
    length: usize,
    text: [u8; TEXT_BYTES],
}

const NOBODY: Rendered =
    Rendered { places: [Place { team: 0, score: 0 }; LEADERS], length: 0, text: [0; TEXT_BYTES] };

impl Default for Leaders {
    fn default() -> Leaders {
        Leaders(vec![NOBODY; REMEMBERED].into_boxed_slice())
    }
}

impl Leaders {
    /// Writes the objects of the leaders, with commas between them.
    #[inline]
    fn write(&mut self, output: &mut Output<'_>, place: usize, standings: &District<'_>) {
        let rendered = &mut self.0[place % REMEMBERED];
        let places: [Place; LEADERS] = std::array::from_fn(|place| standings.place(place));
        if rendered.places != places {
            rendered.render(places);
        }
        output.padded(&rendered.text, rendered.length);
    }
}

impl Rendered {
    #[cold]
    fn render(&mut self, places: [Place; LEADERS]) {
        let mut output = Output::new(&mut self.text);
        for (index, place) in places.iter().take_while(|place| place.score > 0).enumerate() {
            if index > 0 {
                output.text(",");
            }
            output.text("{\"team\":");
            output.number(u64::from(place.team));
            output.text(",\"score\":");
            output.number(u64::from(place.score));
            output.text("}");
        }
        self.length = output.len();
        self.places = places;
    }
}

/// Writes the record.
pub(super) fn write(
    output: &mut Output<'_>,
    event: &Move,
    origin: Origin,
    progress: Progress,
    standings: &District<'_>,
    leaders: &mut Leaders,
) {
    let rank = standings.rank(event.team);
    output.with_own(|output| write_fields(output, event, progress, rank));
    // Partitions have standings of their own: each has its own places, as far as they go.
    let place = event.district.wrapping_add(origin.partition.wrapping_mul(37));
    output.with_own(|output| {
        leaders.write(output, place as usize, standings);
        output.text("],\"version\":{\"partition\":");
        output.number(u64::from(origin.partition));
        output.text(",\"offset\":");
        output.number(origin.offset.unsigned_abs());
        output.text("}}");
    });
}

#[inline(always)]
fn write_fields(output: &mut Output<'_>, event: &Move, progress: Progress, rank: Option<usize>) {
    // Each text is a constant where it is written, so that it is stored and not copied.
    output.text("{\"producer\":");
    output.number(u64::from(event.producer));
    output.text(",\"sequence\":");
    output.number(event.sequence);
    output.text(",\"kind\":\"");
    let (kind, length) = event.kind.padded();
    output.padded(kind, length);
    output.text("\",\"district\":");
    output.number(u64::from(event.district));
    output.text(",\"team\":");
    output.number(u64::from(event.team));
    output.text(",\"score\":");
    output.number(u64::from(progress.score));
    output.text(",\"solved\":");
    output.number(u64::from(progress.solved));
    output.text(",\"clues\":");
    output.number(u64::from(progress.clues));
    output.text(",\"rank\":");
    match rank {
        Some(rank) => output.number(rank as u64 + 1),
        None => output.text("null"),
    }
    output.text(",\"leaders\":[");
}
