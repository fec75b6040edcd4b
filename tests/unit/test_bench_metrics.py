"""Retrieval metrics, the LoCoMo reader and the benchmark report."""

from __future__ import annotations

import json
import math

import pytest

from memos_ray.bench import locomo, metrics
from memos_ray.bench.locomo_data import Conversation, DatedSession, Question, Turn, read_locomo
from memos_ray.bench.report import Report, cpu_seconds, quantile
from memos_ray.errors import Invalid
from memos_ray.types import Kind, MemoryItem, Source


def test_recall_counts_each_gold_turn_once_however_many_items_claim_it():
    items = [["a", "x"], ["a"], [], ["b"], ["c"]]
    assert metrics.recall(items, ["a", "b"], 1) == 0.5
    assert metrics.recall(items, ["a", "b"], 3) == 0.5
    assert metrics.recall(items, ["a", "b"], 4) == 1.0
    assert metrics.recall(items, ["z"], 5) == 0.0
    assert metrics.recall([], ["a"], 5) == 0.0


def test_ndcg_is_one_for_the_ideal_order_and_capped_there():
    assert metrics.ndcg([["a"], ["b"]], ["a", "b"]) == pytest.approx(1.0)
    assert metrics.ndcg([["a", "b"]], ["a", "b"]) == 1.0
    late = metrics.ndcg([["x"], ["a"]], ["a"])
    assert late == pytest.approx(1 / math.log2(3))


def test_reciprocal_rank_is_that_of_the_first_item_with_evidence():
    assert metrics.reciprocal_rank([["x"], ["b"], ["a"]], ["a", "b"]) == 0.5
    assert metrics.reciprocal_rank([["x"]], ["a"]) == 0.0


def test_means_over_questions():
    assert metrics.means([{"a": 1.0}, {"a": 0.0}]) == {"a": 0.5}
    assert metrics.means([]) == {}


@pytest.fixture
def locomo_file(tmp_path):
    sample = {
        "sample_id": "c-1",
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Bo",
            "session_2_date_time": "9:05 am on 1 June, 2023",
            "session_2": [{"dia_id": "D2:1", "speaker": "Bo", "text": "Look", "blip_caption": "a red kite"}],
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                {"dia_id": "D1:1", "speaker": "Ann", "text": "I bought a kite."},
                {"dia_id": "D1:2", "speaker": "Bo", "text": "Lovely weather."},
            ],
        },
        "qa": [
            {
                "question": "Who bought a kite?",
                "answer": "Ann",
                "category": 4,
                "evidence": ["D:1:01; D2:1", "D9:9"],
            },
            {"question": "What does nobody know?", "category": 5, "evidence": []},
        ],
    }
    path = tmp_path / "talks.json"
    path.write_text(json.dumps([sample]))
    return path


def test_locomo_is_read_with_captions_dates_and_repaired_evidence(locomo_file):
    (conversation,) = read_locomo(locomo_file)
    assert [s.name for s in conversation.sessions] == ["1", "2"]
    assert conversation.sessions[0].when.isoformat() == "2023-05-08T13:56:00+00:00"
    assert conversation.sessions[1].turns[0].text == "Look [shares a red kite]"
    assert conversation.n_turns == 3
    assert conversation.questions[0].id == "c-1/0"
    assert conversation.questions[0].gold == ("D1:1", "D2:1")
    assert conversation.questions[1].gold == ()


def test_another_file_is_refused_by_name(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"messages": []}')
    with pytest.raises(Invalid, match=r"other\.json is not a LoCoMo file"):
        read_locomo(path)


def test_questions_without_an_answer_score_zero_and_those_without_evidence_do_not_count(locomo_file):
    talks = read_locomo(locomo_file)
    found = locomo.score(talks, [])
    assert found["categories 1-4"] == {"n": 1} | dict.fromkeys(metrics.scores([], ["a"]), 0.0)
    assert found["adversarial"] == {"n": 0}
    full = [{"qid": "c-1/0", "items": [{"sources": ["D1:1"]}, {"sources": ["D2:1"]}]}]
    assert locomo.score(talks, full)["single-hop"]["recall@5"] == 1.0


def test_the_floor_answers_every_question_by_words(locomo_file):
    queries = locomo.bm25_floor(read_locomo(locomo_file))
    assert [q["qid"] for q in queries] == ["c-1/0", "c-1/1"]
    assert {s for item in queries[0]["items"] for s in item["sources"]} >= {"D1:1", "D2:1"}


def _talk(*texts):
    turns = tuple(Turn(f"D1:{n}", "Ann", text) for n, text in enumerate(texts, 1))
    when = locomo_when()
    return Conversation("c", (DatedSession("1", when, turns),), (Question("c/0", "kite", 4, ("D1:1",)),))


def locomo_when():
    from datetime import UTC, datetime

    return datetime(2023, 5, 8, tzinfo=UTC)


def test_a_lost_turn_and_a_recall_below_the_floor_fail_the_report_and_a_slow_search_does_not():
    talk = _talk("a kite", "a boat")
    good = locomo.Result(
        ingest=[{"conv": "c", "turns": 2, "seconds": 1.0}],
        queries=[{"qid": "c/0", "seconds": 99.0, "cpu": None, "items": [{"sources": ["D1:1"]}]}],
        memories={"c": 2},
    )
    report = Report("t", "c")
    locomo.fill_report(report, [talk], good)
    assert report.passed

    good.memories["c"] = 1
    lost = Report("t", "c")
    locomo.fill_report(lost, [talk], good)
    assert [c.name for c in lost.checks if not c.holds] == ["c: no turn lost"]

    good.memories["c"] = 2
    good.queries[0]["items"] = [{"sources": ["D1:2"]}]
    worse = Report("t", "c")
    locomo.fill_report(worse, [talk], good)
    assert [c.name for c in worse.checks if not c.holds] == ["recall@10 is not below plain BM25"]


def test_the_sources_of_an_item_are_the_turns_that_it_carries():
    when = locomo_when()
    sources = (Source(turn="D1:1"), Source(document="x"), Source(turn="D1:2"))
    item = MemoryItem("m", "t", Kind.MESSAGE, when, None, when, when, sources=sources)
    assert locomo.turns_of(item) == ["D1:1", "D1:2"]


def test_the_result_file_is_gzip_when_its_name_says_so(tmp_path):
    import gzip

    result = locomo.Result(queries=[{"qid": "c/0", "items": []}])
    locomo.write_result(tmp_path / "r.json", result, system="s", split="p")
    locomo.write_result(tmp_path / "r.json.gz", result, system="s", split="p")
    plain = json.loads((tmp_path / "r.json").read_text())
    assert plain["queries"] == [{"qid": "c/0", "items": []}]
    assert json.loads(gzip.decompress((tmp_path / "r.json.gz").read_bytes()))["system"] == "s"


def test_quantiles_interpolate():
    assert quantile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert quantile([7.0], 0.95) == 7.0


def test_a_report_states_machine_and_versions_and_passes_on_checks_alone():
    report = Report("t", "memos-ray bench t")
    report.figure("slow", 1e9, "ms", aim="at most 1 ms")
    assert report.passed
    report.check("nothing lost", False, "1 of 2")
    whole = report.to_dict()
    assert whole["passed"] is False
    assert whole["machine"]["cores"] >= 1
    assert whole["versions"]["ray"]
    json.dumps(whole)


def test_cpu_time_of_a_process_grows_and_a_missing_process_has_none():
    import os

    before = cpu_seconds([os.getpid()])
    sum(i * i for i in range(200_000))
    after = cpu_seconds([os.getpid()])
    if before is not None:  # not Linux: there is nothing to read
        assert after is not None
        assert after > before
    assert cpu_seconds([2**22 + 1]) is None
