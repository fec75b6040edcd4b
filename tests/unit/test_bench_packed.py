"""The benchmark of packed prompts: recall over whole prompts, and a budget that is checked."""

from datetime import UTC, datetime

from memos_ray.bench import locomo
from memos_ray.bench.locomo_data import Conversation, DatedSession, Question, Turn
from memos_ray.bench.packed import Packing
from memos_ray.bench.report import Report
from memos_ray.retrieval.answer import Wanted, answer
from memos_ray.types import Kind, MemoryItem, SearchHit, Source

DAY = datetime(2023, 5, 8, tzinfo=UTC)
TURNS = tuple(Turn(f"D1:{n}", "Ann", text) for n, text in enumerate(("a kite", "a boat"), 1))
TALK = Conversation("c", (DatedSession("1", DAY, TURNS),), (Question("c/0", "kite?", 4, ("D1:1", "D1:2")),))


def test_items_are_the_passages_with_all_their_turns_and_the_budget_is_checked():
    sources = [Source(session="1", turn=turn.id, speaker="Ann") for turn in TURNS]
    items = [
        MemoryItem(s.turn, t.text, Kind.MESSAGE, DAY, None, DAY, DAY, sources=(s,))
        for s, t in zip(sources, TURNS, strict=True)
    ]
    hits = [SearchHit("c", item, 0.5, place=n) for n, item in enumerate(items)]
    packing = Packing.read(20, None)
    shown = packing.shown(answer(hits, Wanted(9, budget_tokens=20, prompt=True)))
    text = "2023-05-08\nAnn: a kite\n…\nAnn: a boat"
    assert shown == {"items": [{"text": text, "sources": ["D1:1", "D1:2"]}], "tokens": 15}

    result = locomo.Result(
        ingest=[{"conv": "c", "turns": 2, "seconds": 1.0}],
        queries=[{"qid": "c/0", "seconds": 0.1, "cpu": None, **shown}],
        memories={"c": 2},
    )
    report = Report("t", "c")
    locomo.fill_report(report, [TALK], result, packing)
    assert report.passed
    figures = {f.name: f.value for f in report.figures}
    assert figures["single-hop recall@20t"] == figures["categories 1-4 recall@20t"] == 100
    result.queries[0]["tokens"] = 21
    over = Report("t", "c")
    locomo.fill_report(over, [TALK], result, packing)
    assert [c.name for c in over.checks if not c.holds] == ["no prompt has more than 20 tokens"]
