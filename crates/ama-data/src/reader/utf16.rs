//! UTF-16 as UTF-8, while it is read.

use std::io::{self, BufRead, ErrorKind, Read};

/// Decodes what it reads. Half of a surrogate pair is an error: it stands for no character.
pub(crate) struct Utf16<R> {
    inner: R,
    big_endian: bool,
    /// The first half of a pair whose second half has not been read yet.
    high: Option<u16>,
    /// Text that was decoded and not yet handed out.
    decoded: Vec<u8>,
    given: usize,
}

impl<R: BufRead> Utf16<R> {
    /// `inner` comes after the byte order mark.
    pub(crate) fn new(inner: R, big_endian: bool) -> Self {
        Self { inner, big_endian, high: None, decoded: Vec::new(), given: 0 }
    }

    /// The next code unit; `None` at the end.
    fn unit(&mut self) -> io::Result<Option<u16>> {
        let mut bytes = [0; 2];
        let mut filled = 0;
        while filled < 2 {
            match self.inner.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(invalid("ends in the middle of a character")),
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }))
    }

    /// Decodes a few thousand characters more.
    fn fill(&mut self) -> io::Result<()> {
        (self.given, self.decoded) = (0, std::mem::take(&mut self.decoded));
        self.decoded.clear();
        while self.decoded.len() < 1 << 13 {
            let Some(unit) = self.unit()? else {
                return match self.high {
                    Some(_) => Err(invalid("ends with half of a surrogate pair")),
                    None => Ok(()),
                };
            };
            let character = match self.high.take() {
                None if (0xd800..0xdc00).contains(&unit) => {
                    self.high = Some(unit);
                    continue;
                }
                None => char::decode_utf16([unit]).next(),
                Some(high) => char::decode_utf16([high, unit]).next(),
            };
            match character {
                Some(Ok(character)) => {
                    let mut bytes = [0; 4];
                    self.decoded.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
                }
                _ => return Err(invalid("has half of a surrogate pair")),
            }
        }
        Ok(())
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the text {what}"))
}

impl<R: BufRead> Read for Utf16<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.given == self.decoded.len() {
            self.fill()?;
        }
        let rest = &self.decoded[self.given..];
        let len = rest.len().min(out.len());
        out[..len].copy_from_slice(&rest[..len]);
        self.given += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(units: &[u16], big_endian: bool) -> io::Result<String> {
        let bytes: Vec<u8> = units
            .iter()
            .flat_map(|unit| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() })
            .collect();
        let mut text = String::new();
        // A buffer of one byte: code units and pairs come in pieces.
        let inner = io::BufReader::with_capacity(1, bytes.as_slice());
        Utf16::new(inner, big_endian).read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn both_byte_orders_and_pairs() {
        let text = "a\u{df}\u{1f600}\n".repeat(5000);
        let units: Vec<u16> = text.encode_utf16().collect();
        for big_endian in [false, true] {
            assert_eq!(decode(&units, big_endian).unwrap(), text);
        }
    }

    #[test]
    fn halves_are_refused() {
        for units in [&[0xd83d][..], &[0xd83d, 0x41], &[0xde00, 0x41], &[0xd83d, 0xd83d, 0xde00]] {
            assert_eq!(decode(units, false).unwrap_err().kind(), ErrorKind::InvalidData, "{units:x?}");
        }
    }
}
