"""Columns for filters: for every slot, a number that stands for the slot's value of a field.

A filter then asks its question once per distinct value instead of once per slot. Columns are built when a field
is first asked for and grow with the state. Times, kinds and states are plain numpy columns of the state itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memos_ray.cube.columns import Growable
from memos_ray.types import Source

if TYPE_CHECKING:
    from memos_ray.cube.state import CubeState

SOURCE_FIELDS = ("session", "conversation", "speaker", "role", "document")
METADATA = "metadata."

Values = tuple[Any, ...]  # what a memory has in a field: none, one, or several values
Cell = tuple[bool, Values]  # (the field is a list, its values)
_NOTHING: Cell = (False, ())
_QUESTIONS = 64  # remembered per field


def cell_of(
    field: str, entities: Iterable[str], sources: Iterable[Source], metadata: Mapping[str, Any]
) -> Cell:
    """The value of one field of one memory."""
    if field == "entities":
        return True, tuple(entities)
    if field in SOURCE_FIELDS:
        return False, tuple(dict.fromkeys(v for s in sources if (v := getattr(s, field)) is not None))
    return metadata_cell(field, metadata)


def metadata_cell(field: str, metadata: Mapping[str, Any]) -> Cell:
    """`metadata.a.b` looks up "a.b", then "b" in "a"."""
    path = field.removeprefix(METADATA)
    value: Any = metadata.get(path)
    if value is None and "." in path:
        value = metadata
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return _NOTHING
    return (True, tuple(value)) if isinstance(value, (list, tuple)) else (False, (value,))


class CodedColumn:
    """A number per slot, and the distinct cells by number."""

    def __init__(self) -> None:
        self.codes = Growable(np.zeros(0, np.int32))
        self.cells: list[Cell] = []
        self._number: dict[Any, int] = {}
        self._answers: dict[Hashable, list[bool]] = {}

    def number(self, cell: Cell) -> int:
        """The number of a cell, a new one if it was not seen before."""
        try:
            key: Any = (cell, *map(type, cell[1]))  # 1, 1.0 and True are different values
            found = self._number.get(key)
        except TypeError:  # nested lists and mappings
            key = json.dumps(cell, sort_keys=True)
            found = self._number.get(key)
        if found is None:
            found = self._number[key] = len(self.cells)
            self.cells.append(cell)
        return found

    def answers(self, question: Hashable, ask: Callable[[Cell], bool]) -> NDArray[np.bool_]:
        """What `ask` says of each cell, by number. The same question is only asked for cells that are new."""
        known = self._answers.get(question)
        if known is None:
            if len(self._answers) >= _QUESTIONS:
                self._answers.clear()
            known = self._answers[question] = []
        known += [ask(cell) for cell in self.cells[len(known) :]]
        return np.array(known, np.bool_)


class FieldColumns:
    """The coded columns of one state."""

    def __init__(self, state: CubeState) -> None:
        self._state = state
        self._columns: dict[str, CodedColumn] = {}

    def column(self, field: str) -> CodedColumn:
        """The column of `entities`, a source field or `metadata.<path>`, up to date."""
        column = self._columns.get(field)
        if column is None:
            column = self._columns[field] = CodedColumn()
        state, done = self._state, column.codes.size
        if done < state.n_slots:
            rows = state.slot_row.view[done:]
            loaded = rows[rows < state.store.base]  # slots are in row order: the loaded ones come first
            if len(loaded):
                column.codes.extend(self._loaded(field, column, loaded))
            for r in rows[len(loaded) :].tolist():
                row = state.store.row(r)
                cell = cell_of(field, row.entities, row.sources, row.metadata)
                column.codes.append(column.number(cell))
        return column

    def _loaded(self, field: str, column: CodedColumn, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        store = self._state.store
        if field == "entities":
            offsets, flat = store.spans("entities")
            return _lists(column, rows, offsets, flat, is_list=True)
        if field in SOURCE_FIELDS:
            offsets, flat = store.spans("sources")
            return _lists(column, rows, offsets, flat.field(field), is_list=False)
        numbers, distinct = store.metadata()
        table = np.array([column.number(metadata_cell(field, m)) for m in distinct], np.int32)
        found: NDArray[np.int32] = table[numbers[rows]]
        return found


def _lists(
    column: CodedColumn, rows: NDArray[np.int64], offsets: NDArray[np.int64], flat: pa.Array, *, is_list: bool
) -> NDArray[np.int32]:
    starts, stops = offsets[rows], offsets[rows + 1]
    if not is_list and (stops - starts <= 1).all():  # the usual case: a single source
        encoded = flat.dictionary_encode()
        names = [column.number((False, (v,))) for v in encoded.dictionary.to_pylist()]
        table = np.array([*names, column.number(_NOTHING)], np.int32)
        number = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        picked = np.full(len(rows), -1)
        some = stops > starts
        picked[some] = number[starts[some]]
        named: NDArray[np.int32] = table[picked]
        return named
    values = flat.to_pylist()
    out = np.empty(len(rows), np.int32)
    for i, (a, b) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        out[i] = column.number((is_list, tuple(dict.fromkeys(v for v in values[a:b] if v is not None))))
    return out
