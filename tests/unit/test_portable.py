"""A `.memcube` file round-trips a cube, and whatever is wrong with one is said in this project's own errors."""

import asyncio
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from memos_ray.cube.arrow_sizes import decoded_bytes
from memos_ray.cube.opening import write_incarnation
from memos_ray.cube.portable import check_rows, read_memcube, write_memcube
from memos_ray.errors import Corrupt, Invalid, MemosError, SchemaTooNew
from memos_ray.ids import new_op_id
from memos_ray.testing.local import LocalCubes


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Rows of every op."""

    async def export() -> pa.Table:
        async with LocalCubes(str(tmp_path_factory.mktemp("data"))) as cubes:
            cube = await cubes.cube("a")
            added = await cube.add(
                ["I live in Rome.", "Tea at four."], infer=True, metadata={"a": 1}, session="s"
            )
            await cube.update(added.ids[0], text="I live in Oslo, since 3 May 2024.")
            await cube.add_triples([("a", "likes", "tea")], functional=True)
            for _ in range(2):
                await cube.add_triples([("a", "likes", "cocoa")], functional=True, timestamp="2040-01-01")
            await cube.archive(added.ids[1])
            await cube.restore(added.ids[1])
            await cube.snapshot("then")
            same = (
                "Descale the espresso machine on the first Monday of each month with citric acid, then rinse"
            )
            for document, end in (("kitchen", "."), ("cafe", "!")):
                await cube.add_document(same + end, document=document, timestamp="2024-01-01")
            await (await cubes.active("a"))._near.settled()
            await cube.delete(added.ids[1])
            return await cube.export_table()

    return asyncio.run(export())


def changed(table: pa.Table, column: str, value: Any, row: int | None = None) -> pa.Table:
    rows = table.to_pylist()
    for i, r in enumerate(rows):
        if row is None or i == row:
            r[column] = value(r) if callable(value) else value
    return pa.Table.from_pylist(rows, schema=table.schema)


def test_the_rows_of_a_cube_are_in_order(table: pa.Table):
    assert {"add", "update", "delete", "archive", "restore", "merge", "snapshot", "noop"} <= set(
        table["op"].to_pylist()
    )
    check_rows(table)
    check_rows(table.schema.empty_table())


async def test_a_cube_comes_back_from_its_file(table: pa.Table, tmp_path: Path):
    path = tmp_path / "a.memcube"
    written = write_memcube(path, "a", table)
    manifest, read = read_memcube(path)
    assert manifest == written
    assert read.equals(table)
    async with LocalCubes(str(tmp_path / "data")) as cubes:
        incarnation = new_op_id()
        write_incarnation(cubes.settings, "b", incarnation, read)
        cubes._registry.create_if_absent("b", incarnation=incarnation, embedder="hash")
        cube = await cubes.cube("b")
        assert "I live in Oslo, since 3 May 2024." in [item.text for item in await cube.get_all()]
        exported = await cube.export_table()
    check_rows(exported)


def row_of(table: pa.Table, op: str) -> int:
    return table["op"].to_pylist().index(op)


BAD_ROWS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "unknown op": lambda t: changed(t, "op", "frob"),
    "unknown kind": lambda t: changed(t, "kind", "rumour"),
    "unknown status": lambda t: changed(t, "status", "asleep"),
    "metadata that is no JSON": lambda t: changed(t, "metadata", "{bad"),
    "metadata that is no object": lambda t: changed(t, "metadata", "[1]"),
    "payload that is no object": lambda t: changed(t, "payload", "[1]"),
    "payload nested for ever": lambda t: changed(t, "payload", "[" * 100_000),
    "one seq": lambda t: changed(t, "seq", 7),
    "seq 0": lambda t: changed(t, "seq", 0, 0),
    "seq backwards": lambda t: t.take(pa.array(range(t.num_rows - 1, -1, -1))),
    "no seq": lambda t: changed(t, "seq", None, 3),
    "no memory_id": lambda t: changed(t, "memory_id", None, row_of(t, "add")),
    "a memory_id where none belongs": lambda t: changed(t, "memory_id", "m", row_of(t, "snapshot")),
    "no valid_from": lambda t: changed(t, "valid_from", None, 3),
    "no recorded_at": lambda t: changed(t, "recorded_at", None, 3),
    "no text": lambda t: changed(t, "text", None, 3),
    "no op_id": lambda t: changed(t, "op_id", None, 3),
    "version 0": lambda t: changed(t, "version", 0),
    "snapshot without a name": lambda t: changed(t, "payload", None, row_of(t, "snapshot")),
    "merged into nothing": lambda t: changed(t, "payload", None, row_of(t, "merge")),
    "merged into nobody": lambda t: changed(t, "payload", '{"into": "nobody"}', row_of(t, "merge")),
    "a key of one part": lambda t: changed(t, "payload", '{"key": ["a"]}', row_of(t, "add")),
    "an unknown event": lambda t: changed(t, "payload", '{"event": "EXPLODE"}', row_of(t, "add")),
    "an answer of the wrong form": lambda t: changed(t, "payload", '{"none": [1]}', row_of(t, "noop")),
    "a time beyond the calendar": lambda t: t.set_column(
        t.schema.get_field_index("valid_from"),
        t.schema.field("valid_from"),
        pa.array([1 << 60] * t.num_rows, pa.int64()).cast(t.schema.field("valid_from").type),
    ),
    "an entity that is none": lambda t: changed(t, "entities", [None], row_of(t, "add")),
    "a link to nowhere": lambda t: changed(
        t, "links", [{"type": "x", "target": None, "weight": 1.0}], row_of(t, "add")
    ),
    "a column less": lambda t: t.drop_columns(["digest"]),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_rows_that_no_cube_can_be_made_of_are_corrupt(table: pa.Table, name: str):
    with pytest.raises(Corrupt) as caught:
        check_rows(BAD_ROWS[name](table), "there")
    assert str(caught.value).startswith("there: ")


def archive(path: Path, manifest: Any, data: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    raw = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("manifest.json", raw)
        file.writestr("journal.arrow", data)


def ipc(table: pa.Table, compression: str | None = None) -> bytes:
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def size_of(data: bytes) -> int:
    try:
        return decoded_bytes(data)
    except (pa.ArrowException, OSError, ValueError):
        return 0


def manifest_of(table: pa.Table, data: bytes, **changes: Any) -> dict[str, Any]:
    return {
        "format": "memcube",
        "version": 1,
        "schema_version": 1,
        "cube_id": "a",
        "created_at": datetime.now(UTC).isoformat(),
        "rows": table.num_rows,
        "decoded_bytes": size_of(data),
        "sha256": {"journal.arrow": hashlib.sha256(data).hexdigest()},
    } | changes


BAD_MANIFESTS: list[tuple[dict[str, Any], type[MemosError]]] = [
    ({"format": "zip"}, Invalid),
    ({"version": None}, Invalid),
    ({"version": "1"}, Invalid),
    ({"version": 2, "rows": {"new": "form"}}, SchemaTooNew),
    ({"schema_version": 99}, SchemaTooNew),
    ({"cube_id": None}, Invalid),
    ({"cube_id": ""}, Invalid),
    ({"rows": "many"}, Invalid),
    ({"rows": 1}, Corrupt),
    ({"decoded_bytes": None}, Invalid),
    ({"decoded_bytes": 1}, Corrupt),
    ({"decoded_bytes": 1 << 40}, Corrupt),
    ({"sha256": "x"}, Invalid),
    ({"sha256": {}}, Invalid),
    ({"sha256": {"journal.arrow": "x"}}, Corrupt),
]


def test_manifests_of_the_wrong_shape(table: pa.Table, tmp_path: Path):
    path, data = tmp_path / "x.memcube", ipc(table)
    archive(path, manifest_of(table, data), data)
    assert read_memcube(path)[0]["cube_id"] == "a"
    for changes, error in BAD_MANIFESTS:
        archive(path, manifest_of(table, data, **changes), data)
        with pytest.raises(error):
            read_memcube(path)
    for key in ("sha256", "rows", "version", "schema_version", "cube_id", "format", "decoded_bytes"):
        archive(path, {k: v for k, v in manifest_of(table, data).items() if k != key}, data)
        with pytest.raises(Invalid):
            read_memcube(path)
    for raw in (b"[1]", b"\xff", b"", b"null", b"[" * 100_000, b" " * (2 << 20)):
        archive(path, raw, data)
        with pytest.raises((Invalid, Corrupt)):
            read_memcube(path)


def test_members_are_stored_and_no_larger_than_the_file(table: pa.Table, tmp_path: Path):
    path, data = tmp_path / "x.memcube", ipc(table)
    archive(path, manifest_of(table, data), bytes(30 << 20), zipfile.ZIP_DEFLATED)
    with pytest.raises(Invalid, match="compressed"):
        read_memcube(path)

    archive(path, manifest_of(table, data), data)
    raw = bytearray(path.read_bytes())
    entry = raw.rfind(b"PK\x01\x02")
    for offset, size in ((8, 1), (24, 4)):  # the flags; the uncompressed size
        lying = bytearray(raw)
        lying[entry + offset : entry + offset + size] = b"\x01" * size
        path.write_bytes(bytes(lying))
        with pytest.raises((Invalid, Corrupt)):
            read_memcube(path)

    with zipfile.ZipFile(path, "w") as file:
        file.writestr("manifest.json", json.dumps(manifest_of(table, data)))
    with pytest.raises(Invalid, match=r"no journal\.arrow"):
        read_memcube(path)


def bomb(table: pa.Table, characters: int) -> pa.Table:
    """A cube whose texts are one letter, over and over."""
    return changed(table, "text", "a" * (characters // table.num_rows))


def test_sizes_are_told_from_the_headers(table: pa.Table):
    for compression in (None, "lz4", "zstd"):
        data = ipc(table, compression)
        with pa.ipc.open_stream(data) as reader:
            held = sum(
                b.size
                for column in reader.read_all().columns
                for c in column.chunks
                for b in c.buffers()
                if b
            )
        assert held <= decoded_bytes(data) <= held + 64 * 8 * table.num_columns  # Arrow pads each buffer
    flat = pa.table({"a": pa.array(["x"] * 9).dictionary_encode()})
    with pytest.raises(ValueError, match="dictionary"):
        decoded_bytes(ipc(flat))


def test_a_small_file_cannot_take_much_memory(table: pa.Table, tmp_path: Path):
    path = tmp_path / "x.memcube"
    large = bomb(table, 100 << 20)
    data = ipc(large, "lz4")
    assert len(data) < 1 << 20
    default = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(default)
    for states in (size_of(data), 1 << 20, 60 << 20):
        archive(path, manifest_of(large, data, decoded_bytes=states), data)
        pa.set_memory_pool(pool)
        try:
            with pytest.raises(Corrupt):
                read_memcube(path)
        finally:
            pa.set_memory_pool(default)
    assert pool.max_memory() < 8 << 20


def test_what_packs_too_well_is_written_so_that_it_can_be_read(table: pa.Table, tmp_path: Path):
    path = tmp_path / "x.memcube"
    large = bomb(table, 70 << 20)
    manifest = write_memcube(path, "a", large)
    assert path.stat().st_size > manifest["decoded_bytes"] > 64 << 20
    assert read_memcube(path)[1].num_rows == large.num_rows


def test_a_journal_that_cannot_be_read(table: pa.Table, tmp_path: Path):
    path, whole = tmp_path / "x.memcube", ipc(table)
    for data in (b"", b"junk" * 100, whole[: len(whole) // 2], ipc(pa.table({"a": [1]}))):
        archive(path, manifest_of(table, data), data)
        with pytest.raises(Corrupt):
            read_memcube(path)
    bad = ipc(changed(table, "kind", "rumour"))
    archive(path, manifest_of(table, bad), bad)
    with pytest.raises(Corrupt, match="unknown kind"):
        read_memcube(path)
    for wrong in (tmp_path, tmp_path / "missing.memcube"):
        with pytest.raises(Invalid):
            read_memcube(wrong)
