//! Which words tell a group of rows from the others.

use std::collections::{BTreeMap, BTreeSet};

use super::features::tokens;
use crate::row::RowContent;

/// Most words that are counted; the memory's bound. Words that come later are left out.
const MAX_WORDS: usize = 50_000;
/// Words that are shown for a group.
const SHOWN: usize = 8;

/// Which rows hold which word.
#[derive(Default)]
pub(super) struct Words {
    rows: u32,
    holders: BTreeMap<String, Vec<u32>>,
}

impl Words {
    /// Notes the words of the next row: two letters and more, of the prompt and the preferred completion.
    pub(super) fn add(&mut self, content: &RowContent) {
        if let RowContent::Text { prompt, chosen: completion, .. }
        | RowContent::Completion { prompt, completion } = content
        {
            let words: BTreeSet<String> = [prompt, completion]
                .into_iter()
                .flat_map(|text| tokens(text))
                .map(str::to_lowercase)
                .filter(|word| word.chars().nth(1).is_some() && word.chars().all(char::is_alphabetic))
                .collect();
            for word in words {
                let room = self.holders.len() < MAX_WORDS;
                match self.holders.get_mut(&word) {
                    Some(rows) => rows.push(self.rows),
                    None if room => {
                        self.holders.insert(word, vec![self.rows]);
                    }
                    None => {}
                }
            }
        }
        self.rows += 1;
    }

    /// For each group the words whose share of its rows is furthest above their share of the other rows.
    pub(super) fn telling(&self, labels: &[usize], groups: usize) -> Vec<Vec<String>> {
        let mut sizes = vec![0_u32; groups];
        for &label in labels {
            sizes[label] += 1;
        }
        let mut scored: Vec<Vec<(f64, &str)>> = vec![Vec::new(); groups];
        for (word, rows) in &self.holders {
            let mut inside = vec![0_u32; groups];
            for &row in rows {
                inside[labels[row as usize]] += 1;
            }
            for (group, &with) in inside.iter().enumerate() {
                let share = f64::from(with) / f64::from(sizes[group].max(1));
                let others = f64::from(self.rows - sizes[group]).max(1.0);
                let elsewhere = (rows.len() as f64 - f64::from(with)) / others;
                if share > elsewhere {
                    scored[group].push((share - elsewhere, word));
                }
            }
        }
        scored
            .into_iter()
            .map(|mut words| {
                words.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
                words.into_iter().take(SHOWN).map(|(_, word)| word.to_owned()).collect()
            })
            .collect()
    }
}
