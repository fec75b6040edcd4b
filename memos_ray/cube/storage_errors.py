"""What Lance raises -> this project's errors: is storage out of reach, or is what it holds unreadable?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOENT

import pyarrow as pa

from memos_ray.errors import Corrupt, MemosError, Unavailable

_OS_ERROR = re.compile(r"os error (\d+)")
_OUT_OF_REACH = re.compile(
    r"timed? ?out|connect|sending request|access ?denied|credential"
    r"|throttl|slow ?down|service unavailable|\b50[0-4]\b|forbidden|unauthorized|no ?such ?bucket"
    r"|invalid ?access ?key|signature ?does ?not ?match|expired ?token",
    re.IGNORECASE,
)


def is_storage_failure(error: BaseException) -> bool:
    """Lance raises these types for storage; a panic of its Rust code is a `BaseException` of its own."""
    return (
        isinstance(error, (OSError, ValueError, RuntimeError, pa.ArrowException))
        or type(error).__name__ == "PanicException"
    )


def read_error(error: BaseException, path: str, version: int | None = None) -> MemosError:
    """`Unavailable` if a later attempt may succeed, else `Corrupt`."""
    text = _one_line(error)
    number = _os_error(error, text)
    if number not in (None, ENOENT) or _OUT_OF_REACH.search(text):
        return Unavailable(f"cannot read {path}: {text}", what=path)
    which = "the newest version" if version is None else f"version {version}, the newest,"
    return Corrupt(
        f"{which} of {path} cannot be read: {text}. `memos-ray doctor` says which versions can be; "
        "`memos-ray doctor --repair` goes on from the newest readable one and lists what is missing",
        path=path,
    )


def write_error(error: BaseException, path: str, doing: str) -> Unavailable:
    """Nothing may be acknowledged; the same call may succeed once storage is well again."""
    return Unavailable(f"storage failed to {doing} at {path}: {_one_line(error)}", what=path)


@contextmanager
def storage_failures(path: str, doing: str) -> Iterator[None]:
    """Failures of storage inside the block become `Unavailable`; errors of this project pass."""
    try:
        yield
    except MemosError:
        raise
    except BaseException as error:
        if not is_storage_failure(error):
            raise
        raise write_error(error, path, doing) from error


def _os_error(error: BaseException, text: str) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _OS_ERROR.search(text)
    return int(found[1]) if found else None


def _one_line(error: BaseException) -> str:
    """Lance appends the places in its source that an error went through; those say nothing to a user."""
    return re.sub(r", /\S+\.rs:\d+:\d+", "", " ".join(str(error).split())) or type(error).__name__
