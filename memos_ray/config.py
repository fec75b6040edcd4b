"""Settings. Every one can be given in code, or as an environment variable with the prefix `MEMOS_RAY_`.

`MEMOS_RAY_DATA=/srv/memory` sets `data`, and so on. Units are in the names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from memos_ray.errors import Invalid
from memos_ray.storage.roots import parse_root

Durability = Literal["process", "power"]
CROSS_ENCODER, OPENAI = "cross-encoder", "openai"
BUILT_IN = ("minilm", "minilm-fp32", "hash")  # embedders that come with the package


class Settings(BaseSettings):
    """One system's settings. Immutable; pass changed ones with `model_copy(update=…)`."""

    model_config = SettingsConfigDict(env_prefix="MEMOS_RAY_", frozen=True, extra="forbid")

    data: str = Field("./memos_data", description="Root of all storage: a folder, or s3://bucket/prefix.")
    durability: Durability = Field("process", description="What an acknowledged write survives.")
    namespace: str = Field("memos_ray", description="Ray namespace of all actors.")
    address: str | None = Field(
        None, description="Ray cluster to join; default: a running one, else a new one."
    )

    embedder: str = Field(
        "minilm",
        description="'minilm' (packaged, offline, in eight bits), 'minilm-fp32' (the same in full precision), a path "
        "or hub id for sentence-transformers, 'openai:<model>', or 'hash' (no model; for tests and benchmarks).",
    )
    embedder_url: str = Field("https://api.openai.com/v1", description="Base URL for 'openai:' embedders.")
    embedder_api_key: str | None = Field(None, description="Bearer token for 'openai:' embedders.")
    embed_batch: int = Field(64, ge=1, le=4096, description="Texts in one batch of the embedder.")
    embed_threads: int = Field(
        0, ge=0, description="Threads of the embedder's model, and of a cross-encoder; 0: one for each core."
    )
    ranker: Literal["dialogue", "made"] = Field(
        "dialogue",
        description="Weights of the ranker: 'dialogue' was fitted on LoCoMo (CC BY-NC 4.0), 'made' on own data.",
    )

    tokenizer: str | None = Field(
        None,
        description="What `budget_tokens` is counted with: a tokenizer.json, a folder that holds one, or a hub id in "
        "the local cache. None: an approximation.",
    )
    reranker: str | None = Field(
        None,
        description="What `search(…, rerank=True)` asks: 'cross-encoder:<path or hub id>' of sentence-transformers, "
        "or 'openai:<model>' of a chat server.",
    )
    reranker_url: str = Field("http://localhost:11434/v1", description="Base URL for 'openai:' rerankers.")
    reranker_api_key: str | None = Field(None, description="Bearer token for 'openai:' rerankers.")

    llm_model: str | None = Field(
        None, description="Model for LLM extraction (infer=True). None: rules only."
    )
    llm_url: str = Field("http://localhost:11434/v1", description="Base URL of an OpenAI-compatible server.")
    llm_api_key: str | None = Field(None, description="Bearer token for that server.")

    warm_actors: int = Field(
        1, ge=0, le=64, description="Blank cube actors kept ready; an activation takes one."
    )
    warm_actors_max: int = Field(
        8, ge=0, le=256, description="Blank cube actors kept ready while activations come quickly, at most."
    )
    cubes_per_actor: int = Field(
        1, ge=1, le=10_000, description="Cubes that share a process; hot and large ones get their own anyway."
    )
    own_actor_items: int = Field(
        20_000, ge=1, description="Versions beyond which a cube gets a process of its own."
    )
    full_busy: float = Field(
        0.8,
        gt=0,
        description="Share of a core at which a shared process gets no more cubes and gives some away.",
    )
    idle_s: float = Field(900.0, gt=0, description="Time without a call after which a cube is passivated.")
    memory_share: float = Field(
        0.6,
        gt=0,
        le=1,
        description="Of a node's memory, what cube actors may take before cubes are passivated.",
    )
    host_labels: dict[str, str] = Field(
        default_factory=dict, description="Ray node labels that a node must have to hold cubes, as JSON."
    )
    place_near: bool = Field(
        False, description="Cubes that this client activates go to its own node, if that has room."
    )
    tick_s: float = Field(
        1.0, gt=0, description="How often the directory looks at hosts, passivates and evens out."
    )
    changes_per_tick: int = Field(
        8, ge=1, description="Passivations and moves begun in one tick, at most, each."
    )
    host_timeout_s: float = Field(
        5.0, gt=0, description="Silence after which a cube actor is given up and its cubes go elsewhere."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Lines of the system's processes in Ray's log folder: for people, or JSON."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="What these lines are about; 'debug' has one for every call."
    )
    queue_limit: int = Field(10_000, ge=1, description="Calls a cube holds in its queue before `Overloaded`.")
    group_rows: int = Field(1_000, ge=1, description="Rows in one group commit, at most.")
    read_confirm_s: float = Field(
        1.0, gt=0, description="Age at which an owner confirms its ownership on a read."
    )
    compact_every: int = Field(64, ge=2, description="Commits after which a cube compacts its journal.")
    cleanup_keep_s: float = Field(600.0, ge=600.0, description="Age of journal versions that clean-up keeps.")

    max_text_bytes: int = Field(
        256 * 1024, ge=1, description="Longest text of one memory; longer ones: ingest as document."
    )
    max_document_bytes: int = Field(64 * 1024 * 1024, ge=1, description="Longest document.")
    max_batch: int = Field(10_000, ge=1, description="Most memories in one call.")
    call_timeout_s: float = Field(60.0, gt=0, description="How long the client goes on retrying one call.")

    @field_validator("data")
    @classmethod
    def _absolute(cls, value: str) -> str:
        """Actors run in folders of their own, so a local root is made absolute where it is first read."""
        try:
            return parse_root(value).uri
        except Invalid as error:
            raise ValueError(error.message) from error  # pydantic names the setting

    @field_validator("tokenizer")
    @classmethod
    def _given(cls, value: str | None) -> str | None:
        """Blank is none: what compose files and the like write for what is not set."""
        return value if value is not None and value.strip() else None

    @field_validator("reranker")
    @classmethod
    def _known_reranker(cls, value: str | None) -> str | None:
        if value is None or not value.strip():
            return None
        kind, _, model = (part.strip() for part in value.partition(":"))
        if kind not in (CROSS_ENCODER, OPENAI) or not model:
            raise ValueError(
                f"{value!r:.100} is neither '{CROSS_ENCODER}:<path or hub id>' nor '{OPENAI}:<model>'"
            )
        folder = Path(model).expanduser()
        return f"{kind}:{folder.resolve() if kind == CROSS_ENCODER and folder.is_dir() else model}"

    @field_validator("embedder")
    @classmethod
    def _absolute_folder(cls, value: str) -> str:
        folder = Path(value).expanduser()
        named = value.strip() in ("", *BUILT_IN) or value.startswith("openai:")
        return str(folder.resolve()) if not named and folder.is_dir() else value
