"""Writes the files of rows that `row_files.rs` reads, and what Python reads in them.

    python make.py    # needs datasets and pyarrow

Writes `rows.*`, the same rows in each format, `types.*`, one column of each type, and `expected.json`: the
rows as `datasets` and `pyarrow` hand them out.
"""

import gzip
import json
import math
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
from datasets import Dataset, Features, Json, List, Value

HERE = Path(__file__).parent

ROWS = [
    {"messages": [{"role": "user", "content": "Grüße, 世界 🌍"}, {"role": "assistant", "content": "a \"b\"\n\\"}], "weight": 1.0, "id": 1},
    {"messages": [], "weight": 0.25, "id": -2},
    {"messages": None, "weight": None, "id": None},
    {"messages": [{"role": "user", "content": None}], "weight": 1e300, "id": 2**62},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
ARRAY = json.dumps(ROWS, indent=2).encode()


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def main() -> None:
    half = len(LINES) // 2
    write("rows.jsonl", LINES)
    write("rows.json", ARRAY)
    write("rows.jsonl.gz", gzip.compress(LINES[:half], mtime=0) + gzip.compress(LINES[half:], mtime=0))
    write("rows.json.gz", gzip.compress(ARRAY, mtime=0))
    write("rows.jsonl.zst", zstd(LINES[:half]) + zstd(LINES[half:]))

    table = pa.Table.from_pylist(ROWS)
    for codec in ["none", "snappy", "gzip", "zstd", "brotli", "lz4"]:
        version = "2.0" if codec == "zstd" else "1.0"
        small = {"write_statistics": False, "store_schema": False}
        path = HERE / f"rows.{codec}.parquet"
        pq.write_table(table, path, compression=codec, row_group_size=3, data_page_version=version, **small)
    Dataset.from_list(ROWS).to_parquet(HERE / "rows.datasets.parquet")
    stream("rows.stream.arrow", table)
    feather.write_feather(table, str(HERE / "rows.lz4.arrow"), compression="lz4", chunksize=3)
    feather.write_feather(table, str(HERE / "rows.zstd.arrow"), compression="zstd")
    feather.write_feather(table, str(HERE / "rows.plain.arrow"), compression="uncompressed")

    types, seen = columns()
    stream("types.arrow", types)
    parquet = types.drop_columns(["list_view", "large_list_view"])
    pq.write_table(parquet, HERE / "types.parquet", write_statistics=False)

    features = Features({"tools": List(Json()), "arguments": Json(), "text": Value("string")})
    json_rows = [
        {"tools": [{"name": "f", "parameters": {"b": 1, "a": [None, 1.5]}}, {"n": 0}], "arguments": {"x": "y"}, "text": "{}"},
        {"tools": [], "arguments": [1, "two"], "text": "plain"},
    ]
    dataset = Dataset.from_list(json_rows, features=features)
    dataset.to_parquet(HERE / "json.parquet")
    stream("json.arrow", dataset.data.table)
    assert list(dataset) == json_rows

    pq.write_table(pa.table({"text": [f"row {i // 100}" for i in range(5000)]}), HERE / "many.parquet", row_group_size=2000, compression="zstd")
    stream("many.arrow", pa.table({"text": [f"row {i // 100}" for i in range(5000)]}), codec="zstd")
    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), HERE / "twice.parquet")

    images = pa.table({"image": pa.array([{"bytes": b"x"}, None])})
    stream("images.arrow", images)
    pq.write_table(images, HERE / "images.parquet", store_schema=False, write_statistics=False)

    expected = {"rows": ROWS, "types": seen, "json": json_rows}
    write("expected.json", json.dumps(expected, ensure_ascii=False, indent=1, allow_nan=False).encode() + b"\n")


def columns() -> tuple[pa.Table, list[dict]]:
    """One column of each type, and the rows that they are without what JSON has no values for."""
    kept = {
        "null": pa.nulls(2),
        "bool": pa.array([True, None]),
        **{str(kind): pa.array([limit(kind), None], kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
        **{str(kind): pa.array([limit(kind), None], kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
        "half": pa.array([0.1, None], pa.float16()),
        "float": pa.array([0.1, None], pa.float32()),
        "double": pa.array([0.1, 1.0], pa.float64()),
        "odd": pa.array([math.nan, -math.inf]),
        "string": pa.array(["ä", None]),
        "large_string": pa.array(["ä" * 20, ""], pa.large_string()),
        "string_view": pa.array(["longer than twelve bytes", None], pa.string_view()),
        "dictionary": pa.array(["x", "y"]).dictionary_encode(),
        "list": pa.array([[1, None], None], pa.list_(pa.int32())),
        "large_list": pa.array([["a"], []], pa.large_list(pa.string())),
        "fixed_size_list": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
        "list_view": pa.array([[1, 2], None], pa.list_view(pa.int64())),
        "large_list_view": pa.array([[1, 2], []], pa.large_list_view(pa.int64())),
        "deep": pa.array([[[{"a": None, "b": [1]}]], [[None], []]]),
        "map": pa.array([[("k", 1), ("l", None)], None], pa.map_(pa.string(), pa.int32())),
        "pairs": pa.array([[(1, "a")], []], pa.map_(pa.int32(), pa.string())),
    }
    left_out = {
        "binary": pa.array([b"x", None]),
        "image": pa.array([{"bytes": b"x", "path": "a.png"}, None]),
        "date": pa.array([date(2026, 1, 2), None]),
        "time": pa.array([datetime(2026, 1, 2), None], pa.timestamp("us", "UTC")),
        "decimal": pa.array([Decimal("1.5"), None]),
    }
    seen = pa.table(kept).to_pylist()
    for row in seen:
        row["odd"] = "NaN" if math.isnan(row["odd"]) else "-Infinity"
        row["map"] = None if row["map"] is None else dict(row["map"])
        row["half"] = None if row["half"] is None else float(row["half"])
    seen[0]["image"], seen[1]["image"] = {"path": "a.png"}, None
    return pa.table(kept | left_out), seen


def limit(kind: pa.DataType) -> int:
    bits = kind.bit_width
    return 2**bits - 1 if str(kind).startswith("u") else -(2 ** (bits - 1))


def stream(name: str, table: pa.Table, codec: str | None = None) -> None:
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_stream(HERE / name, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=1000)


def write(name: str, data: bytes) -> None:
    (HERE / name).write_bytes(data)


if __name__ == "__main__":
    main()
