"""A cube that is activated from checkpoints answers as one that is activated without, whatever happened in between."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_ray.bench.synthetic import SyntheticEmbedder
from memos_ray.config import Settings
from memos_ray.cube import checkpoint, checkpoint_file, checkpointing, upkeep
from memos_ray.cube.checkpoint import Opened
from memos_ray.cube.checkpoint_file import CheckpointFolder
from memos_ray.cube.cube import MemCube
from memos_ray.cube.lance_store import LanceStore
from memos_ray.cube.opening import activate
from memos_ray.cube.vector_store import LanceVectorStore
from memos_ray.errors import MemosError, Moved, Unavailable
from memos_ray.models.encoded import Documents
from memos_ray.retrieval.recipe import RECIPES

BEGIN = datetime(2024, 5, 6, 12, tzinfo=UTC)


class Clock:
    """A second passes whenever somebody writes; a look at the time costs none."""

    def __init__(self) -> None:
        self.seconds = 0

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return float(self.seconds)


class Reader(SyntheticEmbedder):
    """Vectors depend on the context, too. Counts the texts that it is asked for."""

    fingerprint = "reader"

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def encode_documents(self, texts: Sequence[str], contexts: Sequence[str]) -> Documents:
        self.asked += len(texts)
        read = [f"{context} | {text}" for text, context in zip(texts, contexts, strict=True)]
        return await super().encode_documents(read, contexts)


class Place:
    """Where one cube lies, and how it is activated there."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self.root, self.clock, self.embedder = root, clock, Reader()
        self.folder = root / "checkpoints"

    async def activate(self, *, checkpoints: bool = True) -> MemCube:
        return await activate(
            Settings(data=str(self.root)),
            "cube",
            LanceStore(str(self.root / "memories.lance")),
            open_vectors=lambda name, dim, tokens: LanceVectorStore(
                str(self.root / f"{name}.lance"), dim, tokens
            ),
            embedder=self.embedder,
            clock=self.clock,
            owner="test",
            checkpoints=CheckpointFolder(str(self.folder)) if checkpoints else None,
        )

    def copy(self, to: Path) -> "Place":
        shutil.copytree(self.root, to)
        return Place(to, self.clock)


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints of the smallest cubes, and as soon as anything is new."""
    for module in (checkpointing, upkeep):
        monkeypatch.setattr(module, "_LACKING", 0.0)
    monkeypatch.setattr(checkpointing, "_LEAST", 1)
    monkeypatch.setattr(checkpointing, "_PORTION", 3)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "cube", Clock())


QUERIES = (
    "Where does Maya live?",
    "What did Ben say about the tea in Porto?",
    "她什么时候搬到了上海？",
    "café crème brûlée last week",
)


async def answers(cube: MemCube) -> dict[str, Any]:
    """Everything that can be asked, in many ways."""
    found: dict[str, Any] = {"snapshots": await cube.snapshots(), "all": await cube.get_all()}
    times = sorted({item.recorded_at for item in found["all"]})
    middle = times[len(times) // 2] if times else BEGIN
    views: list[dict[str, Any]] = [
        {},
        {"known_at": middle},
        {"as_of": BEGIN - timedelta(days=30)},
        {"filters": {"speaker": "Ben"}},
        {"filters": {"metadata.topic": "tea"}},
        {"neighbours": 2},
    ]
    asked = [(query, recipe, {}) for query in QUERIES for recipe in RECIPES]
    asked += [(QUERIES[i % len(QUERIES)], "default", view) for i, view in enumerate(views)]
    for query, recipe, view in asked:
        hits = await cube.search(query, top_k=20, explain=True, recipe=recipe, **view)
        found[f"{query} {recipe} {view}"] = hits
    for view in views[:3]:
        found[f"all {view}"] = await cube.get_all(**view)
    nodes = ["entity:Maya", "entity:Porto", *(item.id for item in found["all"][:5])]
    for node in nodes:
        with suppress(MemosError):
            around = await cube.neighbours(node, depth=3)
            found[node] = around
    for item in found["all"]:
        found[f"history {item.id}"] = await cube.history(item.id)
    found["rows"] = (await cube.export_table()).to_pylist()
    return found


async def same_without(place: Place, scratch: Path) -> dict[str, Any]:
    """Activates copies of the cube with and without its checkpoints, and compares what they answer."""
    other = place.copy(scratch / "without")
    shutil.rmtree(other.folder, ignore_errors=True)
    one = place.copy(scratch / "with")
    found = []
    for at, checkpoints in ((one, True), (other, False)):
        cube = await at.activate(checkpoints=checkpoints)
        await cube.settled()
        found.append(await answers(cube))
        await cube.close()
    with_, without = found
    assert with_.keys() == without.keys()
    for key, value in without.items():
        assert with_[key] == value, key
    return without


TEXTS = (
    "I moved to Porto last Friday.",
    "Ben likes tea, and so does Maya.",
    "我上周五搬到了上海，妈妈也来了。",
    "The café serves crème brûlée in Lisbon.",
    "ok",
    "Il fait beau dans la ville et nous sommes contents.",
)
SMALL = st.integers(0, 30)
STEPS = st.one_of(
    st.tuples(st.just("say"), st.lists(st.sampled_from(TEXTS), min_size=1, max_size=6), SMALL),
    st.tuples(st.just("triple"), st.sampled_from(["Porto", "Lisbon", "Shanghai"]), SMALL),
    st.tuples(st.just("document"), st.sampled_from(["# Tea\n\nPour it.\n\n# Cake\n\nBake it.", "A b c d."]), SMALL),
    st.tuples(st.just("update"), SMALL, st.sampled_from(TEXTS)),
    st.tuples(st.just("metadata"), SMALL, st.sampled_from(["tea", "cake"])),
    st.tuples(st.just("delete"), SMALL, SMALL),
    st.tuples(st.just("archive"), SMALL, SMALL),
    st.tuples(st.just("restore"), SMALL, SMALL),
    st.tuples(st.just("snapshot"), SMALL, SMALL),
    st.tuples(st.just("back"), SMALL, SMALL),
    st.tuples(st.just("close"), SMALL, SMALL),
    st.tuples(st.just("crash"), SMALL, SMALL),
    st.tuples(st.just("checkpoint"), SMALL, SMALL),
    st.tuples(st.just("search"), SMALL, SMALL),
)  # fmt: skip


class Run:
    """Takes steps on one cube."""

    def __init__(self, place: Place) -> None:
        self.place, self.ids, self.names = place, list[str](), list[str]()
        self.cube: MemCube | None = None
        self.n = place.clock.seconds  # no operation of an earlier run is repeated

    async def step(self, kind: str, a: Any, b: Any) -> None:
        self.n += 1
        self.place.clock.seconds += 1
        if self.cube is None:
            self.cube = await self.place.activate()
        cube, op = self.cube, f"op-{self.n}"
        with suppress(MemosError):
            match kind:
                case "say":
                    speakers = ("Maya", "Ben", None)
                    messages = [
                        {"role": "user", "content": text, **({"speaker": s} if (s := speakers[(b + i) % 3]) else {})}
                        for i, text in enumerate(a)
                    ]  # fmt: skip
                    said = await cube.add_messages(
                        messages, op_id=op, session=str(b % 3), conversation="c", timestamp=self.place.clock.now()
                    )  # fmt: skip
                    self.ids += said.ids
                case "triple":
                    made = await cube.add_triples([("Maya", "lives_in", a)], op_id=op, functional=b % 2 == 0)
                    self.ids += made.ids
                case "document":
                    made = await cube.add_document(a, op_id=op, document=f"d{b % 4}")
                    self.ids += made.ids
                case "snapshot":
                    await cube.snapshot(f"s{self.n}", op_id=op)
                    self.names.append(f"s{self.n}")
                case "back" if self.names:
                    await cube.restore_snapshot(self.names[a % len(self.names)], op_id=op)
                case "update" if self.ids:
                    await cube.update(self.ids[a % len(self.ids)], op_id=op, text=b)
                case "metadata" if self.ids:
                    await cube.update(self.ids[a % len(self.ids)], op_id=op, metadata={"topic": b})
                case "delete" | "archive" | "restore" if self.ids:
                    await getattr(cube, kind)(self.ids[a % len(self.ids)], op_id=op)
                case "search":
                    await cube.search("Where is the tea?")
                case "checkpoint":
                    await cube.checkpoint()
        if kind in ("close", "crash"):
            await self.close(crash=kind == "crash")

    async def close(self, *, crash: bool = False) -> None:
        if self.cube is not None:
            await self.cube._near.settled()
            if crash:
                self.cube._keeper = None
            await self.cube.close()
            self.cube = None


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, min_size=4, max_size=16), st.booleans())
def test_a_checkpoint_of_any_prefix_never_changes_an_answer(steps: list[tuple[str, Any, Any]], crash: bool):
    async def run() -> None:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
            place = Place(Path(scratch) / "cube", Clock())
            taken = Run(place)
            for step in steps:
                await taken.step(*step)
            if taken.cube is None:
                taken.cube = await place.activate()
            await taken.close(crash=crash)
            await same_without(place, Path(scratch))

    asyncio.run(run())


async def filled(place: Place) -> None:
    """A closed cube with something of everything."""
    run = Run(place)
    for i in range(8):
        await run.step("say", TEXTS, i)
    await run.step("triple", "Porto", 0)
    await run.step("document", "# Tea\n\nPour it hot.", 1)
    await run.step("delete", 3, 0)
    assert run.cube is not None
    await run.cube._near.settled()
    await run.cube.settled()
    await run.close()


async def test_what_a_checkpoint_has_is_not_made_again(place: Place, monkeypatch: pytest.MonkeyPatch):
    await filled(place)
    place.embedder.asked = 0
    shutil.rmtree(place.root / "reader.lance")
    monkeypatch.setattr("memos_ray.retrieval.tokens.Vocabulary.number", _must_not_be_called)
    monkeypatch.setattr("memos_ray.cube.contexts.text_hashes", _must_not_be_called)
    monkeypatch.setattr("memos_ray.cube.packing._json_columns", _must_not_be_called)
    cube = await place.activate()
    assert len(await cube.search("Where does Maya live?", top_k=5)) == 5
    await cube.close()
    assert place.embedder.asked == 0


def _must_not_be_called(*_: object) -> None:
    raise AssertionError("made again")


async def test_writing_again_costs_nothing_if_nothing_is_new(place: Place):
    await filled(place)
    before = _times(place)
    cube = await place.activate()
    await cube.search("tea")
    await cube.close()
    assert _times(place) == before
    cube = await place.activate()
    await cube.add_messages("one more", op_id="more")
    await cube.settled()
    await cube.close()
    assert all(new > old for old, new in zip(before, _times(place), strict=True))


def _times(place: Place) -> list[int]:
    return [path.stat().st_mtime_ns for path in sorted(place.folder.iterdir())]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _zeroed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4096] = bytes(4096)
    path.write_bytes(data)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _garbage(path: Path) -> None:
    path.write_bytes(os.urandom(5_000))


@pytest.mark.parametrize("damage", [_cut, _zeroed, _empty, _garbage])
async def test_a_damaged_checkpoint_counts_as_none_and_is_replaced(place: Place, tmp_path: Path, damage: Any):
    await filled(place)
    for path in place.folder.iterdir():
        damage(path)
    damaged = {path: path.read_bytes() for path in place.folder.iterdir()}
    await same_without(place, tmp_path / "scratch")
    cube = await place.activate()
    await cube.search("tea")
    await cube.settled()
    await cube.close()
    assert len(damaged) == 2
    for path, data in damaged.items():
        assert path.read_bytes() != data
    await same_without(place, tmp_path / "again")


async def test_every_single_flipped_byte_is_found_or_harmless(place: Place):
    """Flips one byte at a time: what is read is what was written, or `Damaged`."""
    folder = CheckpointFolder(str(place.root / "small"))
    parts: dict[str, Any] = {"p": {"numbers": np.arange(40), "words": ["a", "", "猫"], "none": np.empty(0)}}
    folder.write("x", {"rows": 3}, parts)
    path = place.root / "small" / "x.arrow"
    data = path.read_bytes()
    for i in range(len(data)):
        path.write_bytes(data[:i] + bytes([data[i] ^ 0x55]) + data[i + 1 :])
        try:
            file = folder.open("x")
            found = file.part("p")
        except checkpoint_file.Damaged:
            continue
        assert file.about == {"rows": 3}
        assert found["words"] == ["a", "", "猫"]
        assert found["numbers"].tolist() == list(range(40))
        assert found["none"].tolist() == []


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (checkpoint_file, "FORMAT", checkpoint_file.FORMAT + 1),
        (checkpoint.tokens, "FORM", "terms-99"),
        (checkpoint, "PARTS_FORM", "parts-99"),
    ],
)
async def test_a_checkpoint_made_by_other_rules_counts_as_none(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, value: Any
):
    with monkeypatch.context() as other:
        other.setattr(module, name, value)
        await filled(place)
    used = []
    monkeypatch.setattr(Opened, "restored", lambda self, *_: used.append(self))
    await same_without(place, tmp_path)
    if name != "FORM":  # terms say nothing of vectors
        assert used == []


async def test_rows_that_are_gone_take_their_checkpoint_along(place: Place, tmp_path: Path):
    """As when an owner that was fenced off had written it, or somebody has erased a memory."""
    await filled(place)
    other = place.copy(tmp_path / "other")
    shutil.rmtree(other.root / "memories.lance")
    run = Run(other)
    await run.step("say", ["Something else altogether."], 0)
    assert not list(other.folder.glob("index*"))
    await run.close()
    await same_without(other, tmp_path / "scratch")


async def test_an_owner_that_lost_the_cube_writes_none(place: Place):
    run = Run(place)
    await run.step("say", TEXTS, 0)
    second = await place.activate()
    old, run.cube = run.cube, None
    await old.close()
    assert not place.folder.exists()
    with pytest.raises(Moved):
        await old.add_messages("late", op_id="late")
    await second.close()
    assert place.folder.exists()


async def test_a_failure_to_write_one_is_logged_and_fails_nothing(
    place: Place, caplog: pytest.LogCaptureFixture
):
    run = Run(place)
    await run.step("say", TEXTS, 0)
    place.folder.write_text("a file where the folder should be")
    await run.close()
    assert "no checkpoint of cube" in caplog.text
    await run.step("say", TEXTS, 0)
    await run.close()


async def test_a_growing_cube_writes_one_in_between(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpointing, "_GROWTH", 5)
    run = Run(place)
    await run.step("say", TEXTS, 0)
    assert run.cube is not None
    await run.cube._keeper._task
    assert (place.folder / "index.arrow").exists()
    await run.close(crash=True)


WRITER = """
import os, signal, sys
import numpy as np
import pyarrow as pa
from memos_ray.cube.checkpoint_file import CheckpointFolder
import memos_ray.cube.checkpoint_file as f
left = int(sys.argv[3])
real = f._value
def dies(array):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(array)
f._value = dies
if left == 99:
    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
file = CheckpointFolder(sys.argv[1]).open(sys.argv[2])
parts = {}
for name in {n.split("/")[0] for n in file._arrays}:
    parts[name] = file.part(name)
CheckpointFolder(sys.argv[1]).write(sys.argv[2], dict(file.about), parts)
"""


@pytest.mark.parametrize("after", [0, 3, 99])
async def test_a_kill_in_the_middle_of_writing_leaves_the_last_one(place: Place, tmp_path: Path, after: int):
    await filled(place)
    before = (place.folder / "index.arrow").read_bytes()
    command = [sys.executable, "-c", WRITER, str(place.folder), "index", str(after)]
    ended = await asyncio.to_thread(subprocess.run, command, check=False)
    assert ended.returncode == -9
    assert (place.folder / "index.arrow").read_bytes() == before
    assert list(place.folder.glob("*.part"))
    await same_without(place, tmp_path / "scratch")
    run = Run(place)
    await run.step("say", TEXTS, 0)
    await run.close()
    assert not list(place.folder.glob("*.part"))


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        CheckpointFolder(str(tmp_path / "file" / "x")).write("x", {}, {"p": {"a": np.arange(3)}})
