//! Both stages of AutoMixAlign on a toy: two specialists, their losses, and an AMA-S generalist.
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ama_data::{Order, PairTokenizer, Row, RowContent, TokenStore, TokeniseOptions};
use ama_loss::{PreferenceKind, PreferenceLoss};
use ama_mix::{ExcessMode, GradientClip, MixerSpec};
use ama_model::{Init, Llama, LlamaConfig};
use ama_train::{
    AdamWOptions, Budget, Checkpoints, Control, Preference, PreferenceOptions, Schedule, ScoreOptions,
    Silent, Stage, TrainOptions, TrainTask, pair_losses, score, train,
};

const CONFIG: &str = r#"{"model_type":"llama","hidden_size":32,"intermediate_size":64,"num_hidden_layers":2,
"num_attention_heads":2,"num_key_value_heads":2,"vocab_size":24,"max_position_embeddings":32,"rms_norm_eps":1e-5,
"rope_theta":10000.0,"tie_word_embeddings":true,"hidden_act":"silu"}"#;

/// Prompts end in `mark`; the chosen answer repeats the prompt's first word plus `shift`, the rejected one does not.
fn pairs(
    folder: &Path,
    tokenizer: &PairTokenizer,
    mark: u32,
    shift: u32,
) -> Result<TokenStore, Box<dyn std::error::Error>> {
    let rows = (0..32_u32).map(|i| {
        let word = |n: u32| 4 + n % 20;
        let content = RowContent::Ids {
            prompt: vec![word(i), word(i * 7), mark],
            chosen: vec![word(i + shift), 0],
            rejected: vec![word(i + shift + 1 + i % 5), 0],
        };
        Ok(Row {
            source: Arc::from(Path::new("toy")),
            row: u64::from(i) + 1,
            content,
            check: None,
            task: None,
        })
    });
    let path = folder.join(format!("{mark}.tokens"));
    Ok(TokenStore::build(rows, tokenizer, &TokeniseOptions::default(), &path, |_| {})?.0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let words: Vec<String> = (0..24).map(|i| format!("\"w{i}\":{i}")).collect();
    let tokenizer = format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{{"type":"WhitespaceSplit"}},"post_processor":null,"decoder":null,
        "model":{{"type":"WordLevel","vocab":{{{}}},"unk_token":"w1"}}}}"#,
        words.join(",")
    );
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer)?;
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token":"w0"}"#)?;
    std::fs::write(folder.path().join("config.json"), CONFIG)?;
    let tokenizer = PairTokenizer::from_folder(folder.path())?;
    let config = LlamaConfig::from_json(&folder.path().join("config.json"))?;
    let base = || Llama::random(&config, 1, Init::Scaled);

    let stop = AtomicBool::new(false);
    let mut silent = Silent;
    let mut control = Control::new(&stop, &mut silent);
    let loss = PreferenceLoss::new(PreferenceKind::Sigmoid { label_smoothing: 0.0 }, 0.1, 0.5)?;
    let options = |steps| TrainOptions {
        budget: Budget::Steps(steps),
        schedule: Schedule::constant(5e-3),
        optimiser: AdamWOptions::default(),
        clip_norm: Some(1.0),
        micro_batch_tokens: 4096,
        checkpoint_activations: false,
    };
    let preference = |excess, stage| PreferenceOptions {
        loss,
        batch_pairs: 16,
        excess,
        gradient_clip: GradientClip::Pair,
        order: Order::Shuffled,
        seed: 2,
        stage,
    };

    // Stage 1: one specialist per task, and its loss on each of its pairs.
    let reference = base()?;
    let mut tasks = Vec::new();
    for (name, mark, shift) in [("next", 2, 1), ("skip", 3, 9)] {
        let pairs = pairs(folder.path(), &tokenizer, mark, shift)?;
        let scores = score(&reference, &pairs, ScoreOptions::default(), name, &mut control)?;
        let mut task = TrainTask { name: name.into(), pairs, reference: scores, specialist_loss_nats: None };
        let mixer = MixerSpec::Pooled.build(&[task.pairs.len()], 60)?;
        let mut objective =
            Preference::new(vec![task.clone()], mixer, preference(ExcessMode::Raw, Stage::Specialist))?;
        let mut specialist = base()?;
        train(&mut specialist, &mut objective, &options(60), &Checkpoints::none(), &mut control)?;
        let scores = score(&specialist, &task.pairs, ScoreOptions::default(), name, &mut control)?;
        let losses = pair_losses(name, &loss, &scores, &task.reference)?;
        task.specialist_loss_nats = Some(losses.iter().map(|l| l.loss_nats).collect());
        tasks.push(task);
    }

    // Stage 2: the generalist works on the excess over those losses.
    let mixer = "ama-s".parse::<MixerSpec>()?.build(&[32, 32], 80)?;
    let mut objective =
        Preference::new(tasks.clone(), mixer, preference(ExcessMode::Clipped, Stage::Generalist))?;
    let mut generalist = base()?;
    let summary = train(&mut generalist, &mut objective, &options(80), &Checkpoints::none(), &mut control)?;
    let (first, last) = (summary.losses[0], summary.losses[summary.losses.len() - 1]);
    println!(
        "mean clipped excess: {first:.3} -> {last:.3} nats; weights {:?}",
        objective.mixer().averaged_alpha()
    );
    assert!(last < 0.5 * first, "the generalist closes in on both specialists");
    Ok(())
}
