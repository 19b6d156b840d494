//! The lines of a text file, whatever its compression, encoding and line ends.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use crate::error::DataError;
use crate::reader::format;
use crate::reader::utf16::Utf16;

/// Longest line, in bytes: a file without line ends does not take all memory.
const MAX_LINE: u64 = 1 << 28;

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines that are not blank. Line feeds, carriage returns or both end a line: what ends the first one.
pub(crate) struct Lines {
    source: Arc<Path>,
    reader: Box<dyn BufRead + Send>,
    /// How the bytes of the file become text, for messages.
    encoding: &'static str,
    /// The byte that ends a line, once the first end was seen.
    end: Option<u8>,
    buffer: Vec<u8>,
    line: u64,
    row: u64,
}

impl Lines {
    /// Opens a file and finds out how it is written.
    ///
    /// # Errors
    /// It cannot be read; an encoding that is not read.
    pub(crate) fn open(source: &Arc<Path>) -> Result<Self, DataError> {
        let magic = format::head(source, 6)?;
        format::refuse_compressed(source, &magic)?;
        let file = File::open(source).map_err(DataError::io(source, "open"))?;
        let (mut reader, mut encoding): (Box<dyn BufRead + Send>, _) = match magic.as_slice() {
            [0x1f, 0x8b, ..] => {
                let decoder = flate2::bufread::MultiGzDecoder::new(BufReader::new(file));
                (Box::new(BufReader::new(decoder)), "gzip")
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let decoder = zstd::Decoder::new(file).map_err(DataError::io(source, "decompress"))?;
                (Box::new(BufReader::new(decoder)), "Zstandard")
            }
            _ => (Box::new(BufReader::new(file)), "UTF-8"),
        };
        let refuse = |error: io::Error| unreadable(source, encoding, 0, error);
        let start = reader.fill_buf().map_err(refuse)?;
        let other = |name| Err(DataError::Encoding { path: source.to_path_buf(), row: None, name });
        match start {
            [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return other("UTF-32"),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                encoding = "UTF-16";
                let big_endian = start[0] == 0xfe;
                reader.consume(2);
                reader = Box::new(BufReader::new(Utf16::new(reader, big_endian)));
            }
            [a, 0, 0, 0, ..] | [0, 0, 0, a, ..] if *a != 0 => return other("UTF-32"),
            // The letters of ASCII, whichever the text begins with.
            [a, 0, b, 0, ..] | [0, a, 0, b, ..] if *a != 0 && *b != 0 => {
                return other("UTF-16 without a byte order mark");
            }
            start if start.starts_with(UTF8_MARK) => reader.consume(UTF8_MARK.len()),
            _ => {}
        }
        Ok(Self { source: source.clone(), reader, encoding, end: None, buffer: Vec::new(), line: 0, row: 0 })
    }

    /// The first byte that is no white space, as far as the first buffer tells.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn first_byte(&mut self) -> Result<Option<u8>, DataError> {
        let start =
            self.reader.fill_buf().map_err(|error| unreadable(&self.source, self.encoding, 0, error))?;
        Ok(start.trim_ascii_start().first().copied())
    }

    /// Goes to the next line that is not blank; `false` if there is none.
    ///
    /// # Errors
    /// The file cannot be read or decoded; a line of more than 256 MiB.
    pub(crate) fn advance(&mut self) -> Result<bool, DataError> {
        loop {
            self.buffer.clear();
            let read = match self.end {
                Some(end) => (&mut self.reader)
                    .take(MAX_LINE)
                    .read_until(end, &mut self.buffer)
                    .map(|read| read as u64),
                None => self.read_first(),
            };
            match read {
                Ok(0) => return Ok(false),
                Ok(_) => self.line += 1,
                Err(error) => return Err(unreadable(&self.source, self.encoding, self.row, error)),
            }
            if self.buffer.len() as u64 >= MAX_LINE {
                let path = self.source.to_path_buf();
                return Err(DataError::LineTooLong { path, row: self.row + 1, most_mib: MAX_LINE >> 20 });
            }
            if !self.trimmed().is_empty() {
                self.row += 1;
                return Ok(true);
            }
        }
    }

    /// The line's bytes, without white space around them. A mark of UTF-8 comes before any line where files were appended
    /// to each other.
    fn trimmed(&self) -> &[u8] {
        let line = self.buffer.trim_ascii();
        line.strip_prefix(UTF8_MARK).unwrap_or(line).trim_ascii()
    }

    /// How the bytes of the file become text.
    pub(crate) fn encoding(&self) -> &'static str {
        self.encoding
    }

    /// The line, without white space and a mark of UTF-8 around it.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub(crate) fn text(&self) -> Result<&str, DataError> {
        std::str::from_utf8(self.trimmed()).map_err(|_| DataError::Encoding {
            path: self.source.to_path_buf(),
            row: Some(self.row),
            name: "not UTF-8 (Latin-1 or another encoding of single bytes)",
        })
    }

    /// Number of the row, from 1: blank lines do not count.
    pub(crate) fn row(&self) -> u64 {
        self.row
    }

    /// Number of the line, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Reads up to the first end of a line and notes what ends lines in this file.
    fn read_first(&mut self) -> io::Result<u64> {
        let mut read = 0;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let found = available.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let take = found.map_or(available.len(), |at| at + 1);
            self.buffer.extend_from_slice(&available[..take]);
            let end = found.map(|at| available[at]);
            self.reader.consume(take);
            read += take as u64;
            if take == 0 || self.buffer.len() as u64 >= MAX_LINE {
                return Ok(read);
            }
            if let Some(end) = end {
                let windows = end == b'\r' && self.reader.fill_buf()?.first() == Some(&b'\n');
                if windows {
                    self.reader.consume(1);
                }
                self.end = Some(if windows { b'\n' } else { end });
                return Ok(read);
            }
        }
    }
}

/// What went wrong on the way from bytes to text.
fn unreadable(source: &Path, format: &'static str, row: u64, error: io::Error) -> DataError {
    let decoding = matches!(
        error.kind(),
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof | ErrorKind::Other
    );
    if !decoding {
        return DataError::io(source, "read")(error);
    }
    DataError::Unreadable {
        path: source.to_path_buf(),
        format,
        row: (row > 0).then_some(row),
        message: error.to_string(),
    }
}
