"""Reads the golden files with another Parquet implementation: python check.py (needs pyarrow)."""
from pathlib import Path

import pyarrow.parquet as pq

here = Path(__file__).parent
scores = {
    "id": ["01" * 16, "02" * 16],
    "chosen_logp": [-1.25, -1.25],
    "rejected_logp": [-2.5, -2.5],
    "chosen_tokens": [3, 3],
    "rejected_tokens": [4, 4],
}
(shard,) = (here / "store").glob("*/*.parquet")
for path, format in ((here / "scores.parquet", "ama scores"), (shard, "ama score shard")):
    table = pq.ParquetFile(path).read()
    assert table.to_pydict() == scores, path
    assert table.schema.metadata[b"ama.format"] == format.encode(), path
assert table.schema.metadata[b"model"] == b"01" * 32

table = pq.ParquetFile(here / "losses.parquet").read()
logps = {f"{who}_{what}_logp": [x] * 2 for who in ("policy", "reference") for what, x in (("chosen", -1.25), ("rejected", -2.5))}
assert table.to_pydict() == {"id": ["01" * 16] * 2, **logps, "chosen_tokens": [3] * 2, "rejected_tokens": [4] * 2, "loss_nats": [0.5] * 2}
assert table.schema.metadata[b"loss"] == b"sigmoid beta=0.1"
print("ok", {field.name: str(field.type) for field in table.schema})
