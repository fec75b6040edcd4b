"""`memos-ray bench cluster`: a million registered cubes, activation, packing, fairness, moving."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Annotated, Any

import typer

from cluster.cli.bench_output import Step, command_line, finish, steps
from cluster.cli.session import Session
from memos_ray._siblings import load
from memos_ray.bench.report import Deadline, Report
from memos_ray.errors import Invalid

_SIZES = (20, 1_000, 10_000)
_PARTS = ("activation", "packing", "fairness", "moving")


def cluster(
    session: Session,
    cubes: Annotated[int, typer.Option(min=1_000, help="Register so many.")] = 1_000_000,
    with_data: Annotated[int, typer.Option(min=600, help="Give so many of them memories.")] = 10_000,
    rounds: Annotated[int, typer.Option(min=2, help="Activate so many cubes of each size.")] = 60,
    packed: Annotated[int, typer.Option(min=8, help="Small cubes that share processes.")] = 500,
    seconds: Annotated[float, typer.Option(min=0.5, help="Press each load for so long.")] = 6.0,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(_PARTS)}, this part (may be repeated).")
    ] = None,
    max_seconds: Annotated[float, typer.Option(min=1, help="Begin no part after so long.")] = 1_800.0,
) -> int:
    """A million cubes on this machine: registry, activation, many cubes a process, fairness, live moves.

    On a system of its own, in a temporary folder of some gigabytes.
    """
    if wrong := set(only or ()) - set(_PARTS):
        raise Invalid(f"--only is one of {', '.join(_PARTS)}, not {', '.join(wrong)}", argument="only")
    report, deadline = Report("memos-ray bench cluster", command_line()), Deadline(max_seconds)
    with (
        tempfile.TemporaryDirectory(prefix="memos-ray-bench-", ignore_cleanup_errors=True) as data,
        steps(session) as step,
    ):
        by_size = _prepare(report, data, cubes, with_data, step)
        activation, sharing = (load(f"cluster.scale_bench.{name}") for name in ("activation", "sharing"))
        small = by_size[20][:packed]
        parts = {
            "activation": lambda: activation.activations(
                report, data, {n: by_size[n] for n in _SIZES[1:]}, rounds, deadline, step
            ),
            "packing": lambda: sharing.packed(report, data, small, seconds, step),
            "fairness": lambda: sharing.fairness(report, data, by_size[1_000][-2:], seconds, step),
            "moving": lambda: sharing.moving(report, data, by_size[1_000][-3], 8, step),
        }
        _run(report, data, {name: parts[name] for name in only or _PARTS}, deadline, step)
    return finish(session, report)


def _prepare(report: Report, data: str, cubes: int, with_data: int, step: Step) -> dict[int, list[str]]:
    """Registers all, and writes the journals of some."""
    from memos_ray.bench import registry
    from memos_ray.bench.many_cubes import give_data, write_template
    from memos_ray.bench.report import timed
    from memos_ray.memos import make_settings
    from memos_ray.models.minilm import MiniLM

    registry.measure(report, data, n=cubes, step=step)
    settings = make_settings(None, {"data": data})
    model = MiniLM(threads=1)
    shape: dict[str, Any] = {"fingerprint": model.fingerprint, "dim": model.dim, "token_dim": model.token_dim}
    model.close()
    templates = {}
    for i, size in enumerate(_SIZES):
        step(f"writing a cube of {size:,} items", i, len(_SIZES))
        templates[size] = asyncio.run(write_template(settings, f"template-{size}", size, **shape))
    step(f"giving {with_data:,} cubes data", 0, 1)
    some = [(cube.cube_id, cube.incarnation) for cube in registry.made_cubes(with_data, registry.SEED)]
    with timed() as took:
        by_size = give_data(data, templates, some, _size)
    report.figure(
        "cubes with data",
        with_data,
        "",
        note=", ".join(f"{len(v):,} of {k:,} items" for k, v in by_size.items()),
    )
    report.notes.append(
        f"the {with_data:,} cubes share the files of {len(templates)} by hard links ({took.seconds:.0f} s)"
    )
    return by_size


def _size(i: int) -> int:
    return 10_000 if i % 100 == 0 else 1_000 if i % 10 == 1 else 20


def _run(report: Report, data: str, parts: dict[str, Any], deadline: Deadline, step: Step) -> None:
    import ray

    from memos_ray.memos import AsyncMemOS

    step("starting Ray", 0, 1)
    keeper = AsyncMemOS(data=data, address="local", namespace="bench-keeper", warm_actors=0)
    keeper.connect()
    try:
        for name, part in parts.items():
            if deadline.expired():
                report.notes.append(f"left out by --max-seconds: {name}")
                continue
            asyncio.run(part())
    finally:
        keeper.close()
        ray.shutdown()
