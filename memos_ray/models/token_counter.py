"""A model's own tokenizer, to count with: from a file or the hub's local cache, with the `tokenizers` library alone."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from memos_ray.errors import Invalid
from memos_ray.protocols import TokenCounter

_FILE = "tokenizer.json"
_KEPT = 8  # tokenizers of one process; a large one takes 100 MB


def token_counter(tokenizer: str | Path) -> TokenCounter:
    """Counts the tokens of a text, special ones that a model wants around it left out.

    `tokenizer`: a `tokenizer.json`, a folder that holds one, or a hub id that is in the local cache; nothing is
    downloaded. Read once per process, and again when the file changes. Raises `Invalid` if it cannot be read.
    """
    file = _file(tokenizer)
    try:
        state = file.stat()
    except OSError as error:
        raise _invalid(tokenizer, f"{file} cannot be read ({error.strerror})") from error
    try:
        return _load(file, state.st_mtime_ns, state.st_size)
    except Exception as error:  # the library raises bare ones
        raise _invalid(tokenizer, f"{file} is no tokenizer ({error})") from error


def _file(tokenizer: object) -> Path:
    if isinstance(tokenizer, Path):
        tokenizer = str(tokenizer)
    if not isinstance(tokenizer, str) or not tokenizer.strip() or "\0" in tokenizer:
        raise _invalid(tokenizer, "it is no path and no id")
    try:
        given = Path(tokenizer).expanduser()
        is_folder, is_file = given.is_dir(), given.is_file()
    except (OSError, RuntimeError) as error:  # too long a name, a home of nobody
        raise _invalid(tokenizer, str(error)) from error
    if is_folder:
        if not (given / _FILE).is_file():
            raise _invalid(tokenizer, f"the folder holds no {_FILE}")
        return given / _FILE
    if is_file:
        return given
    cached = _cached(tokenizer)
    if cached is None:
        raise _invalid(
            tokenizer, f"there is no such file or folder, and no {_FILE} of that id in the hub's cache"
        )
    return cached


def _cached(hub_id: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(hub_id, _FILE)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


@lru_cache(maxsize=_KEPT)
def _load(file: Path, changed_ns: int, size: int) -> TokenCounter:
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(file))
    loaded.no_truncation()
    loaded.no_padding()

    def count(text: str) -> int:
        return len(loaded.encode(text, add_special_tokens=False).ids)

    return count


def _invalid(tokenizer: object, why: str) -> Invalid:
    return Invalid(
        f"tokenizer {tokenizer!r:.200}: {why}; give a {_FILE}, a folder that holds one, or the id of a model that was "
        "downloaded before",
        argument="tokenizer",
    )
