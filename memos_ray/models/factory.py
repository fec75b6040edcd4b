"""Settings -> an embedder, a reranker. Imports only what the choice needs."""

from __future__ import annotations

import os

from memos_ray.config import BUILT_IN, CROSS_ENCODER, OPENAI, Settings
from memos_ray.errors import Invalid
from memos_ray.protocols import Embedder, Reranker

_DEADLINE_S = 45.0  # of a chat model with all retries: a search waits for it
_TIMEOUT_S = 30.0


def make_embedder(settings: Settings) -> Embedder:
    """The embedder that `settings.embedder` names; see there. May take seconds, and block, to load a model.

    Raises `Invalid` for an empty name and `Unavailable` if the model cannot be loaded.
    """
    name = settings.embedder.strip()
    if name == "hash":
        from memos_ray.models.embedder import HashEmbedder

        return HashEmbedder()
    if name.startswith("openai:"):
        from memos_ray.models.openai_embedder import OpenAIEmbedder

        model = name.removeprefix("openai:").strip()
        if not model:
            raise Invalid(
                "'openai:' needs the name of a model, as in 'openai:text-embedding-3-small'",
                argument="embedder",
            )
        return OpenAIEmbedder(
            model, url=settings.embedder_url, api_key=settings.embedder_api_key, batch=settings.embed_batch
        )
    if not name:
        raise Invalid("embedder must not be empty; the default is 'minilm'", argument="embedder")
    if name == "minilm":
        from memos_ray.models.minilm import MiniLM

        return MiniLM(batch=settings.embed_batch, threads=settings.embed_threads)
    from memos_ray.models.sentence_transformer import SentenceTransformerEmbedder

    packaged = name == "minilm-fp32"
    return SentenceTransformerEmbedder(
        None if packaged else name, batch=settings.embed_batch, threads=settings.embed_threads
    )


def from_hub(embedder: str) -> bool:
    """Whether that is a hub id, which may have to be downloaded: neither built in, nor a server, nor a folder."""
    name = embedder.strip()
    return name not in BUILT_IN and not name.startswith("openai:") and not os.path.isdir(name)


def make_reranker(settings: Settings) -> Reranker:
    """The reranker that `settings.reranker` names; see there. May take seconds, and block, to load a model.

    Raises `Invalid` if it names none and `Unavailable` if the model cannot be loaded.
    """
    kind, _, model = (settings.reranker or "").partition(":")
    if kind == CROSS_ENCODER:
        from memos_ray.models.cross_encoder import CrossEncoderReranker

        return CrossEncoderReranker(model, threads=settings.embed_threads)
    if kind == OPENAI:
        from memos_ray.models.chat import OpenAIChat
        from memos_ray.models.chat_reranker import ChatReranker

        chat = OpenAIChat(
            model,
            base_url=settings.reranker_url,
            api_key=settings.reranker_api_key,
            timeout_s=_TIMEOUT_S,
            deadline_s=_DEADLINE_S,
            retries=2,
        )
        return ChatReranker(chat, name=model)
    raise Invalid("no reranker is configured: set `reranker`", argument="reranker")


def reranker_from_hub(settings: Settings) -> bool:
    """Whether that is a hub id, which may have to be downloaded."""
    kind, _, model = (settings.reranker or "").partition(":")
    return kind == CROSS_ENCODER and not os.path.isdir(model)
