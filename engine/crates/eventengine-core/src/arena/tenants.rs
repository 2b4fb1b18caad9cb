//! Tenants: who may hold how many slots.
//!
//! Each tenant has a reserve that nobody else can use, and may burst beyond it from the
//! common pool, which is what the reserves leave over. So one tenant's spike ends at its
//! own bound and never takes what another was promised.

/// Tenants that an arena can tell apart.
pub const TENANTS_MAX: usize = 256;

/// What one tenant may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Slots that are the tenant's alone.
    pub reserved: u32,
    /// Slots that it may take from the common pool besides.
    pub burst: u32,
}

/// Why there is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// Nothing is left of the common pool.
    Arena,
    /// The tenant holds its reserve and its whole burst; others go on.
    Tenant,
    /// The partition is none that the arena was made for.
    UnknownPartition,
}

/// The quotas ask for more slots than there are, or for more tenants than can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overcommitted {
    /// Sum of all reserves.
    pub reserved: u64,
    /// Slots of the arena.
    pub capacity: u32,
}

pub(super) struct Tenants {
    quotas: Box<[Quota]>,
    in_use: Box<[u32]>,
    common: u32,
    common_in_use: u32,
}

impl Tenants {
    /// One tenant that may use everything.
    pub(super) fn one(capacity: u32) -> Tenants {
        Tenants {
            quotas: Box::new([Quota { reserved: 0, burst: u32::MAX }]),
            in_use: Box::new([0]),
            common: capacity,
            common_in_use: 0,
        }
    }

    pub(super) fn new(capacity: u32, quotas: &[Quota]) -> Result<Tenants, Overcommitted> {
        let reserved = quotas.iter().map(|quota| u64::from(quota.reserved)).sum();
        if reserved > u64::from(capacity) || quotas.is_empty() || quotas.len() > TENANTS_MAX {
            return Err(Overcommitted { reserved, capacity });
        }
        Ok(Tenants {
            quotas: quotas.into(),
            in_use: vec![0; quotas.len()].into_boxed_slice(),
            common: capacity - reserved as u32,
            common_in_use: 0,
        })
    }

    pub(super) fn count(&self) -> usize {
        self.quotas.len()
    }

    pub(super) fn in_use(&self, tenant: u8) -> u32 {
        self.in_use.get(usize::from(tenant)).copied().unwrap_or(0)
    }

    /// Whether a tenant may take so many slots more.
    pub(super) fn room(&self, tenant: u8, slots: u32) -> Result<(), Exhausted> {
        let (quota, in_use) = (self.quotas[usize::from(tenant)], self.in_use[usize::from(tenant)]);
        let wanted = (in_use + slots).saturating_sub(quota.reserved);
        let more = wanted - in_use.saturating_sub(quota.reserved);
        if more > 0 && wanted > quota.burst {
            Err(Exhausted::Tenant)
        } else if more > self.common.saturating_sub(self.common_in_use) {
            Err(Exhausted::Arena)
        } else {
            Ok(())
        }
    }

    /// Counts a slot in. Whether it may be taken was asked before, or it is put back by a rollback.
    pub(super) fn take(&mut self, tenant: u8) {
        let in_use = &mut self.in_use[usize::from(tenant)];
        *in_use += 1;
        self.common_in_use += u32::from(*in_use > self.quotas[usize::from(tenant)].reserved);
    }

    /// Counts a slot out.
    pub(super) fn give(&mut self, tenant: u8) {
        let in_use = &mut self.in_use[usize::from(tenant)];
        self.common_in_use -= u32::from(*in_use > self.quotas[usize::from(tenant)].reserved);
        *in_use -= 1;
    }
}
