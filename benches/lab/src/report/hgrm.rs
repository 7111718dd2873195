//! Percentiles as text, as HdrHistogram's plotter and its kin read them (`.hgrm`).
//!
//! One file for each row that has latencies. Values are nanoseconds; where others print
//! microseconds, they divide first.

use std::fmt::Write as _;

use crate::latency::DecodeError;
use crate::result::Latency;

use super::figures::number;

/// Lines for each halving of the distance to 100 per cent: what the Java library prints by default.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// The text of a file.
///
/// # Errors
///
/// [`DecodeError`], if the report's histogram cannot be read.
pub fn render(latency: &Latency) -> Result<String, DecodeError> {
    let histogram = latency.histogram()?;
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        let value = number(step.value_iterated_to());
        let quantile = step.quantile_iterated_to();
        let count = histogram.count_between(0, step.value_iterated_to());
        let _ = write!(text, "{value:12.3} {quantile:1.12} {count:10}");
        // The last one has no inverse; readers know it by that.
        if quantile < 1.0 {
            let _ = write!(text, " {:14.2}", (1.0 - quantile).recip());
        }
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n\
         #[Max     = {:12.3}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]",
        histogram.mean(),
        histogram.stdev(),
        number(histogram.max()),
        histogram.len(),
        histogram.buckets(),
        sub_buckets(histogram.sigfig()),
    );
    Ok(text)
}

/// The least power of two that keeps `digits` digits apart over an octave.
fn sub_buckets(digits: u8) -> u64 {
    (2 * 10_u64.pow(u32::from(digits))).next_power_of_two()
}
