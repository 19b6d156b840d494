//! Scoring through the cache: only what is missing is computed, and a cut pass ends with the same bits.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use ama_specialist_cache::{PairScore, ScoreKey, ScoreStore};
use ama_train::{Control, Observer, ScoreOptions, Silent, TrainError, score, score_cached};

const OPTIONS: ScoreOptions = ScoreOptions { micro_batch_tokens: 60 };

fn bits(scores: &[PairScore]) -> Vec<(u64, u64)> {
    scores.iter().map(|s| (s.chosen_logp.to_bits(), s.rejected_logp.to_bits())).collect()
}

#[test]
fn a_stop_before_the_first_pass_runs_none() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = support::pairs(folder.path(), "pairs", 10, 3);
    let model = support::model(2);
    let key = ScoreKey { model: [1; 32], tokenizer: [2; 32], max_length: Some(64) };
    let store = ScoreStore::open(folder.path().join("store")).unwrap();
    let stop = AtomicBool::new(true);
    let stopped =
        score_cached(&model, &pairs, &key, &store, OPTIONS, "t", &mut Control::new(&stop, &mut Silent));
    let error = stopped.unwrap_err();
    assert!(matches!(error, TrainError::ScoringInterrupted { done: 0, total: 10, .. }), "{error:?}");
    assert_eq!(error.to_string(), "stopped with 0 of 10 pairs scored; there was nothing to keep");
    assert_eq!(model.forwards(), 0);
    let uncached = score(&model, &pairs, OPTIONS, "t", &mut Control::new(&stop, &mut Silent)).unwrap_err();
    assert!(uncached.to_string().contains("nothing was kept"), "{uncached}");
}

/// Stops after so many forward passes.
struct StopAfter<'a> {
    passes: usize,
    stop: &'a AtomicBool,
}

impl Observer for StopAfter<'_> {
    fn scored(&mut self, _: &str, _: u64, _: u64) {
        self.passes -= 1;
        self.stop.store(self.passes == 0, Ordering::Relaxed);
    }
}

#[test]
fn a_pass_that_was_cut_off_continues_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = support::pairs(folder.path(), "pairs", 40, 3);
    let model = support::model(2);
    let key = ScoreKey { model: [1; 32], tokenizer: [2; 32], max_length: Some(64) };
    let never = AtomicBool::new(false);
    let run = |store: &ScoreStore| {
        score_cached(&model, &pairs, &key, store, OPTIONS, "t", &mut Control::new(&never, &mut Silent))
            .unwrap()
    };
    let whole = run(&ScoreStore::open(folder.path().join("whole")).unwrap());
    let passes = model.forwards() as usize;
    assert!(passes > 4, "the store is cut into {passes} passes");

    for cut in 1..passes {
        let store = ScoreStore::open(folder.path().join(format!("cut{cut}"))).unwrap();
        let stop = AtomicBool::new(false);
        let mut observer = StopAfter { passes: cut, stop: &stop };
        let mut control = Control::new(&stop, &mut observer);
        let stopped = score_cached(&model, &pairs, &key, &store, OPTIONS, "t", &mut control);
        let Err(TrainError::ScoringInterrupted { done, total: 40, kept: Some(kept) }) = stopped else {
            panic!("{stopped:?}")
        };
        assert_eq!(kept, store.dir());
        assert_eq!(done as usize, store.load(&key).unwrap().len(), "what it says was kept is what was kept");
        let before = model.forwards();
        assert_eq!(bits(&run(&store)), bits(&whole), "cut after {cut} passes");
        assert_eq!(model.forwards() - before, (passes - cut) as u64, "only what was missing was run");
        assert_eq!(bits(&run(&store)), bits(&whole));
        assert_eq!(model.forwards() - before, (passes - cut) as u64, "nothing is run again");
    }
}
