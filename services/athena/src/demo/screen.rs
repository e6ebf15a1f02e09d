//! The demo's report as people see it: three short tables.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use telemetry::names;

use super::report::{Report, quantile};
use crate::{Span, Target};

/// The kind of a warning that tells what a cap cut.
const CAPPED: &str = "cut";

/// Columns of the bars of the trace.
const BAR: usize = 30;

/// Rows of the trace: what they are called, and which spans they gather.
const ROWS: [Row; 6] = [
    Row { service: "orchestrator", label: "cycle", of: names::SPAN_CYCLE, server: false },
    Row { service: "  source", label: "observe", of: names::SPAN_OBSERVE, server: false },
    Row { service: "  memory", label: "recall", of: "MemoryService/Recall", server: true },
    Row { service: "  llm-gateway", label: "analyze", of: "LlmGatewayService/Analyze", server: true },
    Row { service: "  storage", label: "write", of: "StorageBatcherService/", server: true },
    Row { service: "  memory", label: "learn", of: "MemoryService/RememberBatch", server: true },
];

struct Row {
    service: &'static str,
    label: &'static str,
    of: &'static str,
    server: bool,
}

impl Row {
    fn gathers(&self, span: &Span) -> bool {
        if self.server { span.server && span.name.contains(self.of) } else { span.name == self.of }
    }
}

pub(super) fn render(report: &Report, width: usize, colour: bool) -> String {
    let mut text = String::new();
    head(&mut text, report);
    targets(&mut text, report, colour);
    savings(&mut text, report);
    trace(&mut text, report);
    text.push_str("\n  next: athena up                         keep it running, with its dashboard\n");
    text.push_str("        athena up --llm URL --model NAME  the same with a real model\n");
    text.lines().map(|line| cut(line, width.max(80))).collect()
}

/// Ends a line that is too long with an ellipsis.
fn cut(line: &str, width: usize) -> String {
    let visible = line.chars().count();
    if visible <= width || line.contains('\u{1b}') {
        return format!("{line}\n");
    }
    line.chars().take(width - 1).collect::<String>() + "…\n"
}

fn head(text: &mut String, report: &Report) {
    let (least, most) = report.pools();
    let median = quantile(&report.durations(), 0.5);
    let cycles = report.cycles.len();
    let _ = writeln!(
        text,
        "replayed {cycles} recorded days of {least}–{most} Base pools as 5-minute cycles, {median:.0} ms a cycle",
    );
    let _ = writeln!(
        text,
        "left out: {} history days, and {} days of Jul/Aug 2025 with under {} pools; gas is Ethereum's\n",
        crate::data::HISTORY_DAYS,
        crate::data::DAYS_LEFT_OUT,
        crate::data::LEAST_POOLS,
    );
    if !report.why_failed.is_empty() {
        let _ = writeln!(text, "FAILED: {} cycles: {}\n", report.failed, report.why_failed.join("; "));
    }
}

fn targets(text: &mut String, report: &Report, colour: bool) {
    let _ = writeln!(
        text,
        "  {:<19} {:>10}  {:>8}  {:>8}  {:>7}  state",
        "target, whole run", "value", "target", "critical", "samples"
    );
    for target in &report.targets {
        let label = label(&target.name);
        let value = target.value.map_or_else(|| "–".to_owned(), |value| amount(value, &target.unit));
        let (good, bad) = if target.higher_is_better { (">", "<") } else { ("<", ">") };
        let _ = writeln!(
            text,
            "  {label:<19} {value:>10}  {:>8}  {:>8}  {:>7}  {}{}",
            format!("{good} {}", amount(target.target, &target.unit)),
            format!("{bad} {}", amount(target.critical, &target.unit)),
            target.samples,
            paint(&target.state.replace('_', " "), colour),
            beside(target),
        );
    }
}

/// Returns what stands beside a target's state.
fn beside(target: &Target) -> String {
    let mut notes: Vec<String> = Vec::new();
    if target.higher_is_better {
        let mut parts: Vec<_> = target.parts.iter().collect();
        parts.sort_by(|left, right| right.1.total_cmp(left.1));
        notes.extend(parts.iter().map(|(tier, share)| format!("{tier} {share:.1}")));
    } else if target.name == "firestore_writes" {
        notes.push(format!("a minute of the {} clock", target.clock));
    } else {
        notes.extend(target.notes.first().cloned());
    }
    if notes.is_empty() { String::new() } else { format!("   {}", notes.join(" · ")) }
}

fn savings(text: &mut String, report: &Report) {
    let (served, documents) = (&report.served, &report.documents);
    let _ = writeln!(text, "\n  {:<19} {:>10}  {:>8}", "saved", "naive", "athena");
    let merged = served.merged.checked_div(report.upstream_calls).unwrap_or(0);
    let _ = writeln!(
        text,
        "  {:<19} {:>10}  {:>8}   (merged {merged} to 1, pattern {}, exact {})",
        "model calls",
        served.items(),
        report.upstream_calls,
        served.pattern,
        served.exact,
    );
    let _ = writeln!(
        text,
        "  {:<19} {:>10}  {:>8}   (folded {}, aggregated {})",
        "documents written", documents.naive, documents.written, documents.folded, documents.aggregated,
    );
    let _ = writeln!(
        text,
        "  {:<19} {:>10}  {:>8}   ({} of them, one by one and at once)",
        "recalls",
        amount(report.recalls.sequence.as_secs_f64() * 1e3, "ms"),
        amount(report.recalls.together.as_secs_f64() * 1e3, "ms"),
        report.recalls.count,
    );
}

fn trace(text: &mut String, report: &Report) {
    let Some(cycle) = &report.shown else { return };
    let _ = writeln!(
        text,
        "\n  one cycle, {} ({}), trace {}",
        amount(cycle.duration.as_secs_f64() * 1e3, "ms"),
        cycle.recorded_date,
        cycle.trace_id,
    );
    let whole = report.spans.iter().map(|span| span.offset + span.duration).max().unwrap_or_default();
    for row in &ROWS {
        let spans: Vec<&Span> = report.spans.iter().filter(|span| row.gathers(span)).collect();
        let (Some(from), Some(to)) = (
            spans.iter().map(|span| span.offset).min(),
            spans.iter().map(|span| span.offset + span.duration).max(),
        ) else {
            continue;
        };
        let times =
            if spans.len() > 1 { format!("{} ×{}", row.label, spans.len()) } else { row.label.to_owned() };
        let length = amount((to - from).as_secs_f64() * 1e3, "ms");
        let _ =
            writeln!(text, "  {:<13} {times:<12} {:<BAR$} {length:>9}", row.service, bar(from, to, whole));
    }
    for warning in noticed(report).into_iter().take(2) {
        let _ = writeln!(text, "  noticed: {warning}");
    }
}

/// Returns what was wrong with the input: of each kind and field its first sentence, and in how many cycles it was seen; the most
/// frequent first. What a cap cut is no fault of the input and comes last.
fn noticed(report: &Report) -> Vec<String> {
    let mut kinds: BTreeMap<(&str, &str), (&str, usize)> = BTreeMap::new();
    for warning in report.cycles.iter().flat_map(|cycle| &cycle.warnings) {
        kinds.entry((&warning.kind, &warning.field)).or_insert((&warning.message, 0)).1 += 1;
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|((kind, _), (_, cycles))| (*kind == CAPPED, std::cmp::Reverse(*cycles)));
    kinds.into_iter().map(|(_, (message, cycles))| format!("{message} (so in {cycles} cycles)")).collect()
}

fn bar(from: Duration, to: Duration, whole: Duration) -> String {
    let scale = |time: Duration| {
        #[expect(clippy::cast_precision_loss, reason = "a bar has a few columns")]
        let column = time.as_secs_f64() / whole.as_secs_f64().max(f64::MIN_POSITIVE) * BAR as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a column is a small whole number"
        )]
        let column = column.round() as usize;
        column.min(BAR)
    };
    let begin = scale(from).min(BAR - 1);
    let length = scale(to).saturating_sub(begin).max(1);
    " ".repeat(begin) + &"█".repeat(length)
}

fn amount(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 || v.fract() == 0.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    match unit {
        "percent" => format!("{value:.digits$} %"),
        "documents/min" => format!("{value:.digits$}"),
        "s" if value.abs() < 1.0 => format!("{:.0} ms", value * 1e3),
        unit => format!("{value:.digits$} {unit}"),
    }
}

fn label(name: &str) -> String {
    match name {
        "memory_query_p95" => "memory query P95",
        "llm_response" => "LLM response P95",
        "firestore_writes" => "documents / min",
        "agent_cycle" => "agent cycle P95",
        "api_response_p95" => "API response P95",
        other => return other.replace('_', " "),
    }
    .to_owned()
}

fn paint(state: &str, colour: bool) -> String {
    let padded = format!("{state:<9}");
    let code = match state {
        _ if !colour => return padded,
        "ok" => 32,
        "breach" => 33,
        "critical" | "degenerate input" => 31,
        _ => 2,
    };
    format!("\u{1b}[{code}m{padded}\u{1b}[0m")
}
