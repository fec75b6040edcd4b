"""What the planner looks things up in says the same, however it came to be."""

from __future__ import annotations

from memos_ray.cube.indexes import Indexes
from memos_ray.cube.packing import stored_table
from memos_ray.cube.requests import AddMemories, CreateSnapshot, UpdateMemory
from memos_ray.cube.state import CubeState
from memos_ray.ingest.messages import parse_messages
from memos_ray.ingest.triples import parse_triples
from memos_ray.testing.plain_journal import PlainJournal

NAMES = ("operations", "same_text", "_messages", "holders")


def _write(journal: PlainJournal, n: int) -> None:
    now = journal.clock.now()
    said = parse_messages(
        [
            {"role": "user", "content": f"{word} {n}", "turn": f"{n}:{word}", "speaker": "Ada"}
            for word in ("one", "two")
        ],
        now=now,
        timestamp=None,
        conversation="c",
        session=str(n % 2),
        metadata={"user_id": "u"} if n % 2 else None,
        expires_at=None,
    )
    ids = journal.submit(AddMemories(said, op_id=f"say-{n}")).ids
    journal.submit(UpdateMemory(ids[0], text=f"other {n}", op_id=f"update-{n}"))
    lives = parse_triples(
        [("Ada", "lives_in", f"town {n}")], now=now, functional=True, metadata=None, valid_from=None
    )
    journal.submit(AddMemories(lives, op_id=f"triple-{n}"))
    journal.submit(CreateSnapshot(f"s{n}", op_id=f"snapshot-{n}"))


def _built(indexes: Indexes) -> list[object]:
    return [getattr(indexes, name) for name in NAMES]


def test_hints_of_the_loaded_rows_can_be_made_beside_writes():
    journal = PlainJournal()
    for n in range(3):
        _write(journal, n)
    journal.crash()
    state, indexes = journal.state, journal.planner.indexes
    before = indexes.loaded()
    _write(journal, 3)  # makes some of them itself
    for name in NAMES[1:]:
        indexes.__dict__.pop(name, None)
    beside = indexes.loaded()
    assert before == beside
    _write(journal, 4)
    indexes.__dict__.clear()
    indexes._state = state
    indexes.take(beside)
    _write(journal, 5)
    whole = Indexes(CubeState.from_table("cube", stored_table(journal.rows)))
    assert _built(indexes) == _built(whole) == _built(Indexes(state))
    assert all(_built(whole))
