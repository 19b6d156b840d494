//! Loss tables and score files.

use ama_specialist_cache::{
    CacheError, LossMeta, PairId, PairScore, RowScore, ScoreKey, ScoreTable, derive_losses, read_losses,
    read_losses_of, read_row_scores, read_scores_parquet, write_losses, write_row_scores,
    write_scores_parquet,
};
use std::fs;

const POLICY: ScoreKey = ScoreKey { model: [1; 32], tokenizer: [2; 32], max_length: Some(64) };
const REFERENCE: ScoreKey = ScoreKey { model: [7; 32], ..POLICY };

fn score(chosen_logp: f64, rejected_logp: f64) -> PairScore {
    PairScore { chosen_logp, rejected_logp, chosen_tokens: 4, rejected_tokens: 6 }
}

fn meta() -> LossMeta {
    LossMeta {
        policy: POLICY,
        reference: REFERENCE,
        task: "harmless".to_owned(),
        loss: "sigmoid beta=0.1 sft=3".to_owned(),
    }
}

fn tables() -> (ScoreTable, ScoreTable) {
    let policy = [([2; 16], score(-8.0, -12.0)), ([1; 16], score(-5.0, -5.0))];
    let reference =
        [([1; 16], score(-5.0, -7.0)), ([2; 16], score(-10.0, -11.0)), ([3; 16], score(0.0, 0.0))];
    (ScoreTable::from_rows(policy.to_vec()).unwrap(), ScoreTable::from_rows(reference.to_vec()).unwrap())
}

fn dpo(beta: f64) -> impl Fn(&PairScore, &PairScore) -> f64 {
    move |policy, reference| {
        let chosen = policy.chosen_logp - reference.chosen_logp;
        let rejected = policy.rejected_logp - reference.rejected_logp;
        (-beta * (chosen - rejected)).exp().ln_1p()
    }
}

/// Pair 2: margin beta (2 - (-1)) = 3 beta; pair 1: beta (0 - 2) = -2 beta. -ln sigmoid of them by Python:
/// log1p(exp(-.3)) = .5543552444685271, log1p(exp(.2)) = .7981388693815918; with beta 1: .04858735157374196,
/// 2.1269280110429727.
#[test]
fn another_beta_needs_no_new_scores() {
    let (policy, reference) = tables();
    let ids: [PairId; 2] = [[2; 16], [1; 16]];
    for (beta, want) in
        [(0.1, [0.5543552444685271, 0.7981388693815918]), (1.0, [0.04858735157374196, 2.1269280110429727])]
    {
        let rows = derive_losses(&ids, &policy, &reference, dpo(beta)).unwrap();
        for ((row, id), want) in rows.iter().zip(ids).zip(want) {
            assert_eq!(row.id, id, "the order of `ids`");
            assert!((row.loss_nats - want).abs() < 1e-15, "{} vs {want}", row.loss_nats);
        }
    }
}

#[test]
fn tables_round_trip_and_know_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("losses.parquet");
    let (policy, reference) = tables();
    let rows = derive_losses(&[[2; 16], [1; 16]], &policy, &reference, dpo(0.1)).unwrap();
    write_losses(&path, &meta(), &rows[..1]).unwrap();
    write_losses(&path, &meta(), &rows).unwrap(); // replaces
    assert_eq!(read_losses(&path).unwrap(), (meta(), rows.clone()));
    assert_eq!(read_losses_of(&path, &meta()).unwrap(), rows);

    let fields = [
        ("policy.model", LossMeta { policy: REFERENCE, ..meta() }),
        ("policy.max_length", LossMeta { policy: ScoreKey { max_length: None, ..POLICY }, ..meta() }),
        (
            "reference.tokenizer",
            LossMeta { reference: ScoreKey { tokenizer: [0; 32], ..REFERENCE }, ..meta() },
        ),
        ("task", LossMeta { task: "helpful".to_owned(), ..meta() }),
        ("loss", LossMeta { loss: "sigmoid beta=0.2 sft=3".to_owned(), ..meta() }),
    ];
    for (want, other) in fields {
        match read_losses_of(&path, &other) {
            Err(CacheError::Mismatch { field, .. }) => assert_eq!(field, want),
            other => panic!("{want}: {other:?}"),
        }
    }
}

#[test]
fn an_empty_table_round_trips() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("losses.parquet");
    write_losses(&path, &meta(), &[]).unwrap();
    assert_eq!(read_losses(&path).unwrap(), (meta(), vec![]));
}

#[test]
fn bad_losses_are_refused_and_name_the_pair() {
    let (policy, reference) = tables();
    let missing = derive_losses(&[[3; 16]], &policy, &reference, dpo(0.1)).unwrap_err();
    assert!(matches!(&missing, CacheError::MissingScore { which: "policy", .. }), "{missing}");
    assert!(missing.to_string().contains(&"03".repeat(16)));
    let missing = derive_losses(&[[1; 16]], &policy, &ScoreTable::default(), dpo(0.1)).unwrap_err();
    assert!(matches!(missing, CacheError::MissingScore { which: "reference", .. }));
    let nan = derive_losses(&[[1; 16]], &policy, &reference, |_, _| f64::NAN).unwrap_err();
    assert!(matches!(nan, CacheError::NotFinite { column: "loss_nats", .. }));
    let shorter = PairScore { rejected_tokens: 5, ..score(-5.0, -7.0) };
    let shorter = ScoreTable::from_rows(vec![([1; 16], shorter)]).unwrap();
    let tokens = derive_losses(&[[1; 16]], &policy, &shorter, dpo(0.1)).unwrap_err();
    assert!(matches!(
        tokens,
        CacheError::TokenMismatch { column: "rejected_tokens", policy: 6, reference: 5, .. }
    ));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("losses.parquet");
    let mut rows = derive_losses(&[[1; 16]], &policy, &reference, dpo(0.1)).unwrap();
    let reserved = LossMeta { task: "ama.blake3: is the marker".to_owned(), ..meta() };
    assert!(matches!(
        write_losses(&path, &reserved, &rows),
        Err(CacheError::ReservedText { field: "task", .. })
    ));
    rows[0].loss_nats = f64::INFINITY;
    assert!(matches!(write_losses(&path, &meta(), &rows), Err(CacheError::NotFinite { .. })));
    assert!(!path.exists());
}

#[test]
fn score_files_keep_order_and_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.parquet");
    let rows =
        vec![([9; 16], score(-1.0, -2.0)), ([1; 16], score(-0.1, -1e300)), ([9; 16], score(-1.0, -2.0))];
    write_scores_parquet(&path, &rows).unwrap();
    assert_eq!(read_scores_parquet(&path).unwrap(), rows);

    assert!(write_scores_parquet(&path, &[([1; 16], score(f64::NAN, 0.0))]).is_err());
    assert_eq!(read_scores_parquet(&path).unwrap(), rows, "the refused write left the file alone");
    let nowhere = folder.path().join("no/such/folder/scores.parquet");
    assert!(matches!(write_scores_parquet(&nowhere, &rows), Err(CacheError::Io { .. })));
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["scores.parquet"], "no unfinished file stays");
}

/// Every row of the data has its line, in order; one without a score says why.
#[test]
fn row_scores_keep_rows_without_a_score() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.parquet");
    let line = |row, id, score| RowScore { file: "a.jsonl".into(), row, id: [id; 16], score };
    let rows = vec![
        line(1, 9, Ok(score(-1.0, -2.0))),
        line(2, 1, Err("too long".into())),
        line(7, 9, Ok(score(-1.0, -2.0))),
    ];
    write_row_scores(&path, &rows).unwrap();
    assert_eq!(read_row_scores(&path).unwrap(), rows);
    assert!(matches!(read_scores_parquet(&path), Err(CacheError::Mismatch { .. })));

    assert!(write_row_scores(&path, &[line(1, 1, Ok(score(f64::NAN, 0.0)))]).is_err());
    let marked = RowScore { file: "ama.blake3:x".into(), ..rows[0].clone() };
    assert!(matches!(write_row_scores(&path, &[marked]), Err(CacheError::ReservedText { .. })));
    assert_eq!(read_row_scores(&path).unwrap(), rows, "the refused writes left the file alone");

    let reader = fs::File::open(&path).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(reader).unwrap();
    let columns: Vec<String> = reader
        .schema()
        .fields()
        .iter()
        .map(|field| format!("{} {} {}", field.name(), field.data_type(), field.is_nullable()))
        .collect();
    assert_eq!(
        columns,
        [
            "id Utf8 false",
            "file Utf8 false",
            "row UInt64 false",
            "chosen_logp Float64 true",
            "rejected_logp Float64 true",
            "chosen_tokens UInt32 true",
            "rejected_tokens UInt32 true",
            "reason Utf8 true"
        ]
    );
}

/// The columns as any Parquet reader sees them.
#[test]
fn the_schema_is_plain_parquet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.parquet");
    write_scores_parquet(&path, &[([0xab; 16], score(-1.5, -2.0))]).unwrap();
    let file = fs::File::open(&path).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let columns: Vec<String> = reader
        .schema()
        .fields()
        .iter()
        .map(|field| format!("{} {} {}", field.name(), field.data_type(), field.is_nullable()))
        .collect();
    assert_eq!(
        columns,
        [
            "id Utf8 false",
            "chosen_logp Float64 false",
            "rejected_logp Float64 false",
            "chosen_tokens UInt32 false",
            "rejected_tokens UInt32 false"
        ]
    );
}

#[cfg(unix)]
#[test]
fn files_are_as_readable_as_the_umask_allows() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let (ours, plain) = (folder.path().join("scores.parquet"), folder.path().join("plain"));
    write_scores_parquet(&ours, &[]).unwrap();
    fs::write(&plain, b"").unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&plain));
}
