//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write as _;
use std::time::Duration;

/// What a family of numbers is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A page of metrics that is being written.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// The whole page.
    pub fn text(self) -> String {
        self.text
    }

    /// A family with one number and no labels.
    pub fn gauge(&mut self, name: &'static str, help: &str, value: f64) {
        self.family(name, Kind::Gauge, help).sample(&[], value);
    }

    /// Begins a family; its name follows the rules of Prometheus.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        Family { page: self, name }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a String takes everything");
    }
}

/// The samples of one family.
#[derive(Debug)]
pub(super) struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

/// A label with its value, which may be any text.
pub(super) type Label<'a> = (&'static str, &'a str);

impl Family<'_> {
    pub(super) fn sample(&mut self, labels: &[Label<'_>], value: f64) {
        self.line("", labels, value);
    }

    pub(super) fn histogram(&mut self, labels: &[Label<'_>], histogram: &Histogram) {
        let mut below = 0;
        for (limit, count) in BUCKETS_SECS.iter().zip(histogram.counts) {
            below += count;
            self.bucket(labels, &limit.to_string(), below);
        }
        self.bucket(labels, "+Inf", histogram.count);
        self.line("_sum", labels, histogram.sum.as_secs_f64());
        self.line("_count", labels, as_float(histogram.count));
    }

    fn bucket(&mut self, labels: &[Label<'_>], limit: &str, count: u64) {
        let labels: Vec<Label<'_>> = labels.iter().copied().chain([("le", limit)]).collect();
        self.line("_bucket", &labels, as_float(count));
    }

    fn line(&mut self, ending: &str, labels: &[Label<'_>], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let labels = match labels.as_slice() {
            [] => String::new(),
            labels => format!("{{{}}}", labels.join(",")),
        };
        let name = self.name;
        self.page
            .line(format_args!("{name}{ending}{labels} {value}"));
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

/// A count as Prometheus takes it; exact up to 2^53.
#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus knows no other numbers"
)]
pub(super) fn as_float(count: u64) -> f64 {
    count as f64
}

/// Runs last from seconds to hours.
const BUCKETS_SECS: [u64; 10] = [10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

/// How long things took.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    counts: [u64; BUCKETS_SECS.len()],
    count: u64,
    sum: Duration,
}

impl Histogram {
    pub(super) fn observe(&mut self, duration: Duration) {
        let bucket = BUCKETS_SECS
            .iter()
            .position(|limit| duration <= Duration::from_secs(*limit));
        if let Some(bucket) = bucket {
            self.counts[bucket] += 1;
        }
        self.count += 1;
        self.sum += duration;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_holds_any_text_and_a_histogram_counts_upwards() {
        let mut page = Page::default();
        page.family("a_total", Kind::Counter, "As.")
            .sample(&[("of", "a \"b\"\\\nc")], 2.0);
        let mut took = Histogram::default();
        for secs in [5, 20, 9000] {
            took.observe(Duration::from_secs(secs));
        }
        page.family("b_seconds", Kind::Histogram, "Bs.")
            .histogram(&[], &took);
        let text = page.text();
        assert!(
            text.contains("a_total{of=\"a \\\"b\\\"\\\\\\nc\"} 2\n"),
            "{text}"
        );
        for line in [
            "b_seconds_bucket{le=\"10\"} 1\n",
            "b_seconds_bucket{le=\"30\"} 2\n",
            "b_seconds_bucket{le=\"7200\"} 2\n",
            "b_seconds_bucket{le=\"+Inf\"} 3\n",
            "b_seconds_sum 9025\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
