//! What do many measurements say in a few numbers?

use std::time::Duration;

/// In how many parts a series is cut to show how much a ratio varies within one run.
const PARTS: usize = 5;

/// Measurements in the order in which they were made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples {
    values: Vec<f64>,
}

/// The nearest-rank percentiles of a series, in its unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    /// How many measurements.
    pub(crate) count: usize,
    /// Half are at most this.
    pub(crate) p50: f64,
    /// 95 of 100 are at most this.
    pub(crate) p95: f64,
    /// 99 of 100 are at most this.
    pub(crate) p99: f64,
    /// The largest.
    pub(crate) max: f64,
    /// The sum over the count.
    pub(crate) mean: f64,
}

/// Ours over the floor: of the medians, and the smallest and largest over the parts of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratio {
    /// Of the medians of the whole run.
    pub(crate) whole: f64,
    /// The smallest of a part.
    pub(crate) low: f64,
    /// The largest of a part.
    pub(crate) high: f64,
}

impl Samples {
    /// Takes a time, in milliseconds.
    pub(crate) fn push_ms(&mut self, time: Duration) {
        self.push(time.as_secs_f64() * 1e3);
    }

    /// Takes a value in the series' unit.
    pub(crate) fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Takes all of another series, after what is here.
    pub(crate) fn append(&mut self, other: Samples) {
        self.values.extend(other.values);
    }

    /// `None` where nothing was measured.
    pub(crate) fn spread(&self) -> Option<Spread> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).max(1) - 1).copied();
        let mean = sorted.iter().sum::<f64>() / sorted.len().max(1) as f64;
        Some(Spread { count: sorted.len(), p50: rank(50)?, p95: rank(95)?, p99: rank(99)?, max: *sorted.last()?, mean })
    }

    /// How this series relates to its floor. `None` where one of them is empty.
    pub(crate) fn ratio(&self, floor: &Samples) -> Option<Ratio> {
        let whole = self.median()? / floor.median()?;
        let pairs = self.parts().zip(floor.parts());
        let parts: Vec<f64> = pairs.filter_map(|(ours, floor)| Some(ours.median()? / floor.median()?)).collect();
        let low = parts.iter().copied().fold(whole, f64::min);
        let high = parts.iter().copied().fold(whole, f64::max);
        Some(Ratio { whole, low, high })
    }

    fn median(&self) -> Option<f64> {
        self.spread().map(|spread| spread.p50)
    }

    fn parts(&self) -> impl Iterator<Item = Samples> {
        let length = self.values.len().div_ceil(PARTS).max(1);
        self.values.chunks(length).map(|part| Samples { values: part.to_vec() })
    }
}

impl Spread {
    /// A single value, where a percentile has no meaning.
    pub(crate) fn single(value: f64) -> Spread {
        Spread { count: 1, p50: value, p95: value, p99: value, max: value, mean: value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: impl IntoIterator<Item = u32>) -> Samples {
        Samples { values: values.into_iter().map(f64::from).collect() }
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let spread = series((1..=100).rev()).spread().unwrap();
        assert_eq!((spread.p50, spread.p95, spread.p99, spread.max), (50.0, 95.0, 99.0, 100.0));
        assert_eq!(spread.mean, 50.5);
        let one = series([7]).spread().unwrap();
        assert_eq!((one.count, one.p50, one.p99), (1, 7.0, 7.0));
        assert!(series([]).spread().is_none());
    }

    #[test]
    fn a_ratio_shows_its_extremes() {
        let ratio = series([2, 2, 2, 4, 1]).ratio(&series([1; 5])).unwrap();
        assert_eq!((ratio.whole, ratio.low, ratio.high), (2.0, 1.0, 4.0));
        assert!(series([]).ratio(&series([1])).is_none());
    }
}
