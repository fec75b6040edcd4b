"""What is derived from a cube's rows, as it was at one time: read when the cube is activated, if it still holds.

A checkpoint names exactly the rows that it was made of: how many, and a digest of their (epoch, seq), which never name
another row. It is used if the journal's live rows begin with these; what came after them is taken in on top, as in a
cube that was never closed. Anything else counts as no checkpoint: one that is damaged, of another format or made by
other rules, or of rows that are no longer there. It never changes an answer, and it may be deleted at any time.

Knows which files and parts there are; what is in a part is the business of the class that saves and restores it.
"""

from __future__ import annotations

import hashlib
import logging
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import Stemmer
from numpy.typing import NDArray

from memos_ray.cube.checkpoint_file import CheckpointFile, CheckpointFolder, Damaged, table_of
from memos_ray.cube.packing import UNPACKED
from memos_ray.retrieval import sketch, tokens
from memos_ray.retrieval.arrays import Saved

T = TypeVar("T")
log = logging.getLogger(__name__)

INDEX = "index"
"""The file with all parts but the vectors."""
COLUMNS, TEXT, NAMES, SPEAKERS, ORDER, CONTEXTS = "columns", "text", "names", "speakers", "order", "contexts"
DENSE, SKETCHES, READ_AFTER = "dense", "sketches", "read after"
PARTS_FORM = "parts-1"
"""Of what the parts hold and how it is derived, terms aside. Other rules get another name."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first rows of a journal: how many, and a digest of their (epoch, seq)."""

    rows: int
    digest: str


def prefix(epochs: NDArray[np.int64], seqs: NDArray[np.int64]) -> Prefix:
    """That of all these rows, in their order."""
    digest = hashlib.sha256()
    for column in (epochs, seqs):
        digest.update(np.ascontiguousarray(column, "<i8").data)
    return Prefix(len(epochs), digest.hexdigest())


def index_form() -> str:
    """What the parts of `INDEX` are made by: another value, and they are made again."""
    return f"{PARTS_FORM} {tokens.FORM} snowball {Stemmer.version()} unicode {unicodedata.unidata_version}"


def vectors_form(dim: int, token_dim: int) -> str:
    """What a file of vectors is made by, the embedder aside, whose fingerprint is its name."""
    return f"{PARTS_FORM} {dim} {sketch.FORM} {token_dim}"


def vectors_name(fingerprint: str) -> str:
    """The file with the vectors of one embedder."""
    return f"vectors-{fingerprint}"


@dataclass(frozen=True, slots=True)
class Made:
    """What a file's writer says of it: of which rows, by which rules, and (vectors) after how many stored rows."""

    rows: int
    digest: str
    slots: int
    form: str
    stored: int = 0

    @classmethod
    def read(cls, about: Mapping[str, Any]) -> Made:
        """Raises `Damaged`."""
        try:
            made = cls(**about)
        except TypeError as error:
            raise Damaged(f"it does not say what it was made of: {error}") from error
        if not all(isinstance(n, int) and n >= 0 for n in (made.rows, made.slots, made.stored)):
            raise Damaged("it was made of a strange number of rows")
        return made


class Opened:
    """A checkpoint file that holds for the rows it was opened for. Threads may share it."""

    def __init__(self, name: str, made: Made, file: CheckpointFile) -> None:
        self.made = made
        self.sound = True  # as far as is known
        self._name = name
        self._file = file

    def restored(self, make: Callable[..., T], *parts: str) -> T | None:
        """What `make` makes of these parts; None if they turn out to be damaged."""
        try:
            return make(*(self._file.part(part) for part in parts))
        except (Damaged, KeyError, TypeError, ValueError, IndexError) as error:
            log.warning("the checkpoint %s is not used: %r", self._name, error)
            self.sound = False
            return None

    def columns(self) -> pa.Table | None:
        """`UNPACKED` of the rows that it was made of."""
        return self.restored(self._columns, COLUMNS)

    def _columns(self, part: Saved) -> pa.Table:
        data = part["table"]
        assert not isinstance(data, list)
        table = table_of(data)
        if not table.schema.equals(UNPACKED) or table.num_rows != self.made.rows:
            raise Damaged("columns of other rows")
        return table


class Checkpoints:
    """The checkpoints of one active cube. `epochs` and `seqs` are of the live rows that its journal had."""

    def __init__(self, folder: CheckpointFolder, epochs: NDArray[np.int64], seqs: NDArray[np.int64]) -> None:
        self._folder = folder
        self._epochs, self._seqs = epochs, seqs

    def open(self, name: str, form: str) -> Opened | None:
        """The file of that name, if it holds. One that can never hold again is deleted."""
        try:
            file = self._folder.open(name)
            if file is None:
                return None
            made = Made.read(file.about)
            if made.form != form:
                raise Damaged(f"it was made by {made.form!r}")
            at = made.rows
            if at > len(self._seqs) or prefix(self._epochs[:at], self._seqs[:at]).digest != made.digest:
                self._folder.remove(name)  # what it was made of has gone, and must not be kept here
                raise Damaged("it was made of rows that do not count any more")
            return Opened(f"{self._folder.uri}/{name}", made, file)
        except Exception as error:  # whatever it is: everything can be made without it
            log.warning("the checkpoint %s/%s is not used: %r", self._folder.uri, name, error)
            return None

    def write(self, name: str, made: Made, parts: Mapping[str, Saved]) -> int:
        """Replaces the file. Returns its bytes. Raises `Unavailable`."""
        return self._folder.write(name, asdict(made), parts)
