//! The file format: Parquet with a checksum of all its bytes inside.
//!
//! A file is ordinary Parquet. Its key-value metadata holds `ama.checksum` = `ama.blake3:` and 64 hexadecimal
//! digits: the BLAKE3 hash of the whole file with those 64 digits taken as zeros. A reader finds the marker
//! (it occurs once), checks the hash, and only then parses: it never parses bytes that nobody wrote.

use crate::{CacheError, PairId, disk, hex};
use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::{collections::BTreeMap, fs, path::Path, path::PathBuf, sync::Arc};

const CHECKSUM: &str = "ama.checksum";
const FORMAT: &str = "ama.format";
const VERSION: &str = "ama.version";

/// What stands before the 64 digits of the checksum.
pub(crate) const MARKER: &str = "ama.blake3:";
const DIGITS: usize = 64;
const ZEROS: [u8; DIGITS] = [b'0'; DIGITS];

/// Version of the format that this build writes and reads.
const FORMAT_VERSION: &str = "1";

/// A file in the making.
pub(crate) struct Draft {
    meta: Vec<KeyValue>,
    columns: Vec<(&'static str, ArrayRef)>,
}

impl Draft {
    pub(crate) fn new(format: &'static str, ids: impl Iterator<Item = PairId>) -> Self {
        let meta = [(FORMAT, format), (VERSION, FORMAT_VERSION)];
        let ids: StringArray = ids.map(|id| Some(hex::encode(&id))).collect();
        Self {
            meta: meta.map(|(key, value)| KeyValue::new(key.to_owned(), value.to_owned())).into(),
            columns: vec![("id", Arc::new(ids))],
        }
    }

    pub(crate) fn meta(mut self, key: &'static str, value: String) -> Result<Self, CacheError> {
        if value.contains(MARKER) {
            return Err(CacheError::ReservedText { field: key, reserved: MARKER });
        }
        self.meta.push(KeyValue::new(key.to_owned(), value));
        Ok(self)
    }

    pub(crate) fn f64(mut self, name: &'static str, values: impl Iterator<Item = f64>) -> Self {
        self.columns.push((name, Arc::new(values.collect::<Vec<_>>().into_iter().collect::<Float64Array>())));
        self
    }

    pub(crate) fn u32(mut self, name: &'static str, values: impl Iterator<Item = u32>) -> Self {
        self.columns.push((name, Arc::new(values.collect::<Vec<_>>().into_iter().collect::<UInt32Array>())));
        self
    }

    pub(crate) fn u64(mut self, name: &'static str, values: impl Iterator<Item = u64>) -> Self {
        self.columns.push((name, Arc::new(values.collect::<Vec<_>>().into_iter().collect::<UInt64Array>())));
        self
    }

    pub(crate) fn optional_f64(
        mut self,
        name: &'static str,
        values: impl Iterator<Item = Option<f64>>,
    ) -> Self {
        self.columns.push((name, Arc::new(values.collect::<Float64Array>())));
        self
    }

    pub(crate) fn optional_u32(
        mut self,
        name: &'static str,
        values: impl Iterator<Item = Option<u32>>,
    ) -> Self {
        self.columns.push((name, Arc::new(values.collect::<UInt32Array>())));
        self
    }

    /// Texts that must not contain the checksum's marker.
    pub(crate) fn texts<'a>(
        mut self,
        name: &'static str,
        values: impl Iterator<Item = Option<&'a str>>,
    ) -> Self {
        self.columns.push((name, Arc::new(values.collect::<StringArray>())));
        self
    }

    /// The bytes of the file and the digits of its checksum. `path` is for errors only.
    pub(crate) fn seal(mut self, path: &Path) -> Result<(Vec<u8>, String), CacheError> {
        let zeros = String::from_utf8_lossy(&ZEROS).into_owned();
        self.meta.push(KeyValue::new(CHECKSUM.to_owned(), format!("{MARKER}{zeros}")));
        let mut bytes =
            self.encode().map_err(|source| CacheError::Parquet { path: path.to_owned(), source })?;
        // Ids are hexadecimal and `meta` refuses the marker, so it occurs once.
        let at = find_digits(&bytes).ok_or_else(|| CacheError::Corrupt {
            path: path.to_owned(),
            what: "its checksum has no place".to_owned(),
        })?;
        let digits = digest(&bytes, at);
        bytes[at..at + DIGITS].copy_from_slice(digits.as_bytes());
        Ok((bytes, digits))
    }

    /// Seals the file and puts it at `path`.
    pub(crate) fn write(self, path: &Path) -> Result<(), CacheError> {
        let (bytes, _) = self.seal(path)?;
        disk::write_whole(path, &bytes)
    }

    fn encode(self) -> Result<Vec<u8>, ParquetError> {
        let batch = RecordBatch::try_from_iter(self.columns)?;
        let properties = WriterProperties::builder()
            .set_created_by(concat!("ama-specialist-cache ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_key_value_metadata(Some(self.meta))
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let mut writer = ArrowWriter::try_new_with_options(Vec::new(), batch.schema(), options)?;
        writer.write(&batch)?;
        writer.into_inner()
    }
}

/// Where the digits of the checksum begin, if the marker occurs exactly once and they fit behind it.
fn find_digits(bytes: &[u8]) -> Option<usize> {
    let mut places =
        bytes.windows(MARKER.len()).enumerate().filter(|(_, window)| *window == MARKER.as_bytes());
    let (at, _) = places.next()?;
    let digits = at + MARKER.len();
    (places.next().is_none() && bytes.len() >= digits + DIGITS).then_some(digits)
}

/// Hash of `bytes` with zeros for the digits at `at`.
fn digest(bytes: &[u8], at: usize) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..at]).update(&ZEROS).update(&bytes[at + DIGITS..]);
    hex::encode(hasher.finalize().as_bytes())
}

/// A file whose checksum holds.
pub(crate) struct Sealed {
    path: PathBuf,
    meta: BTreeMap<String, String>,
    batches: Vec<RecordBatch>,
}

impl Sealed {
    /// Reads, checks and parses a file of `format`.
    pub(crate) fn read(path: &Path, format: &'static str) -> Result<Self, CacheError> {
        let bytes = fs::read(path).map_err(CacheError::io("read", path))?;
        let corrupt = |what: &str| CacheError::Corrupt { path: path.to_owned(), what: what.to_owned() };
        let at = find_digits(&bytes).ok_or_else(|| corrupt("it has no checksum"))?;
        if digest(&bytes, at).as_bytes() != &bytes[at..at + DIGITS] {
            return Err(corrupt("its checksum does not match its bytes"));
        }
        let sealed = Self::parse(path, bytes)
            .map_err(|source| CacheError::Parquet { path: path.to_owned(), source })?;
        sealed.expect(FORMAT, format)?;
        sealed.expect(VERSION, FORMAT_VERSION)?;
        Ok(sealed)
    }

    fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, ParquetError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?;
        let pairs = builder.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
        let meta = pairs.into_iter().map(|pair| (pair.key, pair.value.unwrap_or_default())).collect();
        let batches = builder.build()?.collect::<Result<_, _>>()?;
        Ok(Self { path: path.to_owned(), meta, batches })
    }

    pub(crate) fn meta(&self, key: &'static str) -> &str {
        self.meta.get(key).map_or("", String::as_str)
    }

    /// Checks a field of the metadata.
    pub(crate) fn expect(&self, field: &'static str, want: &str) -> Result<(), CacheError> {
        match self.meta(field) {
            got if got == want => Ok(()),
            got => Err(CacheError::Mismatch {
                path: self.path.clone(),
                field,
                want: want.to_owned(),
                got: got.to_owned(),
            }),
        }
    }

    pub(crate) fn corrupt(&self, what: String) -> CacheError {
        CacheError::Corrupt { path: self.path.clone(), what }
    }

    pub(crate) fn ids(&self) -> Result<Vec<PairId>, CacheError> {
        let mut out = Vec::new();
        for array in self.column::<StringArray>("id", "is not text") {
            for text in array?.iter().flatten() {
                let id = hex::decode(text)
                    .ok_or_else(|| self.wrong("id", "holds something else than 32 hexadecimal digits"))?;
                out.push(id);
            }
        }
        Ok(out)
    }

    pub(crate) fn f64(&self, name: &str) -> Result<Vec<f64>, CacheError> {
        let mut out = Vec::new();
        for array in self.column::<Float64Array>(name, "is not of 64-bit floats") {
            out.extend_from_slice(array?.values());
        }
        Ok(out)
    }

    pub(crate) fn u32(&self, name: &str) -> Result<Vec<u32>, CacheError> {
        let mut out = Vec::new();
        for array in self.column::<UInt32Array>(name, "is not of unsigned 32-bit integers") {
            out.extend_from_slice(array?.values());
        }
        Ok(out)
    }

    pub(crate) fn u64(&self, name: &str) -> Result<Vec<u64>, CacheError> {
        let mut out = Vec::new();
        for array in self.column::<UInt64Array>(name, "is not of unsigned 64-bit integers") {
            out.extend_from_slice(array?.values());
        }
        Ok(out)
    }

    pub(crate) fn optional_f64(&self, name: &str) -> Result<Vec<Option<f64>>, CacheError> {
        let mut out = Vec::new();
        for array in self.column_with_nulls::<Float64Array>(name, "is not of 64-bit floats") {
            out.extend(array?.iter());
        }
        Ok(out)
    }

    pub(crate) fn optional_u32(&self, name: &str) -> Result<Vec<Option<u32>>, CacheError> {
        let mut out = Vec::new();
        for array in self.column_with_nulls::<UInt32Array>(name, "is not of unsigned 32-bit integers") {
            out.extend(array?.iter());
        }
        Ok(out)
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Vec<Option<String>>, CacheError> {
        let mut out = Vec::new();
        for array in self.column_with_nulls::<StringArray>(name, "is not text") {
            out.extend(array?.iter().map(|text| text.map(str::to_owned)));
        }
        Ok(out)
    }

    fn wrong(&self, column: &str, what: &'static str) -> CacheError {
        CacheError::Column { path: self.path.clone(), column: column.to_owned(), what }
    }

    /// The column's pieces, each of type `A` and without nulls.
    fn column<'a, A: Array + 'static>(
        &'a self,
        name: &'a str,
        other_type: &'static str,
    ) -> impl Iterator<Item = Result<&'a A, CacheError>> {
        self.column_with_nulls::<A>(name, other_type).map(move |array| match array? {
            array if array.null_count() > 0 => Err(self.wrong(name, "has empty cells")),
            array => Ok(array),
        })
    }

    /// The column's pieces, each of type `A`.
    fn column_with_nulls<'a, A: Array + 'static>(
        &'a self,
        name: &'a str,
        other_type: &'static str,
    ) -> impl Iterator<Item = Result<&'a A, CacheError>> {
        self.batches.iter().map(move |batch| {
            let array = batch.column_by_name(name).ok_or_else(|| self.wrong(name, "is missing"))?;
            array.as_any().downcast_ref().ok_or_else(|| self.wrong(name, other_type))
        })
    }
}
