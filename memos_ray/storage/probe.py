"""Whether a root can be trusted with journals: written, read, listed, deleted, and put only where nothing is.

The last is what every commit rests on: of two writers of one version the store must refuse one. It is asked of the
store itself, with the client that Lance commits with, before anything else is written.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from memos_ray.errors import Invalid, MemosError, Unavailable
from memos_ray.storage.files import Files

FOLDER = ".probe"
_RACERS = 4
_NO_CONDITIONAL = (
    "{root} cannot hold memories: its store {did}. Commits would overwrite one another. On S3-compatible servers use a "
    "release that honours `If-None-Match: *` on PUT (Amazon S3 does), with no proxy that takes the header away; "
    "among file systems, one with hard links"
)


@dataclass(frozen=True, slots=True)
class Probe:
    """A root that passed. `seconds` is what it took."""

    root: str
    seconds: float


def probe(root: str) -> Probe:
    """Tries a root and leaves nothing behind. Makes the root's folder if it is one and not there yet.

    Raises `Invalid` if the root cannot be used as it is (no such bucket, no permission, conditional puts not
    honoured), `Unavailable` if the store does not answer.
    """
    files = Files(root)
    started = time.monotonic()
    name = f"{FOLDER}/{uuid.uuid4().hex}"
    try:
        _probe(files, name)
    except Unavailable as error:
        raise _explained(files.root.uri, error) from error
    except Invalid:
        for left in (name, f"{name}-race"):
            with contextlib.suppress(MemosError):
                files.delete(left)
        raise
    return Probe(files.root.uri, time.monotonic() - started)


def _probe(files: Files, name: str) -> None:
    root = files.root.uri
    first, second = b"first", b"second"
    if not files.write_bytes(name, first, if_absent=True):
        raise Invalid(_NO_CONDITIONAL.format(root=root, did="says that a new name is taken"), argument="data")
    accepted = files.write_bytes(name, second, if_absent=True)
    if accepted or files.read_bytes(name) != first:
        raise Invalid(
            _NO_CONDITIONAL.format(
                root=root, did="overwrote an object with a put that was to fail if there is one"
            ),
            argument="data",
        )
    if [found.name for found in files.list(name.rpartition("/")[0]) if found.name == name] != [name]:
        raise Invalid(f"{root} does not list what was just written to it", argument="data")
    with ThreadPoolExecutor(_RACERS) as pool:
        racers = [
            pool.submit(files.write_bytes, f"{name}-race", b"%d" % i, if_absent=True) for i in range(_RACERS)
        ]
        won = sum(racer.result() for racer in racers)
    if won != 1:
        did = f"let {won} of {_RACERS} simultaneous puts create the same object"
        raise Invalid(_NO_CONDITIONAL.format(root=root, did=did), argument="data")
    for written in (name, f"{name}-race"):
        files.delete(written)


def _explained(root: str, error: Unavailable) -> MemosError:
    """The same failure, with what to do about it."""
    text = error.message
    if "NoSuchBucket" in text:
        return Invalid(f"there is no such bucket: {root}; make it first ({text})", argument="data")
    refused = (
        "AccessDenied",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        " Forbidden",
        " Unauthorized",
    )
    if any(word in text for word in refused):
        return Invalid(
            f"the store refuses this: check the credentials (AWS_ACCESS_KEY_ID and so on) and that they may get, put, "
            f"list and delete objects under {root} ({text})",
            argument="data",
        )
    if any(word in text for word in ("Permission denied", "os error 13", "Read-only", "os error 30")):
        return Invalid(f"{root} cannot be written by this user ({text})", argument="data")
    if any(word in text for word in ("os error 1)", "os error 95", "Operation not supported")):
        did = "has no hard links, by which a file is made only where none is"
        return Invalid(_NO_CONDITIONAL.format(root=root, did=did), argument="data")
    return Unavailable(f"the data root does not answer: {text}", what=root)
