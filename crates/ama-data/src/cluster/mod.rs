//! Proposed tasks for pooled preference data that does not say what belongs together.
//!
//! A heuristic, and a cheap one: rows are bags of hashed words, word pairs and punctuation of the prompt and the chosen
//! completion, weighted by tf-idf, and k-means (`smartcore`) groups them. It finds what differs in its words (code,
//! sums, dialogues); it cannot know which differences matter to a preference. Look at the words and at a few rows of
//! each group before training specialists on them.

mod features;
mod words;
mod write;

use smartcore::cluster::kmeans::{KMeans, KMeansParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;

pub use write::write_tasks;

use self::features::{BUCKETS, Counts, Idf};
use self::words::Words;
use crate::error::DataError;
use crate::order::mix;
use crate::reader::{ReadOptions, RowReader};

/// Steps of one run of k-means; it ends earlier when nothing improves.
const MAX_STEPS: usize = 100;

/// How tasks are proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterOptions {
    /// Number of groups that are looked for; at least 2.
    pub k: usize,
    /// Everything random follows from it.
    pub seed: u64,
    /// About the most rows that the groups are found from, drawn at random; the others join the nearest group. Bounds
    /// memory: some 30 KiB a row, most of it the tree in which `smartcore` looks for neighbours.
    pub sample: usize,
    /// Runs of k-means from different beginnings, of which the tightest is taken.
    pub runs: u32,
}

impl ClusterOptions {
    /// `k` groups from at most about 20,000 rows, the best of 4 runs.
    pub fn new(k: usize) -> Self {
        Self { k, seed: 0, sample: 20_000, runs: 4 }
    }
}

/// One proposed task.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// Rows in it.
    pub rows: u64,
    /// The words that most tell it from the others, the most telling first; none for tokenised data.
    pub words: Vec<String>,
}

/// A proposal: which group every row belongs to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Proposal {
    /// Index into `groups` for every row, in the order of the reader.
    pub labels: Vec<u32>,
    /// The groups, the largest first. Fewer than `k` if the rows are not different enough.
    pub groups: Vec<Group>,
    /// Mean squared distance of the sampled rows from the mean of their group; rows have length 1.
    pub distortion: f64,
}

/// Proposes tasks for the rows of a file, a folder or a glob, which is read three times.
///
/// # Errors
/// As [`RowReader`]; fewer rows than groups, or fewer than 2 groups ([`DataError::Cluster`]).
pub fn propose(
    path_or_glob: &str,
    read: &ReadOptions,
    options: &ClusterOptions,
) -> Result<Proposal, DataError> {
    let refuse = |message: String| DataError::Cluster { pattern: path_or_glob.to_owned(), message };
    if options.sample < options.k {
        return Err(refuse(format!(
            "a sample of {} rows for k = {}; want at least k",
            options.sample, options.k
        )));
    }
    let mut rows = 0_usize;
    for row in RowReader::open_with(path_or_glob, read)? {
        row?;
        rows += 1;
    }
    let (mut counts, mut words) = (Vec::new(), Words::default());
    for (at, row) in RowReader::open_with(path_or_glob, read)?.enumerate() {
        let content = row?.content;
        if in_sample(at, rows, options) {
            counts.push(Counts::of(&content));
            words.add(&content);
        }
    }
    if options.k < 2 || options.k > counts.len() {
        let (k, most) = (options.k, counts.len());
        return Err(refuse(format!("k = {k}; want 2 to {most}, the number of rows that are looked at")));
    }
    let idf = Idf::of(&counts);
    let sample: Vec<Vec<f64>> = counts.iter().map(|counts| idf.weigh(counts)).collect();
    drop(counts);
    let matrix = DenseMatrix::from_2d_vec(&sample).map_err(|e| refuse(e.to_string()))?;
    let best = (0..options.runs.max(1))
        .map(|run| {
            let seed = options.seed.wrapping_add(u64::from(run));
            Found::in_sample(&sample, &matrix, options.k, seed)
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(refuse)?
        .into_iter()
        .min_by(|a, b| a.distortion.total_cmp(&b.distortion));
    let best = best.ok_or_else(|| refuse("no run of k-means".into()))?;
    let mut labels = Vec::with_capacity(rows);
    let mut sizes = vec![0_u64; best.means.len()];
    for row in RowReader::open_with(path_or_glob, read)? {
        let group = nearest(&best.means, &idf.weigh(&Counts::of(&row?.content))).0;
        sizes[group] += 1;
        labels.push(group);
    }
    let mut order: Vec<usize> = (0..sizes.len()).filter(|&group| sizes[group] > 0).collect();
    order.sort_by_key(|&group| (std::cmp::Reverse(sizes[group]), group));
    let place = |group: usize| order.iter().position(|&other| other == group).unwrap_or(0);
    let telling = words.telling(&best.labels, best.means.len());
    Ok(Proposal {
        labels: labels.into_iter().map(|group| place(group) as u32).collect(),
        groups: order
            .iter()
            .map(|&group| Group { rows: sizes[group], words: telling[group].clone() })
            .collect(),
        distortion: best.distortion,
    })
}

/// Whether a row is drawn into the sample. Draws are independent: rows that come in turns are not drawn in step.
fn in_sample(row: usize, rows: usize, options: &ClusterOptions) -> bool {
    // SplitMix64 at a place of its stream (Steele et al. 2014).
    let place = (row as u64 ^ options.seed.rotate_left(32)).wrapping_add(1);
    let share = options.sample as f64 / rows as f64;
    (mix(place.wrapping_mul(0x9e37_79b9_7f4a_7c15)) as f64) < share * u64::MAX as f64 || share >= 1.0
}

/// What one run of k-means found in the sample.
struct Found {
    /// Group of every sampled row.
    labels: Vec<usize>,
    /// Mean of every group that has rows, `BUCKETS` numbers each.
    means: Vec<Vec<f64>>,
    /// Mean squared distance from the mean.
    distortion: f64,
}

impl Found {
    /// `matrix` holds the rows of `sample`, as the library wants them.
    fn in_sample(
        sample: &[Vec<f64>],
        matrix: &DenseMatrix<f64>,
        k: usize,
        seed: u64,
    ) -> Result<Self, String> {
        let parameters = KMeansParameters { k, max_iter: MAX_STEPS, seed: Some(seed) };
        let fitted: KMeans<f64, usize, DenseMatrix<f64>, Vec<usize>> =
            KMeans::fit(matrix, parameters).map_err(|e| e.to_string())?;
        let labels: Vec<usize> = fitted.predict(matrix).map_err(|e| e.to_string())?;
        let mut means = vec![vec![0.0; BUCKETS]; k];
        let mut sizes = vec![0_usize; k];
        for (row, &label) in sample.iter().zip(&labels) {
            sizes[label] += 1;
            for (sum, x) in means[label].iter_mut().zip(row) {
                *sum += x;
            }
        }
        for (mean, &size) in means.iter_mut().zip(&sizes) {
            mean.iter_mut().for_each(|sum| *sum /= size.max(1) as f64);
        }
        let used: Vec<usize> = (0..k).filter(|&group| sizes[group] > 0).collect();
        let means: Vec<Vec<f64>> = used.iter().map(|&group| std::mem::take(&mut means[group])).collect();
        let (labels, distances): (Vec<usize>, Vec<f64>) =
            sample.iter().map(|row| nearest(&means, row)).unzip();
        let distortion = distances.iter().sum::<f64>() / sample.len() as f64;
        Ok(Self { labels, means, distortion })
    }
}

/// The nearest mean and the squared distance from it.
fn nearest(means: &[Vec<f64>], row: &[f64]) -> (usize, f64) {
    let distance = |mean: &[f64]| mean.iter().zip(row).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
    means
        .iter()
        .map(|mean| distance(mean))
        .enumerate()
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or((0, f64::INFINITY))
}
