//! Random numbers that a seed repeats exactly.

/// xorshift64*: the same numbers for the same seed, always.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    /// One of `these`.
    pub fn pick<T: Copy, const COUNT: usize>(&mut self, these: [T; COUNT]) -> T {
        these[self.below(COUNT as u64) as usize]
    }

    /// From 0 to below one of `ends`.
    pub fn up_to<const COUNT: usize>(&mut self, ends: [u64; COUNT]) -> u64 {
        let end = self.pick(ends);
        self.below(end)
    }
}
