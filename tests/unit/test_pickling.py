import pickle
from datetime import UTC, datetime

from memos_ray.types import Kind, Link, MemoryItem, SearchHit, Source, TimeMention

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def test_what_travels_between_processes_arrives_as_it_was():
    item = MemoryItem(
        "m", "text", Kind.MESSAGE, NOW, None, NOW, NOW,
        links=(Link("follows", "n", 0.5),),
        times=(TimeMention("today", NOW, NOW),),
        sources=(Source("c", speaker="Ada", said_at=NOW),),
        metadata={"a": [1]},
    )  # fmt: skip
    hit = SearchHit("c", item, 0.5, tokens=3)
    again = pickle.loads(pickle.dumps(hit))
    assert again == hit
    assert type(again.item.kind) is Kind
