"""What a data root may be: a folder, or `s3://bucket/prefix`. Names only, no I/O, and light to import.

`gs://` and `az://` are taken too, for Lance takes them; nothing here was ever tried on them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from memos_ray.errors import Invalid

OBJECT_STORES = ("s3", "gs", "az")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_SEGMENT = re.compile(r"[A-Za-z0-9._=-]+")  # what no store, URL or client writes in another way


@dataclass(frozen=True, slots=True)
class Root:
    """A data root, checked. `uri` is how it is written from here on: an absolute folder, or a URI without a slash
    at its end. `bucket` and `prefix` are empty for a folder."""

    uri: str
    scheme: str = ""
    bucket: str = ""
    prefix: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether it is on a file system of this machine."""
        return not self.scheme


def parse_root(data: str, *, what: str = "data root", argument: str = "data") -> Root:
    """Checks a data root. Raises `Invalid` for what cannot be one; never repeats it where it may hold a secret.

    `what` and `argument` are for its message, if it is the root of something else.
    """

    def invalid(why: str) -> Invalid:
        return Invalid(f"the {what} {why}; it is a folder, or s3://bucket/prefix", argument=argument)

    text = data.strip()
    if not text:
        raise invalid("is empty")
    if text.startswith("file://"):
        text = text.removeprefix("file://")
        if not text.startswith("/"):
            raise invalid("names another machine: a file:// URI has three slashes")
    found = _SCHEME.match(text)
    if found is None or ("://" not in text and found[1] not in (*OBJECT_STORES, "file")):
        return Root(str(Path(text).expanduser().resolve()))
    scheme = found[1]
    if scheme not in OBJECT_STORES:
        raise invalid(f"has the scheme {scheme!r}")
    if not text.startswith(f"{scheme}://"):
        raise invalid(f"has no '//' after {scheme!r}:")
    bucket, _, prefix = text.removeprefix(f"{scheme}://").rstrip("/").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise invalid(
            "names no bucket: that has 3 to 63 lower-case letters, digits, dots and hyphens, and credentials "
            "come from the environment"
        )
    for segment in prefix.split("/") if prefix else ():
        if not _SEGMENT.fullmatch(segment) or segment in (".", ".."):
            raise invalid(
                "has a prefix with other characters than letters, digits and . _ = - between its slashes"
            )
    return Root(f"{scheme}://{bucket}/{prefix}".rstrip("/"), scheme, bucket, prefix)
