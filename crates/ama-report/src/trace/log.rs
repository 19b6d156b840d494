//! Reads a `metrics.jsonl`, whole or within a number of bytes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::{Line, Trace};

/// Bytes that are read at a place of a log that is too long to be read whole.
const PIECE: u64 = 8 << 10;
/// A line that is longer is no line of ours.
const LONGEST_LINE: u64 = 4 << 20;

/// Reads the log at `path`; with a `limit` in bytes a longer log is read in pieces at even distances, so that the time
/// does not depend on its length. A last line without its end (of a run that was killed, or is just writing) is left
/// out.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read(path: &Path, limit: Option<u64>) -> std::io::Result<Trace> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut reader = Lines { reader: BufReader::with_capacity(PIECE as usize, file), buffer: Vec::new() };
    let mut trace = Trace::default();
    let Some(limit) = limit.filter(|&limit| length > limit.max(4 * PIECE)) else {
        reader.push(&mut trace, u64::MAX)?;
        return Ok(trace);
    };
    trace.sampled = true;
    let pieces = (limit / PIECE).max(4);
    let distance = length / pieces;
    // Whole lines only: each piece begins at the end of the line that it falls into.
    for piece in 0..pieces - 1 {
        reader.reader.seek(SeekFrom::Start(piece * distance))?;
        if piece > 0 {
            reader.skip()?;
        }
        reader.push(&mut trace, PIECE.min(distance / 2))?;
    }
    let end = 4 * PIECE;
    reader.reader.seek(SeekFrom::Start(length - end.min(distance / 2)))?;
    reader.skip()?;
    reader.push(&mut trace, u64::MAX)?;
    Ok(trace)
}

struct Lines {
    reader: BufReader<File>,
    buffer: Vec<u8>,
}

impl Lines {
    /// Reads up to the next end of a line; false at the end of the file.
    fn next(&mut self) -> std::io::Result<bool> {
        self.buffer.clear();
        self.reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut self.buffer)?;
        Ok(self.buffer.last() == Some(&b'\n'))
    }

    fn skip(&mut self) -> std::io::Result<()> {
        self.next().map(|_| ())
    }

    /// Counts whole lines into `trace` until `bytes` are read or the file ends.
    fn push(&mut self, trace: &mut Trace, bytes: u64) -> std::io::Result<()> {
        let mut read = 0;
        while read < bytes {
            if !self.next()? {
                if self.buffer.len() as u64 == LONGEST_LINE {
                    trace.damaged += 1;
                    read += LONGEST_LINE;
                    continue;
                }
                break;
            }
            read += self.buffer.len() as u64;
            match serde_json::from_slice::<Line>(&self.buffer) {
                Ok(line) => trace.push(line),
                Err(_) if self.buffer.iter().all(u8::is_ascii_whitespace) => {}
                Err(_) => trace.damaged += 1,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::trace::{Curve, Quantity};

    fn log(text: &[u8], limit: Option<u64>) -> Trace {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path, limit).unwrap()
    }

    #[test]
    fn torn_damaged_and_unknown() {
        let whole = b"{\"step\":1,\"loss\":2.0,\"novel\":{\"x\":[1]}}\n\nnonsense\n\xff\xfe\n{\"step\":2,\"loss\":1.0}\n";
        let mut text = whole.to_vec();
        text.extend(b"{\"step\":3,\"lo");
        let trace = log(&text, None);
        assert_eq!((trace.steps(), trace.lines, trace.damaged), (2, 2, 2));
        assert!(!trace.sampled);
        assert_eq!(log(b"", None).steps(), 0);
        assert_eq!(log(b"{\"step\":3", None).steps(), 0);
    }

    #[test]
    fn a_long_log_is_sampled_evenly_with_its_end() {
        let mut text = String::new();
        for step in 1..=200_000_u64 {
            writeln!(text, "{{\"step\":{step},\"loss\":{},\"drawn\":{{\"a\":2}}}}", step as f64 / 1e5)
                .unwrap();
        }
        let trace = log(text.as_bytes(), Some(256 << 10));
        assert!(trace.sampled && trace.damaged == 0);
        assert!(trace.lines < 20_000, "{} lines", trace.lines);
        assert_eq!(trace.steps(), 200_000);
        assert!((trace.drawn()["a"] - 400_000.0).abs() < 1.0);
        let curve = Trace::curve(&[&trace], Curve::Whole(Quantity::Loss), 50);
        assert!(curve.len() > 20);
        assert!(curve.iter().all(|point| (point.mean - point.step / 1e5).abs() < 0.03), "{curve:?}");
    }

    #[test]
    fn lines_longer_than_a_piece_are_read_too() {
        let long = "x".repeat(3 * PIECE as usize);
        let mut text = String::new();
        for step in 1..=200 {
            writeln!(text, "{{\"step\":{step},\"loss\":1.0,\"note\":\"{long}\"}}").unwrap();
        }
        let trace = log(text.as_bytes(), Some(10 * PIECE));
        assert!(trace.sampled && trace.damaged == 0 && trace.lines >= 4, "{} lines", trace.lines);
    }
}
