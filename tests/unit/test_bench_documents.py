"""Questions about documents keep their protocol; the baselines are what they say."""

from __future__ import annotations

import math
import re

import pytest

from memos_ray.bench import budgets, documents, documents_corpus, documents_questions, made_chinese
from memos_ray.bench.baselines import Bm25, bigrams
from memos_ray.bench.report import Report
from memos_ray.types import Kind, MemoryItem, Source

MODULES = (
    "json",
    "shutil",
    "queue",
    "logging",
    "asyncio",
    "turtle",
    "optparse",
    "http",
    "assert",
    "with",
    "for",
)


@pytest.fixture(scope="module")
def corpus():
    return documents_corpus.standard_library(MODULES)


@pytest.fixture(scope="module")
def asked(corpus):
    return documents_questions.questions(corpus, wanted=60)


def test_the_rest_of_a_section_stands_where_it_says(corpus):
    for document in corpus:
        for section in document.sections:
            assert document.text[section.start : section.end] == section.body
            assert (
                documents_corpus.LEAD_WORDS[0] <= len(section.lead.split()) <= documents_corpus.LEAD_WORDS[1]
            )
    assert {"json", "shutil"} < {d.name for d in corpus}
    assert any(d.name.startswith("reference ") for d in corpus)


def test_questions_are_the_same_for_the_same_seed_and_of_all_kinds(corpus, asked):
    assert documents_questions.questions(corpus, wanted=60) == asked
    assert documents_questions.questions(corpus, wanted=60, seed=1) != asked
    assert {q.kind for q in asked} == set(documents_questions.KINDS)


def test_gold_exists_and_no_question_copies_it(corpus, asked):
    texts = {p.id: p.text for p in documents_questions.passages(corpus)}
    for question in asked:
        assert question.gold
        assert len(question.gold) == (2 if question.kind == "two-hop" else 1)
        words = re.findall(r"[A-Za-z][A-Za-z'-]*", question.text.lower())
        for gold in question.gold:
            said = f" {' '.join(re.findall(r'[A-Za-z][A-Za-z' + chr(39) + '-]*', texts[gold].lower()))} "
            assert not any(f" {' '.join(words[i : i + 4])} " in said for i in range(len(words) - 3))


def test_no_question_is_made_of_a_sentence_that_stands_in_a_document():
    repeated = "Put an item into the queue."
    bodies = ("Wait for a free slot if the queue is full by then.", f"{repeated} And wait for it.")
    text = "\n".join(bodies)
    sections = tuple(
        documents_corpus.Section(
            "d", f"d.{n}", lead, body, text.index(body), text.index(body) + len(body), True
        )
        for n, (lead, body) in enumerate(
            zip((repeated, "Sort all rows by their second column."), bodies, strict=True)
        )
    )
    asked = documents_questions.questions([documents_corpus.Document("d", text, sections)], wanted=10)
    assert [q.kind for q in asked] == ["lead"]
    assert "second column" in asked[0].text


def test_halves_are_whole_documents(asked):
    halves: dict[str, set[bool]] = {}
    for question in asked:
        halves.setdefault(question.gold[0].split(":")[0], set()).add(question.test)
    assert all(len(half) == 1 for half in halves.values())
    assert {True, False} == {q.test for q in asked}


def test_a_second_hop_leads_to_a_section_that_the_first_one_names(corpus, asked):
    texts = {p.id: p for p in documents_questions.passages(corpus)}
    hops = [q for q in asked if q.kind == "two-hop"]
    for question in hops:
        first, second = (texts[g] for g in question.gold)
        name = second.heading.rpartition(".")[2]
        sections = {s.name: s for d in corpus for s in d.sections}
        named = sections[first.heading.rpartition(" > ")[2]].body
        assert first.document == second.document
        assert name in named


def test_bm25_by_hand():
    ranker = Bm25(["a b", "a a a", "c"], str.split)
    assert ranker.rank("a", 5) == [1, 0]
    assert ranker.rank("z", 5) == []
    assert ranker.rank("c a", 1) == [2]
    idf = math.log1p((3 - 1 + 0.5) / 1.5)
    assert idf > math.log1p((3 - 2 + 0.5) / 2.5)


def test_pairs_of_characters_do_not_cross_punctuation():
    assert bigrams("我爱你。好") == ["我爱", "爱你", "好"]
    assert bigrams("A b") == ["a", "b"]


def test_budgets_count_the_longest_prefix_that_fits():
    texts = ["x " * 300, "x " * 300, "x " * 500]
    found = budgets.scores(texts, [["a"], ["b"], ["c"]], ["a", "b", "c"], lambda text: len(text.split()))
    assert found == {
        "tokens@10": 1100.0,
        "rec@500t": pytest.approx(1 / 3),
        "rec@1000t": pytest.approx(2 / 3),
        "rec@2000t": 1.0,
    }
    assert budgets.scores([], [], ["a"], len)["rec@500t"] == 0.0
    assert budgets.token_counter()("Playing chess.") == 3


def test_a_diary_is_the_same_for_the_same_seed_and_its_gold_is_about_who_is_asked():
    diary = made_chinese.make_diary(5)
    assert made_chinese.make_diary(5) == diary
    assert made_chinese.make_diary(6) != diary
    notes = {n.id: n.text for n in diary.notes}
    assert len(notes) == len(diary.notes) > 600
    assert {q.kind for q in diary.questions} == {"fact", "list", "two-hop"}
    for question in diary.questions:
        told = [notes[g] for g in question.gold]
        if question.kind != "two-hop":
            assert any(all(pair in text for text in told) for pair in bigrams(question.text))
        assert not any(
            question.text[i : i + 6] in notes[g] for g in question.gold for i in range(len(question.text) - 5)
        )


def _set():
    units = (("a", "one"), ("b", "two"))
    asked = (documents_questions.Asked("q", "lead", "one?", ("a",), True),)
    return documents.TestSet(
        "s", units, asked, lambda *_: None, lambda _: [], str.split, str.split, "BM25", ("BM25",)
    )


def test_a_lost_text_and_a_recall_that_is_not_above_the_baseline_fail_the_report():
    what, row = _set(), dict.fromkeys(documents.SHOWN, 1.0)
    run = documents.Run(ingest_seconds=1.0, held=2)
    run.rows = {"memos_ray": [("lead", True, row)], "BM25": [("lead", True, row | {"recall@10": 0.5})]}
    report = Report("t", "c")
    documents.fill_report(report, what, run)
    assert report.passed

    run.held = 1
    lost = Report("t", "c")
    documents.fill_report(lost, what, run)
    assert [c.name for c in lost.checks if not c.holds] == ["s: nothing lost"]

    run.held = 2
    run.rows["BM25"] = [("lead", True, row)]
    equal = Report("t", "c")
    documents.fill_report(equal, what, run)
    assert [c.name for c in equal.checks if not c.holds] == ["s: recall@10 is above that of BM25"]


def test_passages_are_known_again_by_their_span(corpus):
    what = documents.document_set(corpus, ())
    first = documents_questions.passages(corpus)[0]
    source = Source(document=first.document, span_start=first.start, span_end=first.end)
    from datetime import UTC, datetime

    when = datetime(2024, 1, 1, tzinfo=UTC)
    item = MemoryItem("m", first.text, Kind.DOCUMENT, when, None, when, when, sources=(source, Source()))
    assert what.ids_of(item) == [first.id] == [what.units[0][0]]
