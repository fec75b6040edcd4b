"""The `memos-ray` command, also as `python -m memos_ray`. Loads no more than the command line itself."""

from __future__ import annotations

from memos_ray._siblings import load


def main() -> None:
    """Runs the command line. Ends the process with one of the exit codes that `--help` lists."""
    load("cluster.cli.app").app(prog_name="memos-ray")


if __name__ == "__main__":
    main()
