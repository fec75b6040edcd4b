"""How hits stand in a text that a model reads: headings, order, gaps, repeats; no text passes for another's."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from memos_ray.retrieval.packing import Fate, pack_hits
from memos_ray.retrieval.passages import GAP
from memos_ray.types import Kind, Link, LinkType, MemoryItem, SearchHit, Source

DAY = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


def message(n, text, *, speaker="Ada", session="s", when=DAY, follows=None, cube="c", role=None, **fields):
    """The n-th memory of a cube: a message after the one before, unless `follows` says otherwise."""
    before = n - 1 if follows is None else follows
    return hit(
        n,
        text,
        kind=Kind.MESSAGE,
        valid_from=when,
        links=(Link(LinkType.FOLLOWS, f"m{before}"),),
        sources=(Source(conversation="t", session=session, turn=f"t{n}", speaker=speaker, role=role),),
        cube=cube,
        **fields,
    )


def hit(n, text, *, cube="c", score=0.5, kind=Kind.FACT, valid_from=DAY, valid_to=None, **fields):
    item = MemoryItem(f"m{n}", text, kind, valid_from, valid_to, DAY, DAY, **fields)
    return SearchHit(cube, item, score, place=n)


def chunk(n, text, start, *, document="d", heading=None):
    end = start + len(text)
    source = Source(document=document, span_start=start, span_end=end, heading=heading)
    return hit(n, text, kind=Kind.DOCUMENT, sources=(source,))


def text_of(*hits, **options):
    return pack_hits(hits, **options).text


def test_a_session_is_told_in_its_order_under_one_date():
    hits = [message(4, "Ships."), message(1, "Hello."), message(2, "Hi!", speaker="Ben")]
    assert text_of(*hits) == "2023-05-08\nAda: Hello.\nBen: Hi!\n…\nAda: Ships."


def test_time_comes_before_the_order_of_recording():
    late = message(1, "Then this.", when=DAY + timedelta(minutes=1))
    early = message(2, "First that.")
    assert text_of(late, early).splitlines()[1::2] == ["Ada: First that.", "Ada: Then this."]


def test_days_sessions_people_and_cubes_stand_apart_in_order_of_time():
    hits = [
        message(5, "b", when=DAY + timedelta(days=1)),
        message(6, "other session", session="s2"),
        message(7, "of someone else", metadata={"user_id": "u2"}),
        message(1, "a"),
    ]
    packed = pack_hits(hits)
    assert [p.text for p in packed.passages] == [
        "2023-05-08\nAda: a",
        "2023-05-08\nAda: other session",
        "2023-05-08\nAda: of someone else",
        "2023-05-09\nAda: b",
    ]
    assert packed.text == "\n\n".join(p.text for p in packed.passages)
    two = pack_hits([message(1, "a"), message(1, "b", cube="team")])
    assert [p.text for p in two.passages] == ["2023-05-08 c\nAda: a", "2023-05-08 team\nAda: b"]


def test_notes_of_no_session_have_no_gaps():
    loose = {"sources": (Source(role="user"),), "kind": Kind.MESSAGE}
    assert text_of(hit(1, "one", **loose), hit(9, "two", **loose)) == "2023-05-08\nuser: one\nuser: two"


def test_a_date_is_when_it_was_said_or_how_long_it_held():
    told = message(1, "It rained.", when=DAY - timedelta(days=9))
    said = Source(session="s", speaker="Ada", said_at=DAY)
    told = SearchHit("c", told.item.__class__(**{**fields_of(told.item), "sources": (said,)}), 0.5)
    assert text_of(told) == "2023-05-08\nAda: It rained."
    fact = hit(2, "Ada lives in Rome.", valid_to=DAY + timedelta(days=3))
    assert text_of(fact) == "2023-05-08 to 2023-05-11\n- Ada lives in Rome."


def fields_of(item):
    return {name: getattr(item, name) for name in item.__dataclass_fields__}


def test_documents_come_first_and_say_where_they_go_on():
    first, second = "Ask early.", "Tell your team."
    near = len(first) + 2
    hits = [
        chunk(3, second, near, heading="Book > Leave"),
        chunk(9, "Far below.", 900, heading="Book > Leave"),
        chunk(2, first, 0, heading="Book > Leave"),
        chunk(1, "Other.", 0, document="e"),
        message(1, "Hello."),
    ]
    assert text_of(*hits) == (
        "# Book > Leave\n  Ask early.\n  Tell your team.\n…\n  Far below.\n\n# e\n  Other.\n\n2023-05-08\nAda: Hello."
    )


def test_a_heading_is_not_said_again_by_the_text_below_it():
    text = "# Bread\n\n## Oven\n\n240 degrees.\n\n# no heading of this one"
    assert text_of(chunk(1, text, 0, heading="Bread > Oven")) == (
        "# Bread > Oven\n  240 degrees.\n  # no heading of this one"
    )
    assert text_of(chunk(1, "# Bread", 0, heading="Bread")) == "# Bread\n  # Bread"


def test_what_says_the_same_stands_once_and_its_sources_stay():
    said = "The bees have swarmed!"
    hits = [message(1, said), message(5, f" {said.lower()}\n"), message(6, said, speaker="Ben")]
    packed = pack_hits(hits)
    assert packed.text.count("have swarmed!") == 2
    assert packed.fates == (Fate.SHOWN, Fate.REPEAT, Fate.SHOWN)
    assert [s.turn for p in packed.passages for s in p.sources] == ["t1", "t5", "t6"]
    another_day = message(7, said, when=DAY + timedelta(days=1))
    assert len(pack_hits([hits[0], another_day]).hits) == 2  # that it was said again is news


def test_a_short_answer_may_be_given_twice():
    hits = [
        message(1, "Meat?", speaker="Ben"),
        message(2, "No."),
        message(3, "Wine?", speaker="Ben"),
        message(4, "No."),
    ]
    assert pack_hits(hits).text.count("Ada: No.") == 2


def test_what_people_say_in_other_cubes_or_sessions_is_theirs():
    said = "I am a vegetarian, and have been for years."
    for other in (replace(message(1, said), cube_id="tom"), message(1, said, session="2")):
        packed = pack_hits([message(1, said), other])
        assert packed.text.count(said) == 2
        assert packed.fates == (Fate.SHOWN, Fate.SHOWN)
    elsewhere = replace(chunk(2, "Knead. Bake at 240. Rest.", 0), cube_id="tom")
    assert pack_hits([chunk(1, "Bake at 240.", 10), elsewhere]).fates == (Fate.SHOWN, Fate.SHOWN)


def test_a_passage_in_another_stands_once_whichever_comes_first():
    short, long = chunk(1, "Bake at 240.", 10, document="old"), chunk(2, "Knead. bake  at 240. Rest.", 0)
    for hits in ([short, long], [long, short]):
        for options in ({}, {"budget_tokens": 18}):
            packed = pack_hits(hits, **options)
            assert packed.text == "# d\n  Knead. bake  at 240. Rest."
            assert {s.document for s in packed.passages[0].sources} == {"d", "old"}
            assert sorted(packed.fates) == [Fate.REPEAT, Fate.SHOWN]
    tight = pack_hits([short, long], budget_tokens=9)  # the longer one does not fit: the other stays
    assert (tight.text, tight.fates) == ("# old\n  Bake at 240.", (Fate.SHOWN, Fate.TOO_LONG))


def test_a_passage_is_not_in_another_that_only_has_longer_words_with_it():
    assert len(pack_hits([chunk(1, "The restaurant.", 0), chunk(2, "The rest", 90)]).hits) == 2
    assert len(pack_hits([chunk(1, "我的猫叫小白，很可爱。", 0), chunk(2, "猫叫小白", 90)]).hits) == 1


BREAKS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", "\n\n\n"]
PIECES = [
    "Ben: I owe you money", "2024-01-01", "2024-01-01 to 2024-02-02", "# Rules", "- Ada is gone", GAP, " ",
    "\t", "  ", "\u3000", "\x1b[2J", "\x00", "ok",
]  # fmt: skip
hostile = st.lists(st.sampled_from(BREAKS + PIECES), min_size=1, max_size=8).map("".join)
anything = st.one_of(hostile, st.text(min_size=1, max_size=30))


@given(text=anything, name=st.one_of(st.none(), anything), heading=st.one_of(st.none(), anything))
def test_no_text_name_or_heading_passes_for_a_line_of_its_own(text, name, heading):
    real = message(1, "Hello.", speaker="Ben", when=DAY - timedelta(days=1))
    odd = message(2, f"x{text}", speaker=name)
    fact = hit(3, f"y{text}", valid_from=DAY + timedelta(days=1))
    part = chunk(4, f"z{text}", 0, heading=heading)
    lines = text_of(real, odd, fact, part).split("\n")
    assert all(len(line.splitlines()) <= 1 for line in lines)
    begun = [line for line in lines if line and not line.startswith("  ")]
    assert [begun[0][:2], *begun[1:4], begun[5]] == [
        "# ",
        "2023-05-07",
        "Ben: Hello.",
        "2023-05-08",
        "2023-05-09",
    ]
    assert begun[4].startswith("- x") or begun[4].split(": ")[1].startswith("x")
    assert begun[4][:1] not in "#…"
    assert begun[6].startswith("- y")
    assert len(begun) == 7


def test_further_lines_are_set_in():
    assert (
        text_of(message(1, "One.\n\n  Two.\r\nBen: Three."))
        == "2023-05-08\nAda: One.\n    Two.\n  Ben: Three."
    )
    assert text_of(message(1, "x", speaker="Ben: yes,\n# Ada")) == "2023-05-08\nBen yes, # Ada: x"


def test_nothing_found_is_an_empty_text():
    packed = pack_hits([], budget_tokens=5)
    assert (packed.text, packed.hits, packed.passages, packed.fates) == ("", [], (), ())
