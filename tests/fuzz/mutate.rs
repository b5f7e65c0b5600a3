//! Inputs from inputs: the same ones in every run, from a generator with a fixed seed.

/// xorshift64*: enough to choose by, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }
}

/// Bytes that parsers treat in a way of their own.
const INTERESTING: &[u8] = b"\0\t\n\r \"%&+,-./0129:;=?@AFGZ[\\]_afgz{}\x7f\x80\xc0\xe2\xff";

pub(crate) struct Mutator<'a> {
    seeds: &'a [&'a [u8]],
    random: Random,
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(seeds: &'a [&'a [u8]]) -> Mutator<'a> {
        Mutator { seeds, random: Random(0x9e37_79b9_7f4a_7c15) }
    }

    pub(crate) fn next_input(&mut self, bytes_max: usize) -> Vec<u8> {
        let mut input = self.seed().to_vec();
        for _ in 0..=self.random.below(6) {
            self.change(&mut input);
        }
        input.truncate(bytes_max);
        input
    }

    fn seed(&mut self) -> &'a [u8] {
        self.seeds[self.random.below(self.seeds.len())]
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.random.below(input.len() + 1);
        let end = (at + 1 + self.random.below(16)).min(input.len());
        match self.random.below(7) {
            0 => input.insert(at, INTERESTING[self.random.below(INTERESTING.len())]),
            1 if at < input.len() => input[at] = INTERESTING[self.random.below(INTERESTING.len())],
            2 if at < input.len() => input[at] ^= 1 << self.random.below(8),
            3 if at < end => drop(input.drain(at..end)),
            4 if at < end => {
                let piece = input[at..end].to_vec();
                for _ in 0..=self.random.below(40) {
                    input.splice(at..at, piece.iter().copied());
                }
            }
            5 => {
                let other = self.seed();
                let from = self.random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => input.truncate(at),
        }
    }
}
