"""The command line where it needs no running system: help, usage, files, errors, exit codes, tables."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.cli.output import history_table, hits_table, memory_table, shortened, size, where, why
from cluster.cli.reading import read_file
from cluster.cli.session import EXIT_CODES, command, exit_code, scope
from memos_ray import errors

COMMANDS = [
    "demo",
    "up",
    "down",
    "status",
    "cubes",
    "move",
    "passivate",
    "drain",
    "add",
    "search",
    "get",
    "history",
    "ingest",
    "export",
    "import",
    "doctor",
    "bench",
    "version",
]
runner = CliRunner()


def test_help_names_every_command_and_every_exit_code():
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f" {name} " in result.output
    assert all(str(code) in result.output for code in EXIT_CODES)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    result = runner.invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_help_imports_neither_ray_nor_torch_nor_lance():
    code = (
        "import sys\nsys.argv = ['memos-ray', '--help']\n"
        "from memos_ray.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'ray', 'torch', 'lance', 'pyarrow', 'numpy', 'dateparser'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["search"],
        ["search", "x", "--top-k", "0"],
        ["nonsense"],
        ["ingest", "/no/such/file.md"],
        ["get"],
        ["get", "some-id", "--all"],
        ["doctor", "--repair"],
        ["bench", "locomo"],
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    assert runner.invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Invalid("x"), 2),
        (errors.NotFound("x"), 3),
        (errors.Conflict("x"), 4),
        (errors.Moved("x"), 5),
        (errors.Overloaded("x"), 5),
        (errors.Unavailable("x"), 5),
        (errors.Forbidden("x"), 6),
        (errors.Corrupt("x"), 7),
        (errors.SchemaTooNew("x"), 7),
        (errors.MemosError("x"), 1),
        (RuntimeError("x"), 1),
    ],
)
def test_every_error_has_its_exit_code(error, code):
    assert exit_code(error) == code
    assert code in EXIT_CODES


@pytest.fixture
def failing():
    """An application whose command raises what it is told to."""
    application = typer.Typer(pretty_exceptions_enable=False)
    to_raise = []

    def fail(session):
        """Fails."""
        raise to_raise[0]

    command(application)(fail)
    application.callback()(lambda: None)
    return application, to_raise


def test_an_error_is_one_line_on_stderr_without_traceback(failing):
    application, to_raise = failing
    to_raise.append(errors.NotFound("there is no\nmemory [x]", what="memory", id="x"))
    result = runner.invoke(application, ["fail"])
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr == "memos-ray: NotFound: there is no memory [x]\n"


def test_with_debug_the_traceback_is_shown(failing):
    application, to_raise = failing
    to_raise.append(ValueError("boom"))
    result = runner.invoke(application, ["fail", "--debug"])
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("memos-ray: unexpected ValueError: boom\n")


def test_with_json_stdout_holds_the_error_as_json(failing):
    application, to_raise = failing
    to_raise.append(errors.Conflict("moved on", expected_version=1, version=2))
    result = runner.invoke(application, ["fail", "--json"])
    assert result.exit_code == 4
    expected = {"type": "Conflict", "message": "moved on", "expected_version": 1, "version": 2}
    assert json.loads(result.stdout) == {"error": expected}


def test_interruption_exits_with_130(failing):
    application, to_raise = failing
    to_raise.append(KeyboardInterrupt())
    assert runner.invoke(application, ["fail"]).exit_code == 130


def test_version_as_json():
    result = runner.invoke(app, ["version", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["memos-ray"]


def test_status_without_a_running_system_says_how_to_start_one(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    result = runner.invoke(app, ["status", "--json"])
    assert result.exit_code == 5
    assert json.loads(result.stdout) == {"running": False}


def test_the_default_cube_is_used_only_when_nothing_is_named():
    assert scope(None, None, None) == {"cube_id": "default"}
    assert scope(None, "ana", None) == {"user_id": "ana"}
    assert scope("c", "ana", "bot") == {"cube_id": "c", "user_id": "ana", "agent_id": "bot"}


# ---- files


def write(folder, name, content):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_a_conversation_becomes_one_request_a_session(tmp_path):
    talk = {
        "conversation": "talk",
        "sessions": [
            {
                "session": "1",
                "date": "2024-03-04T19:30:00+00:00",
                "turns": [{"turn": "1:1", "speaker": "A", "text": "hi"}],
            },
            {
                "session": "2",
                "date": "2024-03-05T19:30:00+00:00",
                "turns": [{"speaker": "B", "text": "ho"}] * 201,
            },
        ],
    }
    requests = read_file(write(tmp_path, "talk.json", talk))
    assert [(r.verb, r.units) for r in requests] == [("add", 1), ("add", 200), ("add", 1)]
    assert requests[0].arguments == {
        "messages": [{"role": "user", "content": "hi", "speaker": "A", "turn": "1:1"}],
        "timestamp": "2024-03-04T19:30:00+00:00",
        "conversation": "talk",
        "session": "1",
    }


def test_the_same_request_to_the_same_target_has_the_same_op_id(tmp_path):
    path = write(tmp_path, "notes.jsonl", '"one"\n{"content": "two"}\n\n')
    first, again = read_file(path), read_file(path)
    assert first[0].arguments["messages"] == ["one", {"content": "two"}]
    assert first[0].op_id({"cube_id": "a"}) == again[0].op_id({"cube_id": "a"})
    assert first[0].op_id({"cube_id": "a"}) != first[0].op_id({"cube_id": "b"})
    assert len(first[0].op_id({})) <= 200


@pytest.mark.parametrize(("name", "kind"), [("a.md", "markdown"), ("a.txt", "text"), ("README", "text")])
def test_everything_else_is_a_document(tmp_path, name, kind):
    (request,) = read_file(write(tmp_path, name, "# Title\n\ntext"))
    assert request.verb == "add_document"
    assert (request.arguments["document"], request.arguments["format"]) == (name, kind)


def test_triples_and_message_lists(tmp_path):
    (triples,) = read_file(write(tmp_path, "t.json", {"triples": [["a", "likes", "b"]], "functional": True}))
    assert triples.verb == "add_triples"
    assert triples.arguments["functional"] is True
    (messages,) = read_file(write(tmp_path, "m.json", {"messages": ["a", "b"]}))
    assert messages.units == 2
    assert read_file(write(tmp_path, "empty.txt", "  \n")) == []


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", "{", "a.json is not JSON"),
        ("a.jsonl", '{"content": "x"}\nnope\n', "a.jsonl, line 2 is not JSON"),
        ("a.json", '{"what": 1}', "expected a list of messages"),
        ("a.json", '{"sessions": [{"turns": []}]}', '"date"'),
        (
            "a.json",
            '{"sessions": [{"session": "1", "date": "2024-01-01", "turns": [{}]}]}',
            "turn 1 of session 1",
        ),
        ("a.json", "[1]", "message 1 is neither"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path, name, content, says):
    with pytest.raises(errors.Invalid, match=says):
        read_file(write(tmp_path, name, content))


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"ok \xff\xfe")
    with pytest.raises(errors.Invalid, match="not UTF-8"):
        read_file(path)


# ---- tables


def rendered(table):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(table)
    return console.export_text()


HIT = {
    "id": "id-1",
    "memory": "the [bold] name",
    "score": 0.5,
    "valid_from": "2024-03-04T19:30:00+00:00",
    "sources": [{"conversation": "talk", "turn": "1:1", "speaker": "Ann"}, {"turn": "1:2"}],
    "times": [
        {"text": "last Friday", "start": "2024-03-01T00:00:00+00:00", "end": "2024-03-02T00:00:00+00:00"}
    ],
    "explanation": {
        "arms": {"text": {"score": 1.0, "rank": 2}, "dense": {"score": 1.0, "rank": 1}},
        "matched_terms": ["name"],
    },
}


def test_hits_show_date_speaker_source_and_what_relative_dates_mean():
    text = rendered(hits_table([HIT], marked=[0], explain=True, times=True))
    for part in (
        "✓ 1",
        "2024-03-04",
        "Ann",
        "the [bold] name",
        "[last Friday = 2024-03-01]",
        "talk 1:1 (+1)",
        "id-1",
    ):
        assert part in text
    assert why(HIT["explanation"]) == "dense #1, text #2, “name”"


def test_other_tables():
    item = {
        **HIT,
        "version": 2,
        "status": "active",
        "recorded_at": HIT["valid_from"],
        "metadata": {},
        "links": [],
    }
    text = rendered(memory_table(item))
    assert "conversation=talk" in text
    assert "metadata" not in text
    assert "update" in rendered(history_table([{"op": "update", "op_id": "o", "seq": 3, "item": item}]))


def test_small_helpers():
    assert where({"sources": [{"document": "a.md", "heading": "The mixer"}]}) == "a.md › The mixer"
    assert where({}) == ""
    assert shortened("a\nb  c") == "a b c"
    assert shortened("x" * 10, 5) == "xxxx…"
    assert [size(x) for x in (5, 1500, 2_500_000, 3e13)] == ["5 B", "1.5 kB", "2.5 MB", "30.0 TB"]
