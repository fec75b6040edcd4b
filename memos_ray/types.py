"""What a cube holds and what it answers with. Plain frozen values: no storage, no Ray, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import Any


class Kind(StrEnum):
    """What a memory is. Messages are what was said; everything else is derived or was handed over as such."""

    MESSAGE = "message"
    FACT = "fact"
    PREFERENCE = "preference"
    EVENT = "event"
    DOCUMENT = "document"
    SUMMARY = "summary"
    TOOL = "tool"
    TRIPLE = "triple"


class Status(StrEnum):
    """Where a memory stands. Search without a point in time sees `active` only."""

    ACTIVE = "active"
    SUPERSEDED = "superseded"  # a later fact took its place; `as_of` a time before that still finds it
    ARCHIVED = "archived"  # put away by its owner, `restore` brings it back
    MERGED = "merged"  # says the same as another memory, which `get` resolves to
    DELETED = "deleted"  # only history, `known_at` and a snapshot restore still know it


class LinkType(StrEnum):
    """Edge types with a meaning of their own. Any other string is a user's relation."""

    FOLLOWS = "follows"  # this message came after that one in the same session
    MENTIONS = "mentions"  # memory -> entity; derived from `entities`, never stored as a link
    SUPERSEDES = "supersedes"
    DERIVED_FROM = "derived_from"
    SIMILAR = "similar"


class _Quick:
    """Pickled as the class and its values: half the time of what frozen dataclasses with slots do by themselves, and a
    search sends hundreds of these from process to process."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        of: Any = type(self)
        return of, _getter(of)(self)


@cache
def _getter(of: Any) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*(f.name for f in fields(of)))


@dataclass(frozen=True, slots=True)
class Link(_Quick):
    """A typed edge to another memory (`target` is its id) or to an entity (`target` is `entity:<name>`)."""

    type: str
    target: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class TimeMention(_Quick):
    """A date in the text, resolved against the time at which it was said: [start, end), both UTC."""

    text: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Source(_Quick):
    """Where a memory came from: a turn of a conversation, or a span of a document; and what extracted it.

    `said_at` is when a message was said (UTC): its `valid_from` may be an earlier time, of which it tells.
    """

    conversation: str | None = None
    session: str | None = None
    turn: str | None = None
    speaker: str | None = None
    role: str | None = None
    document: str | None = None
    span_start: int | None = None  # characters, half-open
    span_end: int | None = None
    heading: str | None = None
    extractor: str | None = None
    said_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class MemoryItem(_Quick):
    """One version of one memory.

    `valid_from`/`valid_to` say when it is true (half-open, UTC), `recorded_at` when this version was
    committed. `created_at` is when the first version was. `sources` has one entry, or more after a merge.
    """

    id: str
    text: str
    kind: Kind
    valid_from: datetime
    valid_to: datetime | None
    recorded_at: datetime
    created_at: datetime
    status: Status = Status.ACTIVE
    version: int = 1
    entities: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    times: tuple[TimeMention, ...] = ()
    sources: tuple[Source, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    expires_at: datetime | None = None

    @property
    def source(self) -> Source:
        """The first source (an empty one if there is none)."""
        return self.sources[0] if self.sources else Source()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: times as ISO 8601 strings, empty source fields left out."""
        return {f.name: to_jsonable(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One step in the life of a memory: which operation made which version."""

    op: str
    op_id: str
    seq: int
    item: MemoryItem


@dataclass(frozen=True, slots=True)
class ArmScore:
    """What one retrieval arm said of a hit: its raw score and its rank (1 is best)."""

    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class SignalScore:
    """What one signal of the ranker said of a hit: its value, its rank among the candidates (1 is best), and how much
    it added to the score (weight x value; the scores of two hits of one query differ by what their signals add)."""

    value: float
    rank: int
    contribution: float


@dataclass(frozen=True, slots=True)
class AskedFor:
    """What a search understood of its query: index terms, names it knows, who is named as a speaker, the text that was
    embedded, the kind of question, and the times that it names ("2023-05-01/2023-06-01", "every July")."""

    terms: tuple[str, ...]
    entities: tuple[str, ...]
    speakers: tuple[str, ...]
    embedded: str
    kind: str
    listing: bool
    times: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RerankScore:
    """What a reranker said of a hit: its score (comparable within this search only), its rank by it, and the position
    that the ranker had given it (1 is best)."""

    score: float
    rank: int
    before: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a hit is where it is. `arms` maps an arm's name to its raw score and rank; `signals` maps those of the ranker
    to what they said, the largest contribution first; `query` is what was understood of the query; `rerank` is there if
    the hit was reranked.

    `neighbour_of` names the hit that pulled this one in, if no arm found it by itself.
    """

    arms: Mapping[str, ArmScore]
    signals: Mapping[str, SignalScore]
    query: AskedFor
    neighbour_of: str | None = None
    matched_terms: tuple[str, ...] = ()
    matched_entities: tuple[str, ...] = ()
    rerank: RerankScore | None = None


@dataclass(frozen=True, slots=True)
class SearchHit(_Quick):
    """A memory that a search found.

    `tokens`, when a budget was given: what it adds to the passages that it came into. `place` is the number of the
    memory in its cube, in the order in which they were first recorded: it orders what was said at the same time.
    """

    cube_id: str
    item: MemoryItem
    score: float
    explanation: Explanation | None = None
    tokens: int | None = None
    place: int = 0

    def to_dict(self) -> dict[str, Any]:
        """mem0's shape (`id`, `memory`, `score`) with everything that this system adds."""
        d = self.item.to_dict()
        d["memory"] = d.pop("text")
        d["score"] = self.score
        d["cube_id"] = self.cube_id
        if self.explanation is not None:
            d["explanation"] = to_jsonable(self.explanation)
        if self.tokens is not None:
            d["tokens"] = self.tokens
        return d


@dataclass(frozen=True, slots=True)
class Passage:
    """Memories that stand under one heading (a session's day, a document's section), of one cube.

    `hits` are in the order of `text`; `sources` are theirs, and those of repeats that the text leaves out.
    """

    text: str
    hits: tuple[SearchHit, ...]
    sources: tuple[Source, ...]


class SearchHits(list[SearchHit]):
    """The hits of a search, best first.

    Under a budget, or with `render="prompt"`, `passages` has them as they stand in the text that a model should see, in
    its order; `prompt` is that text, if it was asked for.
    """

    def __init__(
        self, hits: Iterable[SearchHit] = (), passages: tuple[Passage, ...] = (), prompt: str | None = None
    ) -> None:
        super().__init__(hits)
        self.passages = passages
        self.prompt = prompt


def to_jsonable(value: Any) -> Any:
    """Dataclasses, enums, datetimes, tuples and mappings -> what `json.dumps` takes."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Source):  # mostly empty: leave that out
        return {f.name: to_jsonable(v) for f in fields(value) if (v := getattr(value, f.name)) is not None}
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: to_jsonable(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_jsonable(v) for v in value]
    return value
