//! Between a histogram and what a report holds of it.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

use crate::result::Latency;

/// Why the histogram of a report cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not hexadecimal digits.
    #[error("the histogram is not in hexadecimal digits")]
    Digits(#[from] hex::FromHexError),
    /// Not HdrHistogram's V2 encoding.
    #[error("the histogram is not in HdrHistogram's V2 encoding: {0:?}")]
    Encoding(hdrhistogram::serialization::DeserializeError),
}

impl Latency {
    /// Of nanoseconds.
    ///
    /// # Panics
    ///
    /// If the histogram holds more than its encoding can (2^63 values, or gigabytes of counts).
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(histogram, &mut bytes)
            .expect("a vector takes what is written, and no count is beyond 2^63");
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: histogram.max(),
            count: histogram.len(),
            hdr: hex::encode(bytes),
        }
    }

    /// The whole of it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if [`hdr`](Self::hdr) is not what [`of`](Self::of) wrote.
    pub fn histogram(&self) -> Result<Histogram<u64>, DecodeError> {
        let bytes = hex::decode(&self.hdr)?;
        Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(DecodeError::Encoding)
    }
}
