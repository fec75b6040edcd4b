"""What an embedder makes of a question, as the arms take it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class QueryVectors:
    """`vector` (dim,) float32 of length 1. The other two are None if the embedder has no vectors of tokens.

    `token_vectors` (t, token_dim) float32: of length 1 and rotated, as `TokenIndex.maxsim` takes them. `spans` (t, 2)
    int32: where each token begins and ends in the question, in characters. Special tokens and mere punctuation are
    left out, and there may be none.
    """

    vector: NDArray[np.float32]
    token_vectors: NDArray[np.float32] | None = None
    spans: NDArray[np.int32] | None = None
