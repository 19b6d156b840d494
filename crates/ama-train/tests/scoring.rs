//! Scoring through the cache: only what is missing is computed, and a cut pass ends with the same bits.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use ama_specialist_cache::{PairScore, ScoreKey, ScoreStore};
use ama_train::{Control, Observer, ScoreOptions, Silent, TrainError, score_cached};

const OPTIONS: ScoreOptions = ScoreOptions { micro_batch_tokens: 60 };

fn bits(scores: &[PairScore]) -> Vec<(u64, u64)> {
    scores.iter().map(|s| (s.chosen_logp.to_bits(), s.rejected_logp.to_bits())).collect()
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
        assert!(matches!(stopped, Err(TrainError::Interrupted { .. })));
        let before = model.forwards();
        assert_eq!(bits(&run(&store)), bits(&whole), "cut after {cut} passes");
        assert_eq!(model.forwards() - before, (passes - cut) as u64, "only what was missing was run");
        assert_eq!(bits(&run(&store)), bits(&whole));
        assert_eq!(model.forwards() - before, (passes - cut) as u64, "nothing is run again");
    }
}
