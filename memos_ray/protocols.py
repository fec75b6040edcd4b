"""The seams: what the core is given from outside, so that tests and users can give it something else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memos_ray.ingest.drafts import MemoryDraft
    from memos_ray.models.encoded import Encoded


class Clock(Protocol):
    """Wall time for what is recorded, monotonic time for what is measured."""

    def now(self) -> datetime:
        """Current time, timezone-aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Text -> unit vectors. `fingerprint` changes whenever the vectors would."""

    @property
    def fingerprint(self) -> str:
        """Names model, revision and pooling; safe as a file name."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def token_dim(self) -> int:
        """Length of a token's vector; 0: the embedder has none."""
        ...

    async def encode(
        self, texts: Sequence[str], *, contexts: Sequence[str] | None = None, tokens: bool = False
    ) -> Encoded:
        """Vectors as `embed` gives them; if asked for, with those of the tokens, where `token_dim` is not 0.

        `contexts` are what goes before each text ("" for nothing): the model reads both, the vectors are of the
        text alone (late chunking). An embedder that cannot do this leaves contexts out. Raises `Unavailable`.
        """
        ...

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), dim) float32, each row of length 1. Raises `Unavailable` if it cannot."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """Says which of a search's first hits answer the query best, better and at more cost than the ranker."""

    @property
    def fingerprint(self) -> str:
        """Names the model; changes whenever its order might."""
        ...

    async def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts),) float32, finite: the higher, the better the text answers the query.

        Comparable within one call only. `texts` come in the ranker's order, which decides where scores are equal.
        Raises `Unavailable` if it cannot.
        """
        ...


class Extractor(Protocol):
    """Derives memories (facts, preferences, …) from messages that are already committed."""

    @property
    def name(self) -> str:
        """Goes into `Source.extractor` of what it derives."""
        ...

    async def extract(self, messages: Sequence[MemoryDraft], context: Sequence[str]) -> list[MemoryDraft]:
        """Drafts whose `derived_from` are positions in `messages`. Raises `Unavailable` when it gives up."""
        ...


class TokenCounter(Protocol):
    """Counts tokens as the model that will read the text does."""

    def __call__(self, text: str) -> int:
        """Number of tokens of `text`, without special tokens."""
        ...


class ChatModel(Protocol):
    """An LLM behind an OpenAI-compatible server, or one like it."""

    async def complete(
        self, messages: Sequence[dict[str, Any]], *, json_schema: dict[str, Any] | None = None
    ) -> str:
        """The assistant's reply. Raises `Unavailable` after its bounded retries."""
        ...
