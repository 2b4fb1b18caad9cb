//! A program for the simulation, and the plain model that it is compared with.
//!
//! An entry adds an amount to an account and to the partition's total. One that fails
//! half-way has changed the account already and rolls back.

use std::collections::BTreeMap;

use eventengine_core::arena::{Arena, Key};
use eventengine_core::parse::{Payload, Reason, Refusal};
use eventengine_core::program::{Origin, Output, Program, Routing, Schema};

/// An entry that is applied.
pub const SOUND: u8 = 0;
/// An entry that fails after its first change.
pub const FAILS_HALFWAY: u8 = 1;
/// An entry that the schema refuses.
pub const UNREADABLE: u8 = 2;

/// Before-images that the undo log needs for one entry.
pub const UNDO_IMAGES: u32 = 2;

const KIND_ACCOUNT: u32 = 1;
const KIND_TOTAL: u32 = 2;
const ENTRY_BYTES: usize = 9;

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub account: u32,
    pub amount: u32,
    pub fault: u8,
}

impl Entry {
    /// The event's payload.
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = self.account.to_le_bytes().to_vec();
        payload.extend(self.amount.to_le_bytes());
        if self.fault != UNREADABLE {
            payload.push(self.fault);
        }
        payload
    }
}

/// Reads entries.
#[derive(Debug, Clone, Copy)]
pub struct EntrySchema;

impl Schema for EntrySchema {
    type Event<'payload> = &'payload [u8; ENTRY_BYTES];

    fn read<'payload>(&mut self, payload: Payload<'payload>) -> Result<&'payload [u8; ENTRY_BYTES], Refusal> {
        payload.bytes().try_into().map_err(|_| Refusal::new(Reason::InvalidJson, payload.len()))
    }
}

/// Applies entries.
#[derive(Debug, Clone, Copy)]
pub struct Ledger;

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn add(arena: &mut Arena, key: Key, amount: u32) -> Result<u64, Reason> {
    let slot = match arena.find(&key) {
        Some(slot) => slot,
        None => arena.acquire(key).map_err(|_| Reason::ArenaExhausted)?,
    };
    let sum =
        u64::from_le_bytes(arena.payload(slot)[..8].try_into().expect("eight bytes")) + u64::from(amount);
    arena.payload_mut(slot)[..8].copy_from_slice(&sum.to_le_bytes());
    Ok(sum)
}

impl Program<&[u8; ENTRY_BYTES]> for Ledger {
    const SLOTS_PER_EVENT_MAX: usize = 2;

    fn routing(&self, event: &&[u8; ENTRY_BYTES]) -> Routing {
        Routing { district: number(&event[..4]), team: 0 }
    }

    fn apply(
        &mut self,
        event: &&[u8; ENTRY_BYTES],
        origin: Origin,
        arena: &mut Arena,
        output: &mut Output<'_>,
    ) -> Result<(), Reason> {
        let (account, amount) = (number(&event[..4]), number(&event[4..8]));
        let key = Key { partition: origin.partition, kind: KIND_ACCOUNT, district: account, team: 0 };
        let before = arena.checkpoint();
        let balance = add(arena, key, amount)?;
        if event[8] == FAILS_HALFWAY {
            arena.rollback(before).expect("the checkpoint of this very event is kept");
            return Err(Reason::OutOfRange);
        }
        let total = add(arena, Key { kind: KIND_TOTAL, district: 0, ..key }, amount)?;
        for field in [u64::from(account), balance, total] {
            output.number(field);
            output.text(" ");
        }
        Ok(())
    }
}

/// One partition's state and outputs as they have to be.
#[derive(Debug, Default)]
pub struct Model {
    pub accounts: BTreeMap<u32, u64>,
    pub total: u64,
}

impl Model {
    /// The bytes that answer an entry: its output, or its payload as a dead letter.
    pub fn apply(&mut self, entry: &Entry) -> Vec<u8> {
        if entry.fault != SOUND {
            return entry.payload();
        }
        let balance = self.accounts.entry(entry.account).or_default();
        *balance += u64::from(entry.amount);
        self.total += u64::from(entry.amount);
        format!("{} {balance} {} ", entry.account, self.total).into_bytes()
    }

    /// What the changelog has to hold: account or total, by key.
    pub fn image(&self) -> BTreeMap<(u32, u32), u64> {
        let accounts = self.accounts.iter().map(|(account, balance)| ((KIND_ACCOUNT, *account), *balance));
        let total = (self.total > 0 || !self.accounts.is_empty()).then_some(((KIND_TOTAL, 0), self.total));
        accounts.chain(total).collect()
    }
}
