import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.errors import Unavailable
from memos_ray.ingest.extract_llm import LlmExtractor
from memos_ray.ingest.llm_answer import MAX_ITEMS, answer_schema, read_answer
from memos_ray.ingest.messages import parse_messages
from memos_ray.types import Kind

NOW = datetime(2023, 7, 19, 14, 30, tzinfo=UTC)


class Script:
    """A `ChatModel` that gives the next of its replies and keeps what it was asked."""

    def __init__(self, *replies: str) -> None:
        self.replies, self.asked = list(replies), []

    async def complete(
        self, messages: Sequence[dict[str, Any]], *, json_schema: dict[str, Any] | None = None
    ) -> str:
        assert json_schema == answer_schema()
        self.asked.append(list(messages))
        return self.replies.pop(0)


def item(**changes: Any) -> dict[str, Any]:
    whole = {
        "text": "Maya lives in Porto",
        "kind": "fact",
        "messages": [0],
        "valid_from": None,
        "valid_to": None,
        "entities": ["Maya"],
    }
    return {**whole, **changes}


def answer(*items: dict[str, Any]) -> str:
    return json.dumps({"memories": list(items)})


def messages(*texts: str) -> Any:
    return parse_messages(
        [{"content": text, "name": "Maya", "dia_id": str(i)} for i, text in enumerate(texts)],
        timestamp=NOW, now=NOW, conversation="c", metadata={"user_id": "u", "x": 1},
    )  # fmt: skip


async def test_an_answer_becomes_drafts() -> None:
    event = item(
        text="Maya moved",
        kind="event",
        messages=[1, 0],
        valid_from="2023-05-01",
        valid_to="2023-06-01T00:00:00Z",
    )
    chat = Script(answer(item(), event))
    first, second = await LlmExtractor(chat).extract(
        messages("I live in Porto", "I moved in May"), ["Before this."]
    )
    assert (first.kind, first.text, first.entities, first.derived_from) == (
        Kind.FACT, "Maya lives in Porto", ("Maya",), (0,),
    )  # fmt: skip
    assert first.valid_from == NOW
    assert (first.source.extractor, first.source.turn, first.source.conversation) == ("llm", "0", "c")
    assert first.metadata == {"user_id": "u"}
    assert second.derived_from == (0, 1)
    assert second.valid_from == datetime(2023, 5, 1, tzinfo=UTC)
    assert second.valid_to == datetime(2023, 6, 1, tzinfo=UTC)
    prompt = chat.asked[0][1]["content"]
    assert "[1] (2023-07-19 14:30 Wednesday) Maya: I moved in May" in prompt
    assert prompt.index("Before this.") < prompt.index("[0]")


async def test_prompt_is_in_the_language_of_the_messages() -> None:
    chat = Script(answer(), answer())
    extractor = LlmExtractor(chat)
    assert await extractor.extract(messages("我住在上海"), []) == []
    assert await extractor.extract(messages("I live in Porto"), []) == []
    assert "长期记忆" in chat.asked[0][0]["content"]
    assert "long-term memories" in chat.asked[1][0]["content"]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("Sure! Here you are", "not valid JSON"),
        ("[]", 'a list under "memories"'),
        (answer(item(kind="rumour")), r"memories[0].kind"),
        (answer(item(), item(text=" ")), "memories[1].text"),
        (answer(item(text="x" * 501)), "memories[0].text"),
        (answer(item(messages=[])), "memories[0].messages"),
        (answer(item(messages=[1])), "there is no message 1, only 0 to 0"),
        (answer(item(messages=[-1])), "there is no message -1"),
        (answer(item(valid_from="last spring")), "memories[0].valid_from"),
        ('{"memories": [{"text": "a\\ud800", "kind": "fact", "messages": [0]}]}', "memories[0].text"),
    ],
)
async def test_an_ill_formed_answer_is_sent_back_with_what_is_wrong(wrong: str, complaint: str) -> None:
    chat = Script(wrong, answer(item()))
    (draft,) = await LlmExtractor(chat).extract(messages("I live in Porto"), [])
    assert draft.text == "Maya lives in Porto"
    assert chat.asked[1][-2] == {"role": "assistant", "content": wrong}
    assert complaint in chat.asked[1][-1]["content"]


async def test_gives_up_after_its_attempts() -> None:
    chat = Script("no", "no", "never")
    with pytest.raises(Unavailable, match="3 answers of the model were ill-formed; the last: not valid JSON"):
        await LlmExtractor(chat, attempts=3).extract(messages("Hello"), [])
    assert chat.replies == []


async def test_long_input_goes_in_several_calls_and_positions_stay_right() -> None:
    chat = Script(answer(item(messages=[0])), answer(item(messages=[0, 1])))
    texts = ["a " * 3_900] * 8
    drafts = await LlmExtractor(chat).extract(messages(*texts), [])
    assert [d.derived_from for d in drafts] == [(0,), (6, 7)]


def test_what_is_forgiven() -> None:
    fenced = f"<think>hm {{}}</think>\n```json\n{answer(item(extra=1))}\n```"
    assert [m.text for m in read_answer(fenced, 1)] == ["Maya lives in Porto"]
    assert len(read_answer(answer(*[item()] * 100), 1)) == MAX_ITEMS
    assert read_answer(answer(item(valid_from="")), 1)[0].valid_from is None


def test_schema_is_strict() -> None:
    schema = answer_schema()
    memory = schema["properties"]["memories"]["items"]
    assert set(memory["required"]) == set(memory["properties"])
    assert memory["additionalProperties"] is False


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["memories", "text", "kind", "messages"]), inner)
    ),
    max_leaves=8,
)


@given(json_values.map(json.dumps) | st.text(), st.integers(1, 3))
def test_any_reply_is_read_or_refused_with_a_value_error(reply: str, count: int) -> None:
    refused = ""
    memories = []
    try:
        memories = read_answer(reply, count)
    except ValueError as error:
        refused = str(error)
    assert not (refused and memories)
    assert all(0 <= p < count for memory in memories for p in memory.messages)
