//! The detector's only source of chance: SplitMix64 (Steele, Lea, Flood, *Fast splittable pseudorandom number
//! generators*, 2014), from the random bits of the node's life.

use std::convert::Infallible;

use rand_core::TryRng;

/// A stream of random numbers; the same seed gives the same stream.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// The stream of a seed.
    pub fn new(seed: u128) -> Chance {
        Chance((seed >> 64) as u64 ^ (seed as u64).rotate_left(32))
    }

    /// Another stream.
    pub fn split(&mut self) -> Chance {
        Chance(self.bits())
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.bits() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.bits())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.bits().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}
