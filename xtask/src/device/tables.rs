//! The tables of the report, from what the parts have found.

use std::fmt::Write as _;

use serde_json::Value;

use super::results::Results;

/// A cell of a Markdown table: text from another machine stays one line of text.
pub(super) fn cell(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('|', "/").replace('<', "&lt;").trim().to_owned()
}

/// How every part ended.
pub(super) fn parts(results: &Results) -> String {
    let mut out = String::from("| part | result | seconds | why |\n|---|---|---|---|\n");
    for part in results.parts() {
        let result = if part.status == "failed" { "**failed**" } else { part.status };
        let _ = writeln!(out, "| {} | {result} | {:.1} | {} |", part.name, part.seconds, cell(part.reason));
    }
    out
}

/// Every device test that did not pass, and how many did.
pub(super) fn tests(results: &Results, binaries: &[&str]) -> String {
    let mut out =
        String::from("| binary | passed | failed | run twice for the same bits |\n|---|---|---|---|\n");
    let mut failures = String::new();
    for binary in binaries {
        let found = results.found(binary);
        let tests = found["tests"].as_object();
        let count = |result: &str| tests.map_or(0, |t| t.values().filter(|r| *r == result).count());
        let twice =
            tests.map_or(0, |t| t.iter().filter(|(n, r)| n.contains("same_bits") && *r == "ok").count());
        let _ = writeln!(out, "| {binary} | {} | {} | {twice} |", count("ok"), count("FAILED"));
        for (test, reason) in found["reasons"].as_object().into_iter().flatten() {
            let _ = writeln!(failures, "- `{}`: {}", cell(test), cell(reason.as_str().unwrap_or_default()));
        }
    }
    if failures.is_empty() { out } else { format!("{out}\nFailed:\n\n{failures}") }
}

/// One measurement of `kernels` or `peers`.
struct Row<'a>(&'a Value);

impl Row<'_> {
    fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or("?")
    }

    fn milliseconds(&self) -> Option<f64> {
        self.0["milliseconds"].as_f64().filter(|ms| *ms > 0.0)
    }

    /// Bytes or operations per second.
    fn rate(&self) -> Option<f64> {
        let work = self.0["bytes"].as_f64().or_else(|| self.0["flops"].as_f64())?;
        Some(work / self.milliseconds()? * 1e3)
    }

    fn moves_bytes(&self) -> bool {
        self.0["bytes"].is_number()
    }

    fn extra_mib(&self) -> Option<f64> {
        Some(self.0["extra_bytes"].as_f64()? / f64::from(1 << 20))
    }

    fn is(&self, other: &Row<'_>) -> bool {
        ["name", "dtype", "shape"].iter().all(|field| self.0[*field] == other.0[*field])
    }
}

fn rows<'a>(results: &'a Results, part: &str) -> Vec<Row<'a>> {
    results.found(part)["rows"].as_array().into_iter().flatten().map(Row).collect()
}

/// Every kernel against the machine's ceilings and PyTorch; empty if nothing was measured.
pub(super) fn kernels(results: &Results) -> String {
    let (ours, peers) = (rows(results, "kernels"), rows(results, "peers"));
    if ours.is_empty() {
        return String::new();
    }
    // Both sides measured the ceilings: the machine's limit is the better one.
    let best = |name: &str, dtype: &str| {
        let same = ours.iter().chain(&peers).filter(|r| r.text("name") == name && r.text("dtype") == dtype);
        same.filter_map(Row::rate)
            .fold(None, |most: Option<f64>, rate| Some(most.map_or(rate, |m| m.max(rate))))
    };
    let copy = best("copy", "f32");
    let mut out = String::from(
        "| kernel | type | shape | ms | rate | of the limit | PyTorch, ms | times as fast | extra memory, MiB | PyTorch, MiB |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in &ours {
        let peer = peers.iter().find(|peer| peer.is(row));
        let limit = if row.moves_bytes() { copy } else { best("gemm", row.text("dtype")) };
        let unit = if row.moves_bytes() { (1e9, "GB/s") } else { (1e12, "TFLOP/s") };
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let rate =
            row.rate().map_or_else(|| "-".to_owned(), |rate| format!("{:.1} {}", rate / unit.0, unit.1));
        let share =
            row.rate().zip(limit).map_or_else(|| "-".to_owned(), |(r, l)| format!("{:.0}%", 100.0 * r / l));
        let time = |row: Option<&Row<'_>>| match row {
            Some(row) if row.0["error"].is_string() => cell(row.text("error")),
            _ => number(row.and_then(Row::milliseconds), 3),
        };
        let theirs = time(peer);
        let faster =
            peer.and_then(Row::milliseconds).zip(row.milliseconds()).map(|(theirs, ours)| theirs / ours);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {rate} | {share} | {theirs} | {} | {} | {} |",
            cell(row.text("name")),
            cell(row.text("dtype")),
            cell(row.text("shape")),
            time(Some(row)),
            number(faster, 2),
            number(row.extra_mib(), 1),
            number(peer.and_then(Row::extra_mib), 1),
        );
    }
    out
}

/// Losses of the training steps side by side; empty if there are none.
pub(super) fn training(results: &Results) -> String {
    let found = results.found("training");
    let Some(losses) = found["losses"].as_object().filter(|losses| !losses.is_empty()) else {
        return String::new();
    };
    let names: Vec<&String> = losses.keys().collect();
    let mut out = String::from("| step |");
    for name in &names {
        let _ = write!(out, " {} |", cell(name));
    }
    let _ = writeln!(out, "\n|---|{}", "---|".repeat(names.len()));
    let steps = losses.values().filter_map(Value::as_array).map(Vec::len).max().unwrap_or(0);
    for step in 0..steps {
        let _ = write!(out, "| {} |", step + 1);
        for name in &names {
            let loss = losses[*name].get(step).and_then(Value::as_f64);
            let _ = write!(out, " {} |", loss.map_or_else(|| "-".to_owned(), |loss| format!("{loss:.7}")));
        }
        out.push('\n');
    }
    for (other, difference) in found["differences"].as_object().into_iter().flatten() {
        let difference = difference.as_f64().unwrap_or(f64::NAN);
        let _ = writeln!(out, "\nLargest difference from {}: {difference:.1e} nats.", cell(other));
    }
    out
}
