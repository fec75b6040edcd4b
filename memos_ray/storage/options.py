"""How a root's store is reached: what Lance is told of it, and what obstore is. From the environment, nothing else.

Lance finds credentials by itself, in the order of AWS's own tools: environment, profile, web identity, container,
instance. obstore (the same Rust client, with a Python face) knows all but profiles, whose static keys are read here.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memos_ray.errors import Invalid
from memos_ray.storage.roots import Root, parse_root

RETRIES = 3
RETRY_S = 5.0  # from the first attempt of a request, after which no other is begun
REQUEST_S = 10.0
TRANSFER_S = 120.0  # of one file, as long as something comes in every `REQUEST_S`
CONNECT_S = 3.0
_TRUE = frozenset({"1", "true", "yes", "on", "y", "t"})
_KEYS_WITHOUT_PROFILE = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def storage_options(root: str, environment: Mapping[str, str] | None = None) -> dict[str, str] | None:
    """What Lance is given as `storage_options` for a table under `root`; None for a folder.

    Holds no credentials. Raises `Invalid`, naming the variable, for an environment that cannot work.
    """
    where = parse_root(root)
    if where.is_folder:
        return None
    patience = {
        "connect_timeout": f"{CONNECT_S:g}s",
        "timeout": f"{REQUEST_S:g}s",
        "client_max_retries": str(RETRIES),
        "client_retry_timeout": f"{RETRY_S:g}",
    }
    if where.scheme != "s3":
        return patience
    return {**patience, **{f"aws_{k}" if k != "allow_http" else k: v for k, v in _s3(environment).items()}}


def client_settings(where: Root, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Keyword arguments for obstore's store of `where`, an object store, with less patience than Lance has.

    Raises `Invalid` as `storage_options` does, and for a profile without static keys.
    """
    from datetime import timedelta

    common: dict[str, Any] = {
        "retry_config": {"max_retries": 2, "retry_timeout": timedelta(seconds=RETRY_S)},
        "client_options": {
            "connect_timeout": f"{CONNECT_S:g}s",
            "read_timeout": f"{REQUEST_S:g}s",
            "timeout": f"{TRANSFER_S:g}s",
        },
    }
    if where.scheme != "s3":
        return common
    found = _s3(environment)
    if found.pop("allow_http", "false") == "true":
        common["client_options"]["allow_http"] = True
    return {**common, "config": {**found, **_profile_keys(environment)}}


def _s3(environment: Mapping[str, str] | None) -> dict[str, str]:
    env = os.environ if environment is None else environment
    found: dict[str, str] = {}
    endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or env.get("AWS_ENDPOINT")
    if endpoint:
        if not endpoint.startswith(("https://", "http://")):
            raise Invalid(
                f"the S3 endpoint {endpoint!r} is no URL: it begins with https:// or http://",
                argument="AWS_ENDPOINT_URL",
            )
        found["endpoint"] = endpoint.rstrip("/")
        if endpoint.startswith("http://"):
            if env.get("AWS_ALLOW_HTTP", "").lower() not in _TRUE:
                raise Invalid(
                    f"the S3 endpoint {endpoint!r} is not encrypted: use https, or set AWS_ALLOW_HTTP=true if that is "
                    "meant",
                    argument="AWS_ALLOW_HTTP",
                )
            found["allow_http"] = "true"
    region = (
        env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or _section(env, config=True).get("region")
    )
    if not region:
        if not endpoint:
            raise Invalid("no AWS region is set: AWS_REGION is the one of the bucket", argument="AWS_REGION")
        region = "us-east-1"  # what stores that are not Amazon's take
    found["region"] = region
    return found


def _profile_keys(environment: Mapping[str, str] | None) -> dict[str, str]:
    """Static keys of the profile that applies, if it is a profile that does."""
    env = os.environ if environment is None else environment
    if any(env.get(name) for name in _KEYS_WITHOUT_PROFILE):
        return {}
    section = {**_section(env, config=True), **_section(env, config=False)}
    if "aws_access_key_id" in section:
        given = {"access_key_id": section["aws_access_key_id"]}
        given["secret_access_key"] = section.get("aws_secret_access_key", "")
        if token := section.get("aws_session_token"):
            given["session_token"] = token
        return given
    if env.get("AWS_PROFILE"):
        raise Invalid(
            f"the AWS profile {env['AWS_PROFILE']!r} has no static keys: put its credentials into the environment "
            '(`eval "$(aws configure export-credentials --format env)"`)',
            argument="AWS_PROFILE",
        )
    return {}


def _section(env: Mapping[str, str], *, config: bool) -> dict[str, str]:
    """The section of the profile in force in AWS's config or credentials file; empty if there is none."""
    name, profile = ("config", "credentials")[not config], env.get("AWS_PROFILE") or "default"
    variable = "AWS_CONFIG_FILE" if config else "AWS_SHARED_CREDENTIALS_FILE"
    path = Path(env.get(variable) or f"~/.aws/{name}").expanduser()
    files = configparser.RawConfigParser()
    try:
        files.read(path)
    except configparser.Error as error:
        raise Invalid(f"{path} cannot be read: {error.message}", argument=variable) from error
    section = f"profile {profile}" if config and profile != "default" else profile
    return dict(files.items(section)) if files.has_section(section) else {}
