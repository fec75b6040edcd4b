"""Token vectors small enough to keep: projected to fewer dimensions, unit length, eight bits a number."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memos_ray.errors import Invalid

LENGTH = 127  # of a compressed row; the inner product of two rows is some LENGTH² times their cosine


def compress(
    vectors: NDArray[np.floating], projection: NDArray[np.float32] | None = None
) -> NDArray[np.int8]:
    """(m, d) token vectors times the (d, k) projection (None: as they are) -> (m, k) int8, rows of length 127.

    Rounding moves the length a little: the cosine of two rows is their inner product over 127² to about 0.01. A
    zero row stays zero. Raises `Invalid` if the shapes do not fit.
    """
    rows = np.asarray(vectors, np.float32)
    if projection is not None:
        check_projection(projection, rows.shape[1])
        rows = rows @ projection
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled = rows * (LENGTH / np.where(lengths > 0, lengths, 1))
    rounded: NDArray[np.int8] = np.rint(scaled).astype(np.int8)
    return rounded


def check_projection(projection: NDArray[Any], dim: int) -> None:
    """Raises `Invalid` unless `projection` is a finite (dim, k) matrix."""
    if projection.ndim != 2 or projection.shape[0] != dim or not projection.shape[1]:
        message = f"the projection has the shape {projection.shape}, the vectors have {dim} dimensions"
        raise Invalid(message, argument="projection")
    if not np.isfinite(projection).all():
        raise Invalid("the projection holds numbers that are not finite", argument="projection")


def compressed_fingerprint(model: str, projection: NDArray[np.float32] | None) -> str:
    """Of compressed token vectors of the model with that fingerprint: `<model>-tokens-<8 hex digits>`."""
    matrix = b"" if projection is None else np.ascontiguousarray(projection, "<f4").tobytes()
    digest = hashlib.sha256(f"int8-{LENGTH}\n".encode() + matrix).hexdigest()[:8]
    return f"{model}-tokens-{digest}"
