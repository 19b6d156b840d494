//! The table: one line a comparison, with the target that issue and README name.

use std::fmt::Write as _;

use super::lab::Lab;
use super::peers::Unlocked;

/// One line of the table. Numbers are text with their unit.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Line {
    pub(super) work: String,
    pub(super) ours: String,
    /// Who the peer is, and its number.
    pub(super) peer: String,
    pub(super) ratio: String,
    pub(super) target: String,
}

/// What a number has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Shown only.
    None,
}

impl Target {
    /// `want`, and whether `got` reaches it; NaN never does. `show` writes a number with its unit.
    pub(super) fn judge(self, got: f64, show: impl Fn(f64) -> String) -> String {
        let (want, met, word) = match self {
            Self::AtLeast(want) => (want, got >= want, "at least"),
            Self::AtMost(want) => (want, got <= want, "at most"),
            Self::None => return String::new(),
        };
        format!("{word} {}: {}", show(want), if met { "met" } else { "missed" })
    }
}

impl Line {
    /// Speeds: tokens/s of both, ratio ours over the peer's.
    pub(super) fn rate(work: &str, ours: f64, (name, peer): (&str, f64), target: Target) -> Self {
        let show = |rate: f64| format!("{} tokens/s", grouped(rate));
        Self::ratio(work, show(ours), format!("{name}: {}", show(peer)), ours / peer, target)
    }

    /// Times: milliseconds of both, ratio the peer's over ours.
    pub(super) fn time(work: &str, ours_s: f64, (name, peer_s): (&str, f64), target: Target) -> Self {
        let show = |seconds: f64| {
            let ms = seconds * 1e3;
            if ms < 100.0 { format!("{ms:.1} ms") } else { format!("{} ms", grouped(ms)) }
        };
        Self::ratio(work, show(ours_s), format!("{name}: {}", show(peer_s)), peer_s / ours_s, target)
    }

    /// Memory: MiB of both, ratio ours over the peer's.
    pub(super) fn memory(work: &str, ours: f64, (name, peer): (&str, f64), target: Target) -> Self {
        Self::ratio(work, mib(ours), format!("{name}: {}", mib(peer)), ours / peer, target)
    }

    /// A number of ours that has a limit of its own, such as an error; `peer` says what it is measured against.
    pub(super) fn limit(
        work: &str,
        ours: f64,
        peer: &str,
        target: Target,
        show: impl Fn(f64) -> String,
    ) -> Self {
        let text = if ours.is_nan() { "-".into() } else { show(ours) };
        let (work, peer) = (work.into(), peer.into());
        Self { work, ours: text, peer, ratio: String::new(), target: target.judge(ours, show) }
    }

    /// A row that could not be measured.
    pub(super) fn failed(name: &str) -> Self {
        Self { work: format!("`{name}`"), ours: "failed".into(), ..Self::default() }
    }

    fn ratio(work: &str, ours: String, peer: String, ratio: f64, target: Target) -> Self {
        let show = |x: f64| format!("{x:.2}x");
        Self { work: work.into(), ours, peer, ratio: show(ratio), target: target.judge(ratio, show) }
    }
}

/// MiB as the table writes them.
pub(super) fn mib(x: f64) -> String {
    format!("{} MiB", grouped(x))
}

/// A whole number with commas between thousands.
pub(super) fn grouped(x: f64) -> String {
    if !x.is_finite() {
        return "-".into();
    }
    let digits = format!("{:.0}", x.abs());
    let mut text = String::new();
    if x <= -0.5 {
        text.push('-');
    }
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The whole page.
pub(super) fn page(lab: &Lab, lines: &[Line]) -> String {
    let (machine, peers, plan) = (&lab.machine, &lab.peers, &lab.plan);
    let vectors = if machine.avx512 { "with AVX-512" } else { "without AVX-512" };
    let mut page = format!(
        "{}, {vectors}, {} cores; {} threads on both sides, f32. {}, commit {}.\n{}; torch {}, transformers {}, trl {}, \
         Python {}.\nBoth sides in turn, {} round(s); medians of {} steps or repetitions of each side after warm-up.\n",
        machine.cpu,
        machine.cores,
        plan.threads,
        peers.about("/date"),
        machine.commit,
        machine.rustc,
        peers.about("/versions/torch"),
        peers.about("/versions/transformers"),
        peers.about("/versions/trl"),
        peers.about("/python"),
        plan.rounds,
        plan.rounds * plan.repeat,
    );
    if let Unlocked::AsStock(why) = &peers.unlocked {
        let _ = writeln!(page, "AVX-512 unlocked: nothing to do, {why}.");
    }
    page.push('\n');
    page.push_str(&table(lines));
    page
}

fn table(lines: &[Line]) -> String {
    let mut text = String::from("| work | ours | peer | ratio | target |\n|---|---|---|---|---|\n");
    for Line { work, ours, peer, ratio, target } in lines {
        let _ = writeln!(text, "| {work} | {ours} | {peer} | {ratio} | {target} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (x, text) in
            [(0.4, "0"), (999.0, "999"), (1000.0, "1,000"), (1_234_567.4, "1,234,567"), (-1500.0, "-1,500")]
        {
            assert_eq!(grouped(x), text);
        }
        assert_eq!(grouped(f64::NAN), "-");
    }

    #[test]
    fn a_rate_divides_by_the_peer_and_a_time_by_us() {
        let rate = Line::rate("step", 3000.0, ("PyTorch", 1000.0), Target::AtLeast(3.5));
        assert_eq!((rate.ours.as_str(), rate.peer.as_str()), ("3,000 tokens/s", "PyTorch: 1,000 tokens/s"));
        assert_eq!((rate.ratio.as_str(), rate.target.as_str()), ("3.00x", "at least 3.50x: missed"));
        let time = Line::time("head", 0.050, ("PyTorch", 0.2), Target::AtLeast(4.0));
        assert_eq!((time.ours.as_str(), time.peer.as_str()), ("50.0 ms", "PyTorch: 200 ms"));
        assert_eq!((time.ratio.as_str(), time.target.as_str()), ("4.00x", "at least 4.00x: met"));
        let memory = Line::memory("peak", 500.0, ("PyTorch", 1000.0), Target::AtMost(0.55));
        assert_eq!((memory.ratio.as_str(), memory.target.as_str()), ("0.50x", "at most 0.55x: met"));
    }

    #[test]
    fn nan_misses_every_target() {
        let show = |x: f64| format!("{x:.0e}");
        let line = Line::limit("losses", f64::NAN, "PyTorch", Target::AtMost(1e-4), show);
        assert_eq!((line.ours.as_str(), line.target.as_str()), ("-", "at most 1e-4: missed"));
        let line = Line::rate("step", 1.0, ("PyTorch", f64::NAN), Target::AtLeast(2.0));
        assert!(line.target.ends_with("missed"));
    }

    #[test]
    fn the_table_is_markdown() {
        let line = Line { work: "w".into(), ours: "o".into(), peer: "p".into(), ..Line::default() };
        let want = "| work | ours | peer | ratio | target |\n|---|---|---|---|---|\n| w | o | p |  |  |\n";
        assert_eq!(table(&[line]), want);
    }
}
