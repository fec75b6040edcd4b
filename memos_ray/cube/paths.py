"""Where a cube's tables lie under the root. Knows names only, no storage.

    <root>/cubes/<xx>/<encoded id>/<incarnation>/memories.lance
    <root>/cubes/<xx>/<encoded id>/<incarnation>/vectors/<embedder fingerprint>.lance
    <root>/registry/<shard>.lance

Cube ids are written so that any id is one safe path segment, that the encoding can be reversed, and that two
ids never share a folder, also where the file system ignores case or normalises Unicode.
"""

from __future__ import annotations

import hashlib
import re

REGISTRY_SHARDS = 8
_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
_ESCAPE = "="
_SEGMENT = 100  # characters of one path segment; an id of 200 four-byte characters needs 24 of them
_ENCODED = re.compile(r"(?:[a-z0-9_-]|=[0-9a-f]{2})+")


def encode_id(cube_id: str) -> str:
    """Reversible and safe: bytes other than a-z, 0-9, '-' and '_' become `=` and two lower-case hex digits.

    Long ids are cut into several segments, joined by `/`; segments but the last end in `+`.
    """
    plain = "".join(chr(b) if b in _SAFE else f"{_ESCAPE}{b:02x}" for b in cube_id.encode())
    parts = [plain[i : i + _SEGMENT] for i in range(0, len(plain), _SEGMENT)]
    return "+/".join(parts)


def decode_id(encoded: str) -> str:
    """The inverse of `encode_id`. Raises `ValueError` for what it never makes."""
    plain = encoded.replace("+/", "")
    if not _ENCODED.fullmatch(plain):
        raise ValueError(f"not an encoded cube id: {encoded!r}")
    data = re.sub(rb"=([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), plain.encode())
    cube_id = data.decode()
    if encode_id(cube_id) != encoded:
        raise ValueError(f"not an encoded cube id: {encoded!r}")
    return cube_id


def cube_folder(root: str, cube_id: str) -> str:
    """Everything of one cube, all incarnations. `xx` spreads cubes over 256 folders."""
    spread = hashlib.sha256(cube_id.encode()).hexdigest()[:2]
    return f"{root.rstrip('/')}/cubes/{spread}/{encode_id(cube_id)}"


def journal_path(root: str, cube_id: str, incarnation: str) -> str:
    """The journal's table."""
    return f"{cube_folder(root, cube_id)}/{incarnation}/memories.lance"


def vectors_path(root: str, cube_id: str, incarnation: str, fingerprint: str) -> str:
    """The vectors that the embedder of this fingerprint made."""
    return f"{cube_folder(root, cube_id)}/{incarnation}/vectors/{fingerprint}.lance"


def registry_shard(cube_id: str) -> int:
    """Which of the registry's tables holds the cube's row."""
    return int.from_bytes(hashlib.sha256(b"registry\0" + cube_id.encode()).digest()[:4], "big") % REGISTRY_SHARDS


def registry_path(root: str, shard: int) -> str:
    """One of the registry's tables."""
    return f"{root.rstrip('/')}/registry/{shard:02x}.lance"
