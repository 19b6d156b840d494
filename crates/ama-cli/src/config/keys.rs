//! What every key of the configuration means. The table in the crate's README is generated from this.

/// One key of the configuration.
pub(crate) struct Key {
    /// Table it stands in; empty for the top level.
    pub(crate) section: &'static str,
    /// Its name.
    pub(crate) name: &'static str,
    /// Unit or type, and range.
    pub(crate) range: &'static str,
    /// Value when left out; `required` if it has none.
    pub(crate) default: &'static str,
    /// Meaning, and where the default comes from.
    pub(crate) meaning: &'static str,
}

macro_rules! keys {
    ($($section:literal { $($name:literal, $range:literal, $default:literal, $meaning:literal;)* })*) => {
        &[$($(Key { section: $section, name: $name, range: $range, default: $default, meaning: $meaning },)*)*]
    };
}

/// Every key, in the order of the file.
pub(crate) const KEYS: &[Key] = keys! {
    "" {
        "seed", "integer >= 0", "0", "everything derives from it; the generalists also from `generalist.seeds`";
        "extends", "path", "none", "another configuration whose keys hold unless set here (tables merge, lists replace)";
        "model", "table", "this or `base`", "start from an existing model folder";
        "base", "table", "this or `model`", "make the base model here, by supervised fine-tuning";
        "loss", "table", "see there", "preference loss";
        "data", "table", "see there", "tokenisation and batches";
        "specialist", "table", "see there", "stage 1";
        "generalist", "table", "see there", "stage 2";
        "eval", "table", "see there", "evaluation";
        "pool", "table", "none", "files of several tasks: one task for each value of their column `task`, besides [[task]]";
        "task", "list of tables, >= 1", "this or `pool`", "the preference tasks";
        "method", "list of tables, >= 1", "required", "the mixers to train generalists with";
    }
    "model" {
        "path", "folder", "required", "Hugging Face folder: config.json, model.safetensors (or sharded), tokenizer.json";
    }
    "base" {
        "config", "folder", "required", "config.json and tokenizer.json of the model to make; weights start random";
        "data", "file, folder or glob", "required", "Parquet or JSONL with `prompt` and `completion`";
        "columns", "table of name = column", "data.columns", "which column is what, over those of [data] key by key";
        "split", "a split's name", "the training split", "which split of the folder that `data` names";
        "limit", "rows >= 1", "all", "use only the first so many rows";
        "init", "scaled, hf", "scaled", "random weights: scaled to the widths (small models), or initializer_range as transformers does";
        "steps", "steps >= 1", "none", "length of the run (give one of steps, tokens, epochs)";
        "tokens", "tokens >= 1", "none", "length of the run in prompt and completion tokens";
        "epochs", "> 0", "1", "length of the run in passes over the data";
        "batch", "examples >= 1", "40", "examples a step (suite prototype; 128 was far worse)";
        "lr", "> 0", "2e-3", "peak learning rate (suite prototype)";
        "schedule", "constant, linear, cosine", "cosine", "shape after warm-up";
        "warmup_steps", "steps >= 0", "30", "linear warm-up (or warmup_ratio)";
        "warmup_ratio", "[0, 1]", "none", "linear warm-up as a share of the run";
        "min_lr_ratio", "[0, 1]", "0.02", "floor of the learning rate as a share of the peak";
        "betas", "two values in [0, 1)", "[0.9, 0.98]", "AdamW";
        "eps", "> 0", "1e-8", "AdamW";
        "weight_decay", ">= 0", "0.01", "AdamW, decoupled, matrices only";
        "clip", ">= 0", "1", "global gradient norm; 0 never clips";
        "checkpoint_every", "steps >= 0", "100", "steps between checkpoints; 0 only when stopped";
    }
    "loss" {
        "kind", "sigmoid, ipo, hinge, robust", "sigmoid", "preference loss (DPO: Rafailov et al. 2023)";
        "beta", "> 0", "0.1", "strength of the reference (TRL's default)";
        "label_smoothing", "[0, 0.5)", "0", "share of flipped labels (sigmoid, robust)";
        "sft_weight", ">= 0", "0", "weight of the chosen completion's mean NLL (TRL's rpo_alpha)";
    }
    "data" {
        "columns", "table of name = column", "none", "which column is what where it has another name, for all files: `columns = { prompt = \"question\" }`; `prompt = \"\"`: the shared beginning of chosen and rejected";
        "max_length", "tokens >= 2", "1024", "prompt plus completion; longer completions are cut at the end (TRL's default)";
        "micro_batch_tokens", "tokens >= 1", "4096", "most packed tokens in one forward and backward pass; bounds memory";
        "checkpoint_activations", "true, false", "false", "run each layer again in the backward pass: less memory, about a quarter more time, the same bits";
    }
    "specialist" {
        "steps", "steps >= 1", "none", "length of a run (give one of steps, tokens, epochs)";
        "tokens", "tokens >= 1", "none", "length of a run, counted as TRL does";
        "epochs", "> 0", "1", "length of a run in passes over the task's pairs";
        "batch_pairs", "pairs >= 1", "32", "pairs a step";
        "lr", "> 0", "1e-6", "peak learning rate (TRL's DPO default)";
        "schedule", "constant, linear, cosine", "linear", "shape after warm-up";
        "warmup_steps", "steps >= 0", "none", "linear warm-up in steps";
        "warmup_ratio", "[0, 1]", "0", "linear warm-up as a share of the run";
        "min_lr_ratio", "[0, 1]", "0", "floor of the learning rate as a share of the peak";
        "betas", "two values in [0, 1)", "[0.9, 0.999]", "AdamW";
        "eps", "> 0", "1e-8", "AdamW";
        "weight_decay", ">= 0", "0", "AdamW, decoupled, matrices only";
        "clip", ">= 0", "1", "global gradient norm; 0 never clips";
        "checkpoint_every", "steps >= 0", "100", "steps between checkpoints; 0 only when stopped";
        "length_ratio", "(0, 1]", "1", "run this share of the length, warm-up and decay shrunk with it: approximate specialists (ablations)";
    }
    "generalist" {
        "seeds", "list of integers, >= 1", "[0]", "one run a seed and method; the table gives mean and spread";
        "steps", "steps >= 1", "none", "length of a run (give one of steps, tokens, epochs)";
        "tokens", "tokens >= 1", "none", "length of a run, counted as TRL does";
        "epochs", "> 0", "1", "length of a run in passes over the union of the tasks";
        "batch_pairs", "pairs >= 1", "48", "pairs a step, over all tasks (AMA-S is noisy below 48)";
        "lr", "> 0", "1e-6", "peak learning rate (TRL's DPO default)";
        "schedule", "constant, linear, cosine", "linear", "shape after warm-up";
        "warmup_steps", "steps >= 0", "none", "linear warm-up in steps";
        "warmup_ratio", "[0, 1]", "0", "linear warm-up as a share of the run";
        "min_lr_ratio", "[0, 1]", "0", "floor of the learning rate as a share of the peak";
        "betas", "two values in [0, 1)", "[0.9, 0.999]", "AdamW";
        "eps", "> 0", "1e-8", "AdamW";
        "weight_decay", ">= 0", "0", "AdamW, decoupled, matrices only";
        "clip", ">= 0", "1", "global gradient norm; 0 never clips";
        "checkpoint_every", "steps >= 0", "50", "steps between checkpoints; 0 only when stopped";
        "excess", "clipped, unclipped, raw", "clipped", "excess over the specialist (AMA: clipped per pair; raw needs no specialist)";
        "gradient_clip", "pair, weights-only", "pair", "pair: a pair at or below its specialist gives no gradient; weights-only: only the mixer sees the clipping";
    }
    "pool" {
        "train", "file, folder or glob", "required", "training pairs with a column `task` of text or integers (`ama data cluster` proposes one)";
        "valid", "file, folder or glob", "none", "validation pairs, with the same column";
        "test", "file, folder or glob", "none", "test pairs, with the same column";
        "columns", "table of name = column", "data.columns", "which column is what, over those of [data] key by key";
        "split", "a split's name", "the training split", "which split of the folder that `train` names";
        "eval_split", "a split's name", "the test or validation split", "which split of the folder that `test` or `valid` names (as eval.split says)";
        "limit", "pairs >= 1", "all", "use only the first so many training pairs of each task";
        "eval_limit", "pairs >= 1", "all", "use only the first so many validation and test pairs of each task";
    }
    "task" {
        "name", "letters, digits, - and _", "required", "unique; names folders, metrics and table columns";
        "train", "file, folder or glob", "required", "training pairs: Parquet, JSONL or Arrow IPC";
        "select", "text", "none", "use only rows whose column `task` says this (what [pool] writes for each task)";
        "valid", "file, folder or glob", "none", "validation pairs";
        "test", "file, folder or glob", "none", "test pairs; columns `verifier` and `gold` (suite tasks) give the win rate";
        "columns", "table of name = column", "data.columns", "which column is what, over those of [data] key by key";
        "split", "a split's name", "the training split", "which split of the folder that `train` names";
        "eval_split", "a split's name", "the test or validation split", "which split of the folder that `test` or `valid` names (as eval.split says)";
        "limit", "pairs >= 1", "all", "use only the first so many training pairs";
        "eval_limit", "pairs >= 1", "all", "use only the first so many validation and test pairs";
        "specialist", "table", "none", "any key of [specialist], for this task only";
    }
    "method" {
        "name", "letters, digits, - and _", "required", "unique; names folders and table rows";
        "kind", "pooled, task-normalised, fixed, temperature, group-dro, ama-r, ama-s, ama-s-ix, odm, doremi, term, famo", "the name", "which mixer";
        "eta", "> 0", "see meaning", "step of the weights: ama-s c/k, ama-s-ix sqrt(2 ln k / (k T)), ama-r and group-dro 2/T, doremi 1, famo (its beta) 0.025";
        "c", "(0, 1]", "see meaning", "share of uniform sampling (ama-s, tuned to the horizon) or smoothing of the weights (doremi, 0.001)";
        "gamma", "> 0", "see meaning", "implicit exploration (ama-s-ix, eta/2) or decay of the logits (famo, 0.01)";
        "excess_scale", "nats > 0", "running scale", "fixed excess bound M instead of EMA(0.9) of the largest excess (ama-*, group-dro; odm and doremi: 1 nat by default)";
        "smoothing", "[0, 1)", "0.9", "weight of the past in the rewards (odm)";
        "tilt", "1/nats", "1", "how strongly high losses count; negative: low ones (term)";
        "tau", "[0, 1]", "required for temperature", "sampling proportional to size^tau";
        "proportions", "table of task = share >= 0", "this or `proportions_from` for fixed", "sampling proportions";
        "proportions_from", "results.json of a run", "none", "take the shares (fixed) from the weights of a finished method: the second phase of DoReMi";
        "proportions_method", "a method of that run", "doremi", "whose weights `proportions_from` takes";
        "lr", "> 0", "generalist.lr", "peak learning rate of this method's runs";
        "alpha", "last, averaged", "last (fixed: averaged)", "step with the last weights or with their mean over the steps (ablations); fixed: which of them `proportions_from` takes";
        "excess", "clipped, unclipped, raw", "generalist.excess for ama-* and doremi, raw for the others", "how a pair is compared with its specialist (ablations)";
        "gradient_clip", "pair, weights-only", "generalist.gradient_clip", "override for this method (ablations)";
        "specialist_noise", "nats > 0", "none", "standard deviation of Gaussian noise on the specialists' cached losses in training, not in the evaluation (ablations)";
        "specialist_noise_seed", "integer >= 0", "0", "seed of that noise";
    }
    "eval" {
        "split", "test, valid", "test", "which split the table is made of";
        "max_new_tokens", "tokens >= 1", "40", "longest answer that is generated for the win rate";
        "baseline", "a method's name", "pooled, or the first", "what improvements are measured against";
    }
};

/// Keys that hold paths, relative to the file that they stand in: (table, key); tables that are lists apply to
/// every element.
pub(crate) const PATHS: &[(&str, &str)] = &[
    ("model", "path"),
    ("base", "config"),
    ("base", "data"),
    ("pool", "train"),
    ("pool", "valid"),
    ("pool", "test"),
    ("task", "train"),
    ("task", "valid"),
    ("task", "test"),
    ("method", "proportions_from"),
];

/// The known key nearest to `name` by edit distance, if it is near enough to be a slip.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let best = known.iter().min_by_key(|candidate| distance(name, candidate))?;
    (distance(name, best) <= 1 + name.chars().count() / 3).then_some(*best)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substitute = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

/// Every key in plain text, for `ama run --help`.
pub(crate) fn text() -> String {
    let mut text = String::from("Keys of the configuration:\n");
    let mut section = None;
    for key in KEYS {
        if section != Some(key.section) {
            section = Some(key.section);
            if !key.section.is_empty() {
                text.push_str(&format!("\n[{}]\n", key.section));
            }
        }
        text.push_str(&format!(
            "  {:<18} {} (default {}): {}\n",
            key.name, key.range, key.default, key.meaning
        ));
    }
    text
}

/// The README's table.
#[cfg(test)]
pub(crate) fn markdown() -> String {
    let mut text = String::new();
    let mut section = None;
    for key in KEYS {
        if section != Some(key.section) {
            section = Some(key.section);
            let title = match key.section {
                "" => "Top level".to_string(),
                list @ ("task" | "method") => format!("`[[{list}]]`"),
                table => format!("`[{table}]`"),
            };
            text.push_str(&format!(
                "\n**{title}**\n\n| key | unit and range | default | meaning |\n|---|---|---|---|\n"
            ));
        }
        let line = format!("| `{}` | {} | {} | {} |\n", key.name, key.range, key.default, key.meaning);
        text.push_str(&line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_else() {
        assert_eq!(nearest("lrr", &["lr", "beta"]), Some("lr"));
        assert_eq!(nearest("batch_size", &["batch_pairs", "lr"]), Some("batch_pairs"));
        assert_eq!(nearest("zebra", &["lr", "betas"]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn readme_table_is_generated() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let readme = std::fs::read_to_string(&path).expect("the crate has a README");
        let (begin, end) =
            ("<!-- keys: generated, UPDATE_README=1 cargo test -p ama-cli -->\n", "<!-- /keys -->");
        let (head, rest) = readme.split_once(begin).expect("marker before the table");
        let (table, tail) = rest.split_once(end).expect("marker after the table");
        if std::env::var_os("UPDATE_README").is_some() {
            std::fs::write(&path, format!("{head}{begin}{}{end}{tail}", markdown()))
                .expect("README can be written");
            return;
        }
        assert!(
            table == markdown(),
            "the key table is stale: UPDATE_README=1 cargo test -p ama-cli readme_table"
        );
    }
}
