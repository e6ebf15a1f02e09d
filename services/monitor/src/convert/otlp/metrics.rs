//! Points of metrics.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, DataPointFlags, ExponentialHistogramDataPoint, HistogramDataPoint, Metric,
        NumberDataPoint, exponential_histogram_data_point::Buckets, metric::Data, number_data_point::Value,
    },
};

use super::{pairs, source, text};
use crate::{
    observer::Refused,
    series::{
        distribution::Distribution,
        explicit::Explicit,
        exponential::{Exponential, Parts},
        point::{Labels, Point, Sample, Source, Temporality},
    },
};

/// Most buckets read of one histogram; SDKs send 160, the data model recommends no more.
const MOST_BUCKETS: usize = 1_024;

/// What one point of any kind brings beside its value.
struct Header<'a> {
    metric: &'a str,
    attributes: &'a [KeyValue],
    start: u64,
    time: u64,
    flags: u32,
}

/// Collects points and counts what cannot be read.
#[derive(Default)]
struct Reader {
    points: Vec<Point>,
    refused: Refused,
}

/// Returns the points of an export by the process that sent them, and how many could not be read.
pub(crate) fn points(request: ExportMetricsServiceRequest) -> (Vec<(Source, Vec<Point>)>, Refused) {
    let (mut sources, mut refused) = (Vec::new(), Refused::default());
    for resource in request.resource_metrics {
        let mut reader = Reader::default();
        for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
            reader.read(&metric);
        }
        refused.merge(&reader.refused);
        sources.push((source(resource.resource.as_ref()), reader.points));
    }
    (sources, refused)
}

impl Reader {
    fn read(&mut self, metric: &Metric) {
        let name = metric.name.as_str();
        match &metric.data {
            Some(Data::Gauge(gauge)) => {
                for point in &gauge.data_points {
                    self.take(number_header(name, point), number(point).map(Sample::Level));
                }
            }
            Some(Data::Sum(sum)) => {
                let temporality = temporality(sum.aggregation_temporality);
                for point in &sum.data_points {
                    let sample = number(point).and_then(|value| match (sum.is_monotonic, temporality?) {
                        (true, temporality) => (value >= 0.0).then_some(Sample::Count(value, temporality)),
                        (false, Temporality::Cumulative) => Some(Sample::Level(value)),
                        // What a sum that also falls has risen by says nothing without its beginning.
                        (false, Temporality::Delta) => None,
                    });
                    self.take(number_header(name, point), sample);
                }
            }
            Some(Data::Histogram(histogram)) => {
                let temporality = temporality(histogram.aggregation_temporality);
                for point in &histogram.data_points {
                    let header = Header {
                        metric: name,
                        attributes: &point.attributes,
                        start: point.start_time_unix_nano,
                        time: point.time_unix_nano,
                        flags: point.flags,
                    };
                    let sample = explicit(point).zip(temporality);
                    self.take(
                        header,
                        sample.map(|(value, temporality)| {
                            Sample::Distribution(Distribution::Explicit(value), temporality)
                        }),
                    );
                }
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                let temporality = temporality(histogram.aggregation_temporality);
                for point in &histogram.data_points {
                    let header = Header {
                        metric: name,
                        attributes: &point.attributes,
                        start: point.start_time_unix_nano,
                        time: point.time_unix_nano,
                        flags: point.flags,
                    };
                    let sample = exponential(point).zip(temporality);
                    self.take(
                        header,
                        sample.map(|(value, temporality)| {
                            Sample::Distribution(Distribution::Exponential(value), temporality)
                        }),
                    );
                }
            }
            Some(Data::Summary(summary)) => {
                self.refused
                    .add(summary.data_points.len() as u64, "a summary cannot be merged: send histograms");
            }
            None => {}
        }
    }

    fn take(&mut self, header: Header<'_>, sample: Option<Sample>) {
        if header.flags & DataPointFlags::NoRecordedValueMask as u32 != 0 {
            return;
        }
        let Some(sample) = sample.filter(|_| !header.metric.is_empty()) else {
            self.refused.add(1, "a value, its buckets, its temporality or the metric's name cannot be read");
            return;
        };
        self.points.push(Point {
            metric: text::cut(header.metric),
            labels: Labels::new(pairs(header.attributes)),
            start: header.start,
            time: header.time,
            sample,
        });
    }
}

fn number_header<'a>(metric: &'a str, point: &'a NumberDataPoint) -> Header<'a> {
    Header {
        metric,
        attributes: &point.attributes,
        start: point.start_time_unix_nano,
        time: point.time_unix_nano,
        flags: point.flags,
    }
}

fn number(point: &NumberDataPoint) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are not reached")]
    let value = match point.value.as_ref()? {
        Value::AsDouble(value) => *value,
        Value::AsInt(value) => *value as f64,
    };
    value.is_finite().then_some(value)
}

fn temporality(temporality: i32) -> Option<Temporality> {
    match AggregationTemporality::try_from(temporality) {
        Ok(AggregationTemporality::Delta) => Some(Temporality::Delta),
        Ok(AggregationTemporality::Cumulative) => Some(Temporality::Cumulative),
        _ => None,
    }
}

fn explicit(point: &HistogramDataPoint) -> Option<Explicit> {
    if point.bucket_counts.len() > MOST_BUCKETS || point.explicit_bounds.len() > MOST_BUCKETS {
        return None;
    }
    // Without buckets the count alone is left; it stands in the one bucket there is.
    let counts = match (point.bucket_counts.as_slice(), point.explicit_bounds.as_slice()) {
        ([], []) => vec![point.count],
        (counts, _) => counts.to_vec(),
    };
    Explicit::new(&point.explicit_bounds, counts, point.sum, point.min.zip(point.max))
}

fn exponential(point: &ExponentialHistogramDataPoint) -> Option<Exponential> {
    let buckets = |buckets: Option<&Buckets>| match buckets {
        Some(buckets) if buckets.bucket_counts.len() > MOST_BUCKETS => None,
        Some(buckets) => Some((buckets.offset, buckets.bucket_counts.clone())),
        None => Some((0, Vec::new())),
    };
    Exponential::from_parts(Parts {
        scale: point.scale,
        zero_threshold: point.zero_threshold,
        zeros: point.zero_count,
        positive: buckets(point.positive.as_ref())?,
        negative: buckets(point.negative.as_ref())?,
        sum: point.sum,
        extremes: point.min.zip(point.max),
    })
}
