//! The levels of vector instructions by name, for who picks one at run time.

/// What a parser may use of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// Words of 64 bits, on any machine.
    Scalar,
    /// Vectors of 16 bytes.
    Sse2,
    /// Vectors of 32 bytes.
    Avx2,
    /// Vectors of 64 bytes, that can be packed.
    Avx512,
}

impl Instructions {
    /// All of them; not all are on every machine.
    pub const ALL: [Instructions; 4] =
        [Instructions::Scalar, Instructions::Sse2, Instructions::Avx2, Instructions::Avx512];

    /// The best that this machine has.
    pub fn detect() -> Instructions {
        #[cfg(target_arch = "x86_64")]
        {
            let wide = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt");
            let wider = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vbmi2");
            match (wide, wider) {
                (true, true) => Instructions::Avx512,
                (true, false) => Instructions::Avx2,
                (false, _) => Instructions::Sse2,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Instructions::Scalar
    }

    /// Whether this machine has them.
    pub fn are_there(self) -> bool {
        match self {
            Instructions::Scalar => true,
            Instructions::Sse2 => cfg!(target_arch = "x86_64"),
            Instructions::Avx2 => matches!(Instructions::detect(), Instructions::Avx2 | Instructions::Avx512),
            Instructions::Avx512 => Instructions::detect() == Instructions::Avx512,
        }
    }
}
