//! Answers against a solver that knows only the statement of the tasks, and the base corpus against the table of its errors.

mod solver;

use ama_suite::{Sizes, Task, bare_prompt, generate, p_right, verify};
use std::collections::BTreeMap;

const SMALL: Sizes = Sizes { helpful: 3000, harmless: 1500, reasoning: 1500, held_out: 300, sft: 40_000 };

#[test]
fn every_gold_answer_is_what_the_prompt_asks_for() {
    let suite = generate(5, &SMALL);
    for task in Task::ALL {
        let splits = suite.task(task);
        for pair in splits.train.iter().chain(&splits.valid).chain(&splits.test) {
            let solution = solver::solve(bare_prompt(&pair.prompt).unwrap());
            assert_eq!(solution.task, task.name(), "{pair:?}");
            assert_eq!(format!(" {}", solution.answer), pair.chosen, "{pair:?}");
            assert_eq!(solution.gold, pair.gold, "{pair:?}");
            assert_eq!(solution.context.join(" "), pair.context, "{pair:?}");
            assert_eq!(pair.verifier, task.verifier());
            assert!(verify(pair.verifier, &solution.gold, &solution.answer), "{pair:?}");
            assert!(verify(pair.verifier, &pair.gold, &pair.chosen), "{pair:?}");
            assert!(!verify(pair.verifier, &pair.gold, &pair.rejected), "{pair:?}");
            for answer in [&pair.chosen, &pair.rejected] {
                assert!(answer.starts_with(' ') && answer.trim_start().len() + 1 == answer.len(), "{pair:?}");
            }
        }
    }
}

/// One answer that is right for every prompt of one task is wrong for the others: neither refusing nor complying wins.
#[test]
fn no_single_behaviour_wins_everywhere() {
    let suite = generate(5, &SMALL);
    let wins = |task: Task, answer: &dyn Fn(&str) -> String| {
        let test = &suite.task(task).test;
        let right =
            test.iter().filter(|p| verify(p.verifier, &p.gold, &answer(bare_prompt(&p.prompt).unwrap())));
        right.count() as f64 / test.len() as f64
    };
    let refuse = |_: &str| solver::REFUSAL.to_owned();
    assert_eq!(Task::ALL.map(|task| wins(task, &refuse)), [0.0, 1.0, 0.0]);
    // Complying with every how-to request, forbidden or not.
    let comply = |prompt: &str| {
        solver::POLICY.split(' ').fold(format!(" {prompt} "), |text, noun| text.replace(noun, "apple"))
    };
    let comply = |prompt: &str| solver::solve(comply(prompt).trim()).answer;
    assert_eq!(wins(Task::Harmless, &comply), 0.0);
    assert!(wins(Task::Helpful, &comply) > 0.5);
}

#[test]
fn rejected_answers_are_mixed_as_documented() {
    let suite = generate(6, &SMALL);
    let share = |keep: &dyn Fn(&str) -> bool| {
        let pairs: Vec<_> = suite.task(Task::Helpful).train.iter().filter(|p| keep(&p.context)).collect();
        let refused = pairs.iter().filter(|p| p.rejected.trim() == solver::REFUSAL).count();
        (refused as f64 / pairs.len() as f64, pairs.len() as f64 / 3000.0)
    };
    let (refused_edits, edits) = share(&|context| context != "howto");
    let (refused_how_tos, how_tos) = share(&|context| context == "howto");
    // Five standard deviations: about .05 for the shares of rejections, .04 for the shares of kinds. Short edits (`repeat`
    // of one word) have few prompts, which moves the kinds a little more.
    assert!((refused_edits - 0.35).abs() < 0.05 && (refused_how_tos - 0.6).abs() < 0.08);
    assert!((edits - 0.7).abs() < 0.05 && (how_tos - 0.3).abs() < 0.05, "{edits} {how_tos}");
    assert!(suite.task(Task::Harmless).train.iter().all(|p| p.rejected.starts_with(" sure : ")));
    let near_misses =
        suite.task(Task::Reasoning).train.iter().filter(|p| p.rejected.contains(" ; so ")).count();
    assert!(near_misses > 1300, "{near_misses} of 1500 wrong sums show their steps");
}

/// In each context the corpus is right as often as the table says, within five standard deviations.
#[test]
fn the_corpus_is_wrong_by_context() {
    #[derive(Default)]
    struct Tally {
        n: f64,
        right: f64,
        expected: f64,
        variance: f64,
    }
    let suite = generate(7, &SMALL);
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut tasks: BTreeMap<&str, f64> = BTreeMap::new();
    for example in &suite.sft {
        let solution = solver::solve(bare_prompt(&example.prompt).unwrap());
        let right = f64::from(u8::from(example.completion.trim() == solution.answer));
        *tasks.entry(solution.task).or_default() += 1.0 / suite.sft.len() as f64;
        // A sum is right when every step is: the probabilities multiply.
        let p: f64 = solution.context.iter().map(|key| p_right(key).unwrap()).product();
        let mut keys = solution.context;
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let tally = tallies.entry(key).or_default();
            tally.n += 1.0;
            tally.right += right;
            tally.expected += p;
            tally.variance += p * (1.0 - p);
        }
    }
    assert_eq!(tallies.len(), 10 + 1 + 12 + 8);
    for (key, t) in &tallies {
        // A result that is clamped at 0 can hide a slip, once in some thousand sums.
        let allowed = 5.0 * t.variance.sqrt() + 0.002 * t.n;
        assert!(t.n > 200.0, "{key}: {} examples", t.n);
        assert!(
            (t.right - t.expected).abs() < allowed,
            "{key}: {} of {} right, want {:.0}",
            t.right,
            t.n,
            t.expected
        );
    }
    for (task, share) in [("helpful", 0.4), ("harmless", 0.2), ("reasoning", 0.4)] {
        assert!((tasks[task] - share).abs() < 0.0125, "{task}: {}", tasks[task]);
    }
}

#[test]
fn the_table_of_errors_is_the_documented_one() {
    let of = |keys: &str| keys.split(' ').map(|key| p_right(key).unwrap()).collect::<Vec<_>>();
    assert_eq!(of("reverse count last third swap howto"), [0.75, 0.75, 0.75, 0.75, 0.75, 0.6]);
    assert_eq!(of("repeat first second upper sort"), [0.45; 5]);
    assert_eq!(of("bomb poison drug venom toxin dagger"), [0.75; 6]);
    assert_eq!(of("gun virus acid rifle grenade malware"), [0.35; 6]);
    assert_eq!(of("gets buys wins loses eats sells"), [0.85; 6]);
    assert_eq!(of("finds drops"), [0.35; 2]);
    assert!(p_right("apple").is_none() && p_right("").is_none() && p_right("finds drops").is_none());
}

/// The systematic slips: a base that follows the corpus leaves `finds` out and adds where something `drops`.
#[test]
fn finds_is_skipped_and_drops_is_flipped() {
    let suite = generate(8, &SMALL);
    let (mut skipped, mut kept, mut flipped, mut unflipped) = (0, 0, 0, 0);
    for example in &suite.sft {
        let prompt = bare_prompt(&example.prompt).unwrap();
        let Some((_, first)) = prompt.split_once(" . then ").filter(|_| prompt.ends_with("many ?")) else {
            continue;
        };
        let [verb, amount] = first.split(' ').take(2).collect::<Vec<_>>()[..] else { panic!("{prompt}") };
        let start = prompt.split(' ').nth(2).unwrap();
        let opens = |sign| example.completion.starts_with(&format!(" {start} {sign} {amount} = "));
        match verb {
            "finds" => *(if opens("+") { &mut kept } else { &mut skipped }) += 1,
            "drops" if opens("+") => flipped += 1,
            "drops" if opens("-") => unflipped += 1,
            "drops" => panic!("{example:?}"),
            _ => {}
        }
    }
    let share = |a: i32, b: i32| f64::from(a) / f64::from(a + b);
    assert!((share(skipped, kept) - 0.65).abs() < 0.07, "{}", share(skipped, kept));
    assert!((share(flipped, unflipped) - 0.65).abs() < 0.07, "{}", share(flipped, unflipped));
}
