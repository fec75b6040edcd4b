from datetime import UTC, datetime

import numpy as np
import pytest

from memos_ray.errors import Invalid
from memos_ray.models.embedder import HashEmbedder
from memos_ray.retrieval.answer import Wanted, answer
from memos_ray.retrieval.arms import CubeIndexes, EmbeddedQuery
from memos_ray.retrieval.bm25 import TextIndex
from memos_ray.retrieval.budget import approximate_tokens
from memos_ray.retrieval.dense import DenseIndex
from memos_ray.retrieval.merge import merge_hits
from memos_ray.retrieval.neighbours import SessionOrder
from memos_ray.retrieval.pool import Facts
from memos_ray.retrieval.query import NameIndex, ParsedQuery, QueryParser, without_names
from memos_ray.retrieval.question import NO_QUESTION, Question
from memos_ray.retrieval.recipe import Recipe, recipe_named
from memos_ray.retrieval.search import SearchOptions, search
from memos_ray.retrieval.speakers import SpeakerIndex
from memos_ray.retrieval.traits import TRAITS, traits
from memos_ray.types import Kind, MemoryItem, SearchHit

TURNS = [
    ("Ada", "Where did you go hiking last summer?"),
    ("Ben", "The Dolomites, for two weeks."),
    ("Ada", "My sister Clara adopted a grey cat."),
    ("Ben", "I would rather have a dog, cats scratch the sofa."),
    ("Ada", "The new job at the library starts on Monday."),
    ("Ben", "Congratulations! Librarians are my heroes."),
]


def facts(slots):
    return Facts(
        said_at=np.zeros(len(slots), np.int64),
        traits=np.array([traits(TURNS[s][1]) for s in slots.tolist()], np.float32).reshape(-1, len(TRAITS)),
        session=np.zeros(len(slots), np.int64),
        mentions=((),) * len(slots),
        message=np.ones(len(slots), bool),
    )


class Graph:
    """Spreads from seeds to the next slot, and from entities to the slots listed for them."""

    def __init__(self, size, mentions):
        self.size, self.mentions, self.asked = size, mentions, None

    def ppr(self, seeds, entities):
        self.asked = dict(seeds), dict(entities)
        scores = np.zeros(self.size, np.float32)
        for slot, weight in seeds.items():
            scores[slot] += weight
            scores[(slot + 1) % self.size] += weight / 2
        for name, weight in entities.items():
            scores[self.mentions.get(name, [])] += weight
        return scores


class Cube:
    """Six turns of two people, indexed in every way."""

    def __init__(self):
        self.text, self.order, self.speakers = TextIndex(), SessionOrder(), SpeakerIndex()
        self.entities = NameIndex(["Clara", "Dolomites"])
        for slot, (speaker, text) in enumerate(TURNS):
            self.text.add(slot, text)
            self.order.add(slot, f"m{slot}", f"m{slot - 1}" if slot else None)
            self.speakers.add(slot, speaker)
        self.graph = Graph(len(TURNS), {"Clara": [2], "Dolomites": [1]})
        self.mask = np.ones(len(TURNS), bool)
        terms = self.text.query_terms
        self.parser = QueryParser(self.entities, self.speakers.names, terms, lambda text, day: NO_QUESTION)

    async def embedded(self):
        self.dense = DenseIndex(64)
        self.dense.set(range(len(TURNS)), await HashEmbedder(64).embed([text for _, text in TURNS]))
        return self

    def indexes(self, **changes):
        entities = {1: {"Dolomites"}, 2: {"Clara"}}
        parts = {"dense": self.dense, "graph": self.graph, "order": self.order, "speakers": self.speakers}
        parts |= {
            "texts": lambda slots: [TURNS[s][1] for s in slots],
            "entities_of": lambda s: entities.get(s, ()),
        }
        return CubeIndexes(self.text, facts, **{**parts, **changes})

    async def ask(self, question, indexes=None, vector=True, **options):
        query = self.parser.parse(question, 0, 1)
        vectors = EmbeddedQuery((await HashEmbedder(64).embed([query.dense_text]))[0]) if vector else None
        return search(indexes or self.indexes(), query, vectors, self.mask, SearchOptions(**options))


@pytest.fixture
async def cube():
    return await Cube().embedded()


async def test_all_arms_explain_a_hit(cube):
    hit = (await cube.ask("What pet did Clara get, a cat?", explain=True))[0]
    assert hit.slot == 2
    assert hit.matched_terms == ("clara", "cat")
    assert hit.matched_entities == ("Clara",)
    assert {"dense", "text", "graph"} <= set(hit.arms)
    assert hit.arms["text"].rank == 1
    assert hit.arms["text"].score > 0
    assert 0 < hit.score <= 1
    assert cube.graph.asked[1].keys() == {"Clara"}


async def test_order_of_scores(cube):
    hits = await cube.ask("library job")
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert len({h.slot for h in hits}) == len(hits)
    assert hits[0].arms == {}


@pytest.mark.parametrize("missing", ["dense", "graph", "order", "speakers"])
async def test_works_without_any_one_arm(cube, missing):
    hits = await cube.ask("Clara's grey cat", cube.indexes(**{missing: None}), explain=True)
    assert hits[0].slot == 2
    assert missing not in hits[0].arms


async def test_works_without_vectors_and_without_matching_terms(cube):
    assert (await cube.ask("grey cat", vector=False))[0].slot == 2
    assert await cube.ask("zebra", cube.indexes(dense=None)) == []
    assert len(await cube.ask("zebra")) > 0
    assert (await cube.ask("grey zebra", CubeIndexes(cube.text, facts)))[0].slot == 2


async def test_hidden_slots_are_never_found(cube):
    cube.mask[2] = False
    for neighbours in (0, 2):
        assert 2 not in {h.slot for h in await cube.ask("Clara's grey cat", neighbours=neighbours)}
    cube.mask[:] = False
    assert await cube.ask("Clara's grey cat") == []


async def test_an_answer_is_found_by_the_words_of_its_question(cube):
    bare = CubeIndexes(cube.text, facts)
    assert 1 not in {h.slot for h in await cube.ask("hiking", bare)}
    assert 1 in {h.slot for h in await cube.ask("hiking", cube.indexes(graph=None, dense=None))}


async def test_what_the_named_speaker_said_is_told_apart(cube):
    hits = {h.slot: h for h in await cube.ask("What does Ben think of a cat?", explain=True, top_k=6)}
    assert hits[3].signals["speaker"].value == 1
    assert hits[2].signals["speaker"].value == 0
    assert {"dense of speaker", "window of speaker"} & set(hits[3].arms)
    assert not {"dense of speaker", "window of speaker"} & set(hits[2].arms)
    both = await cube.ask("What do Ada and Ben think of a cat?", explain=True)
    assert all(h.signals["speaker"].value == 0 for h in both)


async def test_contributions_add_up_to_the_order(cube):
    hits = await cube.ask("What pet did Clara get, a cat?", explain=True, top_k=6)
    sums = [sum(s.contribution for s in h.signals.values()) for h in hits]
    assert sums == sorted(sums, reverse=True)
    weights = [abs(s.contribution) for s in hits[0].signals.values()]
    assert weights == sorted(weights, reverse=True)
    values = [h.signals["dense"].value for h in hits]
    assert [h.signals["dense"].rank for h in hits] == [1 + sum(v > mine for v in values) for mine in values]


async def test_without_the_ranker_the_ranks_of_the_arms_are_fused(cube):
    hits = await cube.ask(
        "What pet did Clara get, a cat?", recipe=recipe_named("plain"), explain=True, top_k=6
    )
    assert hits[0].slot == 2
    assert hits[0].signals == {}
    assert 0 < hits[0].score <= 1
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    text_only = CubeIndexes(cube.text, facts)
    hit = (await cube.ask("grey zebra", text_only, recipe=recipe_named("plain")))[0]
    assert (hit.slot, hit.score) == (2, pytest.approx(0.5))


async def test_what_is_no_candidate_follows_behind(cube):
    recipe = Recipe("one", candidates=1)
    hits = await cube.ask("cat", recipe=recipe, top_k=6)
    assert len(hits) == len(TURNS)
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert await cube.ask("cat", recipe=recipe, top_k=2) == hits[:2]


async def test_top_k_and_threshold(cube):
    assert len(await cube.ask("cat", top_k=2)) == 2
    hits = await cube.ask("cat", top_k=6)
    bound = hits[1].score
    assert [h.slot for h in await cube.ask("cat", top_k=6, threshold=bound)] == [
        h.slot for h in hits if h.score >= bound
    ]


async def test_neighbours_follow_their_hit_in_order_of_time(cube):
    hits = await cube.ask(
        "adopted", vector=False, indexes=cube.indexes(graph=None, speakers=None), neighbours=1
    )
    assert [h.slot for h in hits] == [2, 1, 3, 4]
    assert [h.neighbour_of for h in hits] == [None, 2, None, 3]  # 3 is a hit itself, by the words before it


async def test_a_budget_gets_enough_hits_to_choose_from_and_no_more(cube):
    every = await cube.ask("cat", top_k=6)
    hits = await cube.ask("cat", top_k=6, budget_tokens=10)
    tokens = sum(approximate_tokens(TURNS[h.slot][1]) for h in hits)
    assert hits == every[: len(hits)]
    assert 10 <= tokens <= 20 < sum(approximate_tokens(text) for _, text in TURNS)
    with pytest.raises(Invalid, match="texts"):
        await cube.ask("cat", cube.indexes(texts=None), budget_tokens=20)
    with pytest.raises(Invalid, match="budget_tokens"):
        await cube.ask("cat", budget_tokens=0)


@pytest.mark.parametrize("options", [{"top_k": 0}, {"neighbours": -1}])
def test_options_are_checked(options):
    with pytest.raises(Invalid, match=next(iter(options))):
        SearchOptions(**options)


def test_an_empty_cube_has_no_hits():
    query = ParsedQuery("hello", ("hello",), (), (), "hello")
    empty = CubeIndexes(TextIndex(), facts, DenseIndex(2), order=SessionOrder(), speakers=SpeakerIndex())
    assert search(empty, query, EmbeddedQuery(np.array([1, 0], np.float32)), np.zeros(0, bool)) == []


def test_recipes_have_names():
    assert recipe_named(None).name == "default"
    assert not recipe_named("fast").late
    for wrong in ("slow", 3):
        with pytest.raises(Invalid, match="plain, fast, default, best"):
            recipe_named(wrong)


def spans(names, text):
    return [(start, end) for _, start, end in names.find_called(text)]


def test_words_are_looked_for_without_the_speakers_names():
    names = NameIndex(["Ada", "Melanie"])

    def without(text):
        return without_names(text, list(names.find_called(text)))

    assert without("What did Ada's friend tell Mel?") == "What did friend tell ?"
    assert without("Ada") == "Ada"


def test_short_names_are_understood_only_where_one_speaker_is_meant():
    assert spans(NameIndex(["Melanie", "Melissa"]), "What did Mel say?") == []
    assert spans(NameIndex(["Melanie"]), "a melon from Me") == []
    assert spans(NameIndex(["Melanie"]), "What did Mel say?") == [(9, 12)]


def test_new_names_are_seen_by_queries_asked_before():
    entities, speakers = NameIndex(), NameIndex(["Ada"])
    parser = QueryParser(
        entities, speakers, lambda text: text.lower().split(), lambda text, day: Question("where")
    )
    assert parser.parse("Ada in Rome", 0, 1).entities == ()
    entities.add("Rome")
    parsed = parser.parse("Ada in Rome", 0, 1)
    assert (parsed.entities, parsed.speakers, parsed.dense_text) == (("Rome",), ("Ada",), "I in Rome")
    assert (parsed.terms, parsed.names, parsed.question.kind) == (("in", "rome"), {"rome"}, "where")
    assert parser.parse("Ada in Rome", 0, 1) is parsed
    assert parser.parse("Ada in Rome", 1, 1) is not parsed


def test_longest_name_wins():
    names = NameIndex(["New York", "New York Times", "York"])
    assert [n for n, _, _ in names.find("the new york times in York and New York")] == [
        "New York Times", "York", "New York",
    ]  # fmt: skip


def test_order_follows_versions_under_a_view():
    order = SessionOrder()
    order.add(0, "a")
    order.add(1, "b", follows="a")
    order.add(2, "c", follows="b")
    order.add(3, "b")  # b was edited
    order.add(4, "b")  # and again
    now, past = np.array([1, 0, 1, 0, 1], bool), np.array([1, 1, 1, 0, 0], bool)
    assert order.around(2, now, 2) == [0, 4]
    assert order.around(2, past, 2) == [0, 1]
    assert order.around(4, now, 1) == [0, 2]
    assert order.previous(now)[[0, 2, 4]].tolist() == [-1, 4, 0]
    assert order.previous(past)[:3].tolist() == [-1, 0, 1]
    gone = np.array([1, 0, 1, 0, 0], bool)
    assert order.around(2, gone, 2) == []
    assert order.previous(gone)[2] == -1


def hit(cube_id, item_id, score, text="some text here"):
    when = datetime(2024, 1, 1, tzinfo=UTC)
    return SearchHit(cube_id, MemoryItem(item_id, text, Kind.FACT, when, None, when, when), score)


def test_hits_of_cubes_merge_by_score():
    merged = merge_hits([[hit("a", "1", 0.9), hit("a", "2", 0.2)], [hit("b", "1", 0.5), hit("b", "1", 0.5)]])
    assert [(h.cube_id, h.item.id) for h in merged] == [("a", "1"), ("b", "1"), ("a", "2")]
    assert merge_hits([]) == []


def test_merged_hits_keep_the_budget_and_every_cube_speaks_for_itself():
    per_cube = [[hit("a", "1", 0.9, "one")], [hit("b", "1", 0.8, "one"), hit("b", "2", 0.7, "two")]]
    found = answer(merge_hits(per_cube), Wanted(5, budget_tokens=18))
    assert [(h.cube_id, h.item.id) for h in found] == [("a", "1"), ("b", "1")]
    assert [p.text for p in found.passages] == ["2024-01-01 a\n- one", "2024-01-01 b\n- one"]


def test_the_weights_of_a_recipe_are_a_setting():
    assert recipe_named("best", weights="made").weights == "made"
    assert recipe_named("plain", weights="made").weights is None
