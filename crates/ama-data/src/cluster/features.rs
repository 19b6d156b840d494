//! A row as a bag of hashed n-grams.

use crate::row::RowContent;

/// Numbers that a row becomes. Several n-grams share one: "the hashing trick" (Weinberger et al. 2009), without signs.
pub(super) const BUCKETS: usize = 512;

/// How often each bucket was hit by a row; most are not.
pub(super) struct Counts(Vec<(u16, u32)>);

impl Counts {
    /// Tokens and pairs of neighbouring tokens of the prompt and the preferred completion.
    pub(super) fn of(content: &RowContent) -> Self {
        let mut hits = [0_u32; BUCKETS];
        let mut count = |hashes: &mut dyn Iterator<Item = u64>| {
            let mut before = 0_u64;
            for hash in hashes {
                hits[bucket(hash)] += 1;
                hits[bucket(hash ^ before.rotate_left(23))] += 1;
                before = hash;
            }
        };
        match content {
            RowContent::Text { prompt, chosen: completion, .. }
            | RowContent::Completion { prompt, completion } => {
                for text in [prompt, completion] {
                    count(&mut tokens(text).map(|token| hash(token.to_lowercase().as_bytes())));
                }
            }
            RowContent::Ids { prompt, chosen, .. } => {
                for ids in [prompt, chosen] {
                    count(&mut ids.iter().map(|id| hash(&id.to_le_bytes())));
                }
            }
        }
        let hit = (0..).zip(hits).filter(|(_, count)| *count > 0);
        Self(hit.collect())
    }
}

/// Runs of letters and digits, and every other visible character by itself.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let end = if first.is_alphanumeric() {
            rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token)
    })
}

/// FNV-1a: the same on every machine and in every version.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn bucket(hash: u64) -> usize {
    // The high bits of a product with an odd constant depend on all bits of the hash.
    (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % BUCKETS
}

/// How rare each bucket is.
pub(super) struct Idf([f64; BUCKETS]);

impl Idf {
    /// `ln((1 + n) / (1 + rows with it)) + 1`, as scikit-learn smooths it.
    pub(super) fn of(rows: &[Counts]) -> Self {
        let mut with = [0_u32; BUCKETS];
        for (bucket, _) in rows.iter().flat_map(|row| &row.0) {
            with[usize::from(*bucket)] += 1;
        }
        Self(with.map(|with| ((1.0 + rows.len() as f64) / (1.0 + f64::from(with))).ln() + 1.0))
    }

    /// The row with weights `(1 + ln count) * idf`, scaled to length 1.
    pub(super) fn weigh(&self, row: &Counts) -> Vec<f64> {
        let mut weights = vec![0.0; BUCKETS];
        for &(bucket, count) in &row.0 {
            let bucket = usize::from(bucket);
            weights[bucket] = (1.0 + f64::from(count).ln()) * self.0[bucket];
        }
        let length = weights.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length > 0.0 {
            weights.iter_mut().for_each(|x| *x /= length);
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_signs() {
        let found: Vec<&str> = tokens("def f(x):\n    return 2*Übung ").collect();
        assert_eq!(found, ["def", "f", "(", "x", ")", ":", "return", "2", "*", "Übung"]);
        assert_eq!(tokens(" \n").count(), 0);
    }

    #[test]
    fn rare_buckets_weigh_more_and_rows_have_length_one() {
        let text = |prompt: &str| {
            Counts::of(&RowContent::Completion { prompt: prompt.into(), completion: "b".into() })
        };
        let rows = [text("a"), text("a"), text("rare")];
        let idf = Idf::of(&rows);
        let (common, rare) = (bucket(hash(b"a")), bucket(hash(b"rare")));
        assert!((idf.0[rare] - ((4.0_f64 / 2.0).ln() + 1.0)).abs() < 1e-12);
        assert!((idf.0[common] - ((4.0_f64 / 3.0).ln() + 1.0)).abs() < 1e-12);
        let row = idf.weigh(&rows[2]);
        assert!((row.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(row[rare] > row[bucket(hash(b"b"))]);
    }

    #[test]
    fn ids_are_hashed_too() {
        let ids =
            |prompt: Vec<u32>| Counts::of(&RowContent::Ids { prompt, chosen: vec![9], rejected: vec![8] }).0;
        assert_eq!(ids(vec![1, 2]), ids(vec![1, 2]));
        assert_ne!(ids(vec![1, 2]), ids(vec![2, 1]), "pairs of neighbours are told apart");
    }
}
