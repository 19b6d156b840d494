//! Packing changes nothing: shared prompts against separate sequences, many pairs against each alone, hostile batches.

mod packing;

use ama_model::{Init, Llama, LlamaConfig, ModelError, ParamGrads, SequenceLogp};
use packing::{Packed, Pair};

fn model() -> Llama {
    let config = r#"{"model_type": "llama", "hidden_size": 40, "intermediate_size": 56, "num_hidden_layers": 3,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10, "vocab_size": 53,
        "tie_word_embeddings": true}"#;
    let config = LlamaConfig::from_json_str(config, "test".as_ref()).unwrap();
    Llama::random(&config, 5, Init::Scaled).unwrap()
}

fn tokens(count: usize, salt: u32) -> Vec<u32> {
    (0..count as u32).map(|i| (i * i * 7 + i * 13 + salt * 31) % 53).collect()
}

/// Ragged on purpose: one-token prompts and completions, and a segment longer than an attention tile.
fn pairs() -> Vec<Pair> {
    [(7, 5, 9), (1, 1, 1), (1, 12, 2), (33, 1, 4), (300, 290, 3)]
        .iter()
        .enumerate()
        .map(|(i, &(p, c, r))| {
            let salt = 3 * i as u32;
            Pair::new(&tokens(p, salt), &tokens(c, salt + 1), &tokens(r, salt + 2))
        })
        .collect()
}

/// Gradients for `d loss / d sum_nats` of -0.3, 0.2, -0.3, ... per sequence, scaled differently per pair.
fn gradients(model: &Llama, packed: &Packed, grads: &mut ParamGrads, first_pair: usize) -> Vec<SequenceLogp> {
    let upstream = |logps: &[SequenceLogp]| {
        let slope =
            |q: usize| (if q.is_multiple_of(2) { -0.3 } else { 0.2 }) / (1.0 + (first_pair + q / 2) as f64);
        Ok::<_, ModelError>((0..logps.len()).map(slope).collect())
    };
    model.accumulate_gradients(&packed.view(), grads, upstream).unwrap()
}

#[track_caller]
fn same(got: &ParamGrads, want: &ParamGrads) {
    for (index, (got, want)) in got.iter().zip(want.iter()).enumerate() {
        let largest = want.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        assert!(largest > 0.0);
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() <= 2e-5 * largest, "parameter {index}: {got}, want {want}");
        }
    }
}

#[test]
fn a_shared_prompt_is_exact() {
    let (model, pairs) = (model(), pairs());
    let (shared, alone) = (Packed::pairs(&pairs), Packed::unshared(&pairs));
    assert!(shared.ids.len() < alone.ids.len());
    let (mut got, mut want) = (ParamGrads::zeros(model.params()), ParamGrads::zeros(model.params()));
    let logps = gradients(&model, &shared, &mut got, 0);
    for (a, b) in logps.iter().zip(gradients(&model, &alone, &mut want, 0)) {
        assert_eq!(a.tokens, b.tokens);
        assert!((a.sum_nats - b.sum_nats).abs() < 1e-5 * b.sum_nats.abs(), "{a:?} {b:?}");
    }
    same(&got, &want);
}

/// Pairs of about one size, so that they can be dealt out.
fn even_pairs() -> Vec<Pair> {
    (0..9).map(|i| Pair::new(&tokens(30 + i, i as u32), &tokens(25, 7), &tokens(20 + i, 9))).collect()
}

#[test]
fn lanes_change_rounding_and_threads_change_nothing() {
    let batch = Packed::pairs(&even_pairs());
    let (mut whole, mut cut) = (model(), model());
    whole.set_lanes(1);
    cut.set_lanes(3);
    let mut want = ParamGrads::zeros(whole.params());
    let want_logps = gradients(&whole, &batch, &mut want, 0);
    let mut first: Option<(ParamGrads, Vec<SequenceLogp>)> = None;
    for threads in [1, 2, 3, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut got = ParamGrads::zeros(cut.params());
        let logps = pool.install(|| gradients(&cut, &batch, &mut got, 0));
        same(&got, &want);
        for (a, b) in logps.iter().zip(&want_logps) {
            assert_eq!(a.tokens, b.tokens);
            assert!((a.sum_nats - b.sum_nats).abs() < 1e-5 * b.sum_nats.abs(), "{a:?} {b:?}");
        }
        assert_eq!(pool.install(|| cut.logps(&batch.view())).unwrap(), logps, "without a tape");
        let (grads, before) = first.get_or_insert((got.clone(), logps.clone()));
        assert!(*grads == got && *before == logps, "{threads} threads, other bits");
        // A second pass adds to the gradients; the lanes' own buffers were left clean.
        pool.install(|| gradients(&cut, &batch, &mut got, 0));
        let mut twice = grads.clone();
        twice.scale(2.0);
        same(&got, &twice);
    }
    let refused = cut.accumulate_gradients(&batch.view(), &mut want, |_| {
        Err(ModelError::Shape { key: "test".into(), got: "no".into(), want: "yes".into() })
    });
    assert!(matches!(refused, Err(ModelError::Shape { .. })));
}

#[test]
fn layers_that_run_again_in_backward_give_the_same_bits() {
    let batch = Packed::pairs(&pairs());
    let (plain, mut again) = (model(), model());
    again.set_checkpoint_activations(true);
    let (mut want, mut got) = (ParamGrads::zeros(plain.params()), ParamGrads::zeros(plain.params()));
    assert_eq!(gradients(&again, &batch, &mut got, 0), gradients(&plain, &batch, &mut want, 0));
    assert!(got == want);
}

#[test]
fn pairs_do_not_see_each_other() {
    let (model, pairs) = (model(), pairs());
    let (mut got, mut want) = (ParamGrads::zeros(model.params()), ParamGrads::zeros(model.params()));
    let together = gradients(&model, &Packed::pairs(&pairs), &mut got, 0);
    for (i, pair) in pairs.iter().enumerate() {
        let alone = gradients(&model, &Packed::pairs(std::slice::from_ref(pair)), &mut want, i);
        for (a, b) in together[2 * i..].iter().zip(&alone) {
            assert!((a.sum_nats - b.sum_nats).abs() < 1e-5 * b.sum_nats.abs(), "{a:?} {b:?}");
        }
    }
    same(&got, &want);
}

#[test]
fn completions_may_lie_anywhere_after_their_prompt() {
    let (model, pairs) = (model(), pairs());
    let mut scattered = Packed::empty();
    let prompts: Vec<u32> = pairs.iter().map(|p| scattered.segment(&p.prompt, None)).collect();
    for (pair, &prompt) in pairs.iter().zip(&prompts) {
        scattered.completion(prompt, &pair.chosen);
        scattered.completion(prompt, &pair.rejected);
    }
    let (mut got, mut want) = (ParamGrads::zeros(model.params()), ParamGrads::zeros(model.params()));
    gradients(&model, &scattered, &mut got, 0);
    gradients(&model, &Packed::pairs(&pairs), &mut want, 0);
    same(&got, &want);
}

#[test]
fn the_same_call_gives_the_same_bits() {
    let (model, packed) = (model(), Packed::pairs(&pairs()));
    let run = || {
        let mut grads = ParamGrads::zeros(model.params());
        (gradients(&model, &packed, &mut grads, 0), grads)
    };
    let (first, grads) = run();
    for _ in 0..3 {
        assert!((first.clone(), grads.clone()) == run());
    }
    assert_eq!(model.logps(&packed.view()).unwrap(), first, "with and without a tape");
}

#[test]
fn a_small_head_budget_changes_only_rounding() {
    let (mut model, packed) = (model(), Packed::pairs(&pairs()));
    let (mut got, mut want) = (ParamGrads::zeros(model.params()), ParamGrads::zeros(model.params()));
    gradients(&model, &packed, &mut want, 0);
    model.set_head_bytes(1);
    gradients(&model, &packed, &mut got, 0);
    same(&got, &want);
}

#[test]
fn gradients_add_up_and_zero_upstream_runs_no_backward() {
    let (model, packed) = (model(), Packed::pairs(&pairs()));
    let (mut once, mut twice) = (ParamGrads::zeros(model.params()), ParamGrads::zeros(model.params()));
    gradients(&model, &packed, &mut once, 0);
    gradients(&model, &packed, &mut twice, 0);
    gradients(&model, &packed, &mut twice, 0);
    once.scale(2.0);
    same(&twice, &once);
    let before = twice.clone();
    let zero = |l: &[SequenceLogp]| Ok::<_, ModelError>(vec![0.0; l.len()]);
    model.accumulate_gradients(&packed.view(), &mut twice, zero).unwrap();
    assert_eq!(twice, before);
    assert_eq!(model.forwards(), 4);
    assert_eq!(model.clone().forwards(), 0);
}

#[test]
fn a_bad_answer_or_a_refusal_leaves_the_gradients_alone() {
    #[derive(Debug)]
    enum Stop {
        Model(ModelError),
        Caller,
    }
    impl From<ModelError> for Stop {
        fn from(e: ModelError) -> Self {
            Self::Model(e)
        }
    }
    let (model, packed) = (model(), Packed::pairs(&pairs()));
    let mut grads = ParamGrads::zeros(model.params());
    let before = grads.clone();
    let mut run = |answer: Result<Vec<f64>, Stop>| {
        let error = model.accumulate_gradients(&packed.view(), &mut grads, |_| answer).unwrap_err();
        assert_eq!(grads, before);
        error
    };
    assert!(matches!(run(Err(Stop::Caller)), Stop::Caller));
    for (answer, sequence) in [
        (vec![1.0; 9], 9),
        (vec![1.0; 11], 10),
        ([vec![0.5; 3], vec![f64::NAN; 7]].concat(), 3),
        (vec![1e300; 10], 0),
    ] {
        let error = run(Ok(answer));
        assert!(
            matches!(error, Stop::Model(ModelError::Upstream { sequence: s, .. }) if s == sequence),
            "{error:?}"
        );
    }
    let other = LlamaConfig::from_json_str(
        r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": 53}"#,
        "test".as_ref(),
    );
    let other = Llama::random(&other.unwrap(), 0, Init::Hf { std: 0.02 }).unwrap();
    let mut foreign = ParamGrads::zeros(other.params());
    let error =
        model.accumulate_gradients(&packed.view(), &mut foreign, |_| Ok::<_, ModelError>(vec![1.0; 10]));
    assert!(matches!(error, Err(ModelError::Shape { .. })));
}

#[test]
fn hostile_batches_are_refused_by_field_and_index() {
    let (model, good) = (model(), Packed::pairs(&pairs()[..2]));
    let rows = good.rows.len() as u32;
    type Damage = fn(&mut Packed);
    let cases: [(&str, usize, Damage); 13] = [
        ("ids", 3, |p| p.ids[3] = 53),
        ("ids", 0, |p| p.ids[0] = u32::MAX),
        ("targets", 2, |p| p.targets[2] = 53),
        ("rows", 1, |p| p.rows[1] = p.ids.len() as u32),
        ("segment_offsets", 0, |p| p.segment_offsets[0] = 1),
        ("segment_offsets", 2, |p| p.segment_offsets[2] = p.segment_offsets[1]),
        ("segment_offsets", 3, |p| p.segment_offsets[3] = 1),
        ("segment_offsets", 4, |p| *p.segment_offsets.last_mut().unwrap() += 1),
        ("segment_prefix", 0, |p| p.segment_prefix[0] = Some(0)),
        ("segment_prefix", 1, |p| p.segment_prefix[1] = Some(u32::MAX)),
        ("segment_prefix", 2, |p| p.segment_prefix[2] = Some(1)),
        ("sequence_offsets", 1, |p| p.sequence_offsets[1] = 0),
        ("sequence_offsets", 4, |p| *p.sequence_offsets.last_mut().unwrap() += 1),
    ];
    for (field, index, damage) in cases {
        let mut bad = good.clone();
        damage(&mut bad);
        match model.logps(&bad.view()) {
            Err(ModelError::Batch { field: f, index: i, .. }) => assert_eq!((f, i), (field, index)),
            other => panic!("{field}[{index}]: {other:?}"),
        }
    }
    let lengths: [(&str, Damage); 4] = [
        ("segment_offsets", |p| p.segment_offsets.clear()),
        ("segment_offsets", |p| p.segment_offsets.push(9)),
        ("targets", |p| p.targets.truncate(1)),
        ("sequence_offsets", |p| p.sequence_offsets.clear()),
    ];
    for (field, damage) in lengths {
        let mut bad = good.clone();
        damage(&mut bad);
        let error = model.logps(&bad.view()).unwrap_err();
        assert!(matches!(error, ModelError::BatchLength { field: f, .. } if f == field), "{error}");
    }
    assert_eq!(model.logps(&Packed::empty().view()).unwrap(), []);
    assert!(rows > 0 && model.logps(&good.view()).is_ok());
}
