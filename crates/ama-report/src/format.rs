//! Numbers, as a reader wants them.

use crate::estimate::Estimate;
use crate::run::Metric;

/// What is not known.
pub(crate) const UNKNOWN: &str = "–";

/// A value of a metric without its unit: a share in per cent with one decimal, nats with three.
pub(crate) fn value(metric: Metric, value: f64) -> String {
    if metric.is_share() { fixed(100.0 * value, 1) } else { fixed(value, 3) }
}

/// The interval of an estimate, for instance `[61.2, 70.4]`; empty without one.
pub(crate) fn interval(metric: Metric, estimate: &Estimate) -> String {
    let ends =
        |i: crate::estimate::Interval| format!("[{}, {}]", value(metric, i.low), value(metric, i.high));
    estimate.interval.map(ends).unwrap_or_default()
}

/// A difference with its sign: points of per cent, or nats.
pub(crate) fn signed(metric: Metric, difference: f64) -> String {
    let text = value(metric, difference.abs());
    if text.chars().all(|c| matches!(c, '0' | '.')) {
        return text;
    }
    format!("{}{text}", if difference < 0.0 { '−' } else { '+' })
}

/// So many decimals, with a true minus sign.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| matches!(c, '0' | '.')) => rest.to_string(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

/// Three significant digits; very small and very large values with an exponent.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".into();
    }
    if !(1e-3..1e6).contains(&size) {
        let text = format!("{value:.2e}");
        // 6.00e-4 -> 6e-4
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        return format!("{digits}e{exponent}").replace('-', "−");
    }
    let decimals = (2 - size.log10().floor() as i32).clamp(0, 5) as usize;
    let text = fixed(value, decimals);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

/// A count with `k`, `M` or `G`.
pub(crate) fn count(value: f64) -> String {
    for (unit, size) in [("G", 1e9), ("M", 1e6), ("k", 1e3)] {
        if value.abs() >= size {
            return format!("{} {unit}", short(value / size));
        }
    }
    short(value.round())
}

/// Seconds as `0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min` or `3 d 4 h`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return UNKNOWN.into();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let (days, hours, minutes, rest) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes} min {rest:02} s"),
        (0, ..) => format!("{hours} h {minutes:02} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Text of others without control characters (which a terminal would obey), cut to so many characters.
pub(crate) fn clean(text: &str, most: usize) -> String {
    let mut kept: String = text.chars().filter(|c| !c.is_control()).collect();
    if kept.chars().count() > most {
        kept = kept.chars().take(most.saturating_sub(1)).collect();
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let shorts = [
            (0.0, "0"),
            (0.0006, "6e−4"),
            (1.25, "1.25"),
            (97_569.0, "97569"),
            (0.5, "0.5"),
            (-12.345, "−12.3"),
            (2e7, "2e7"),
        ];
        for (value, want) in shorts {
            assert_eq!(short(value), want);
        }
        for (seconds, want) in
            [(0.42, "0.4 s"), (59.6, "1 min 00 s"), (3725.0, "1 h 02 min"), (1e6, "11 d 13 h")]
        {
            assert_eq!(duration(seconds), want);
        }
        assert_eq!(duration(f64::NAN), "–");
        assert_eq!(count(2_165_345.0), "2.17 M");
        assert_eq!(signed(Metric::WinRate, -0.2678), "−26.8");
        assert_eq!(signed(Metric::WinRate, 0.0001), "0.0");
        assert_eq!(fixed(-0.001, 1), "0.0");
        assert_eq!(clean("a\u{1b}[31mbc", 5), "a[31…");
    }
}
