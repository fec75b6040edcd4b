"""Which tokens of a model say something: all but special ones and mere punctuation."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
from numpy.typing import NDArray


def kept_tokens(tokenizer: Any) -> NDArray[np.bool_]:
    """(size of the vocabulary,) of a `tokenizers.Tokenizer`. What it does not know ([UNK]) counts as special."""
    vocabulary = tokenizer.get_vocab()
    kept = np.zeros(max(vocabulary.values()) + 1, bool)
    for token, i in vocabulary.items():
        kept[i] = any(not _punctuation(c) for c in token)
    kept[[i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special]] = False
    return kept


def _punctuation(c: str) -> bool:
    """As BERT splits words: every ASCII sign, and what Unicode calls so. Also the mark of a word's begin."""
    return (c < "\x7f" and not c.isalnum()) or unicodedata.category(c)[0] == "P" or c in "\u2581\u0120"
