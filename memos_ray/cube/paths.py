"""Where a cube's tables are under a root: names only, no I/O.

    <root>/cubes/<xx>/<encoded id>/<incarnation>/memories.lance
                                                 vectors/<embedder fingerprint>.lance
                                                 checkpoints/index.arrow
                                                 checkpoints/vectors-<embedder fingerprint>.arrow
    <root>/registry/<table>.lance

The folder `checkpoints` holds parts of memories (their terms, names and sources) beside the journal: whoever erases a
memory for good must delete the folder too. It may be deleted at any time; so may `vectors`.

`xx` are the first two hexadecimal digits of the id's SHA-256, so that no folder gets too many entries.
"""

from __future__ import annotations

import hashlib
import re

from memos_ray.errors import Invalid

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
_SEGMENT = 200  # bytes in one folder name; file systems allow 255
_INCARNATION = re.compile(r"[0-9a-f-]{8,64}")


def encode_id(cube_id: str) -> str:
    """An id as one or more folder names (joined by "/"), reversibly.

    Lower-case letters, digits, "-" and "_" stay; every other byte of its UTF-8 form becomes "=" and two
    hexadecimal digits, capitals and dots too: ids that differ in case only, or look like paths, stay apart
    where case does not count. A long id goes over several names; all but the last end in "=".
    """
    if not cube_id:
        raise Invalid("cube_id must not be empty", argument="cube_id")
    text = "".join(chr(b) if b in _PLAIN else f"={b:02x}" for b in cube_id.encode())
    pieces = [text[i : i + _SEGMENT] for i in range(0, len(text), _SEGMENT)]
    return "=/".join(pieces)


def decode_id(encoded: str) -> str:
    """The inverse of `encode_id`; raises `Invalid` for what it never makes."""
    text = encoded.replace("=/", "")
    out = bytearray()
    at = 0
    try:
        while at < len(text):
            if text[at] == "=":
                out.append(int(text[at + 1 : at + 3], 16))
                at += 3
            else:
                out.append(ord(text[at]))
                at += 1
        cube_id = out.decode()
    except ValueError:
        cube_id = ""
    if not cube_id or encode_id(cube_id) != encoded:
        raise Invalid(f"{encoded!r} is not the folder name of a cube", argument="encoded")
    return cube_id


def cube_folder(root: str, cube_id: str) -> str:
    """Holds all incarnations of a cube."""
    xx = hashlib.sha256(cube_id.encode()).hexdigest()[:2]
    return f"{root.rstrip('/')}/cubes/{xx}/{encode_id(cube_id)}"


def incarnation_folder(root: str, cube_id: str, incarnation: str) -> str:
    """Holds the tables of one incarnation, which is a UUID."""
    if not _INCARNATION.fullmatch(incarnation):
        raise Invalid(f"an incarnation is a UUID in lower case, not {incarnation!r}", argument="incarnation")
    return f"{cube_folder(root, cube_id)}/{incarnation}"


def journal_path(root: str, cube_id: str, incarnation: str) -> str:
    """The journal: the truth of the cube."""
    return f"{incarnation_folder(root, cube_id, incarnation)}/memories.lance"


def vectors_path(root: str, cube_id: str, incarnation: str, fingerprint: str) -> str:
    """The vectors that one embedder made of the journal; can be made again."""
    return f"{incarnation_folder(root, cube_id, incarnation)}/vectors/{fingerprint}.lance"


def checkpoints_path(root: str, cube_id: str, incarnation: str) -> str:
    """What saves an activation time; can be made again."""
    return f"{incarnation_folder(root, cube_id, incarnation)}/checkpoints"


def registry_path(root: str, table: int) -> str:
    """One table of the registry; which cubes it knows is said by `memos_ray.placement.shards.table_of`."""
    return f"{root.rstrip('/')}/registry/{table}.lance"
