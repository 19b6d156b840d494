//! What is said about a data set, once and with a count: the same in training, scoring and `ama data validate`.

use ama_data::PairTokenizer;
use ama_data::store::BuildReport;

/// What did not go into a store unharmed, and what looks like a mistake in the rows; empty if there is nothing to say.
pub(crate) fn notes(report: &BuildReport, tokenizer: Option<&PairTokenizer>) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(losses(report));
    let mut say = |count: u64, note: &dyn Fn() -> String| {
        if count > 0 {
            notes.push(note());
        }
    };
    let bos = || tokenizer.and_then(|tokenizer| tokenizer.token(tokenizer.leading_id()?)).unwrap_or_default();
    say(report.doubled_bos, &|| {
        format!(
            "{} prompts begin with {}, and the tokenizer puts another before them; remove it from `prompt`",
            report.doubled_bos,
            bos()
        )
    });
    say(report.doubled_eos, &|| {
        format!(
            "{} completions end in {} already, and another is put behind them; remove it, and the line end behind it, \
             from the completions",
            report.doubled_eos,
            tokenizer.map(PairTokenizer::eos_token).unwrap_or_default()
        )
    });
    say(report.repeated_prompts, &|| {
        format!(
            "{} rows repeat their prompt at the beginning of `chosen` and `rejected` (or `completion`), so that it \
             comes twice; remove it there, or the column `prompt`",
            report.repeated_prompts
        )
    });
    say(report.white_space_only, &|| {
        format!("{} pairs with completions that differ in white space only", report.white_space_only)
    });
    say(report.normal_form_only, &|| {
        format!(
            "{} pairs with completions that differ in their Unicode normal form only",
            report.normal_form_only
        )
    });
    if let Some(limit) = tokenizer.and_then(PairTokenizer::max_positions) {
        say(report.beyond_positions, &|| {
            format!(
                "{} rows are longer than max_position_embeddings {limit} of the model's config.json (the longest has {} \
                 tokens); make max_length {limit} or less",
                report.beyond_positions, report.longest
            )
        });
    }
    notes
}

fn losses(report: &BuildReport) -> Option<String> {
    let mut parts = Vec::new();
    for (count, what) in [
        (report.dropped_prompt_too_long, "dropped (the prompt alone reaches max_length)"),
        (report.truncated, "cut at max_length"),
        (report.indistinguishable, "with equal completions after the cut"),
        (report.duplicates, "duplicates (kept)"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    (!parts.is_empty()).then(|| format!("of {} rows {}", report.read, parts.join(", ")))
}

/// The counts as JSON.
pub(crate) fn report_json(report: &BuildReport) -> serde_json::Value {
    serde_json::json!({
        "rows": report.read,
        "kept": report.kept,
        "truncated": report.truncated,
        "dropped_prompt_too_long": report.dropped_prompt_too_long,
        "indistinguishable": report.indistinguishable,
        "duplicates": report.duplicates,
        "merged_boundaries": report.merged_boundaries,
        "doubled_bos": report.doubled_bos,
        "doubled_eos": report.doubled_eos,
        "repeated_prompts": report.repeated_prompts,
        "white_space_only": report.white_space_only,
        "normal_form_only": report.normal_form_only,
        "beyond_positions": report.beyond_positions,
        "longest": report.longest,
        "tokens": report.tokens,
        "prompt_tokens": { "mean": report.prompt.mean, "max": report.prompt.max },
        "chosen_tokens": { "mean": report.chosen.mean, "max": report.chosen.max },
        "rejected_tokens": { "mean": report.rejected.mean, "max": report.rejected.max },
    })
}
