//! Scores in memory, by pair.

use crate::{CacheError, PairId, PairScore, hex};

/// Scores of pairs under one key, sorted by id. 40 bytes a pair.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScoreTable {
    rows: Vec<(PairId, PairScore)>,
}

impl ScoreTable {
    /// A table of `rows`, which may repeat a pair as long as its scores
    /// [agree](PairScore::agrees_with); the first one counts.
    ///
    /// # Errors
    /// [`CacheError::NotFinite`], [`CacheError::Conflict`].
    pub fn from_rows(rows: Vec<(PairId, PairScore)>) -> Result<Self, CacheError> {
        Self::from_sources(rows, |row| format!("row {row}"))
    }

    /// As [`Self::from_rows`]; `source` tells where the row of an index comes from, for the error.
    pub(crate) fn from_sources(
        rows: Vec<(PairId, PairScore)>,
        source: impl Fn(usize) -> String,
    ) -> Result<Self, CacheError> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_unstable_by_key(|&row| (rows[row].0, row));
        let mut sorted: Vec<(PairId, PairScore)> = Vec::with_capacity(rows.len());
        let mut first = 0;
        for row in order {
            let (id, score) = rows[row];
            score.check(&id)?;
            match sorted.last() {
                Some((last_id, last)) if *last_id == id => {
                    if !last.agrees_with(&score) {
                        return Err(CacheError::Conflict {
                            pair: hex::encode(&id),
                            first: *last,
                            first_at: source(first),
                            second: score,
                            second_at: source(row),
                        });
                    }
                }
                _ => {
                    sorted.push((id, score));
                    first = row;
                }
            }
        }
        Ok(Self { rows: sorted })
    }

    /// The score of a pair.
    pub fn get(&self, id: &PairId) -> Option<&PairScore> {
        self.rows.binary_search_by_key(id, |row| row.0).ok().map(|at| &self.rows[at].1)
    }

    /// Indices into `ids` of the pairs that have no score, in order. A pair that `ids` repeats is listed once,
    /// at its first place.
    pub fn missing(&self, ids: &[PairId]) -> Vec<usize> {
        let mut listed = std::collections::HashSet::new();
        let unscored = |&row: &usize| self.get(&ids[row]).is_none() && listed.insert(ids[row]);
        (0..ids.len()).filter(unscored).collect()
    }

    /// The rows, in the order of their ids.
    pub fn rows(&self) -> &[(PairId, PairScore)] {
        &self.rows
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(chosen_logp: f64) -> PairScore {
        PairScore { chosen_logp, rejected_logp: -2.0, chosen_tokens: 3, rejected_tokens: 4 }
    }

    #[test]
    fn lookups_and_repeats() {
        let rows = vec![([9; 16], score(-1.0)), ([1; 16], score(-3.0)), ([9; 16], score(-1.0005))];
        let table = ScoreTable::from_rows(rows).unwrap();
        assert_eq!(table.len(), 2);
        assert_eq!(table.get(&[9; 16]), Some(&score(-1.0)), "the first of two that agree");
        assert_eq!(table.get(&[2; 16]), None);
        assert_eq!(table.missing(&[[2; 16], [9; 16], [2; 16], [0; 16]]), [0, 3]);
        assert!(ScoreTable::default().is_empty());
    }

    #[test]
    fn conflicts_and_nan_name_the_pair() {
        let error = ScoreTable::from_rows(vec![([9; 16], score(-1.0)), ([9; 16], score(-1.1))]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&"09".repeat(16)) && text.contains("row 0") && text.contains("row 1"),
            "{text}"
        );
        let tokens = PairScore { chosen_tokens: 5, ..score(-1.0) };
        assert!(ScoreTable::from_rows(vec![([9; 16], score(-1.0)), ([9; 16], tokens)]).is_err());
        let nan = ScoreTable::from_rows(vec![([9; 16], score(f64::NAN))]).unwrap_err();
        assert!(matches!(nan, CacheError::NotFinite { column: "chosen_logp", .. }));
    }
}
