//! Preference pairs from Parquet to packed token batches
