"""Commands that are stopped, or refused by the machine: one line, the right exit code, and nothing lost."""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

import vgx
from vgx.cli import process
from vgx.errors import Damaged, EnvironmentFault, RunError, VgxError
from vgx.results import directories, files
from vgx.runner import checkpoint
from vgx.runner.stopping import Interrupted

SMALL = {
    "name": "small",
    "model": {"depth": 2, "width": 8},
    "train": {"batch_size": 32, "steps": 8, "evaluate_every": 4},
    "log": {"every": 2},
}


def run_of(script: str, *arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """Runs a script in a Python of its own."""
    words = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(words, text=True, check=False, timeout=120, **options)


# Signals

SIGNALLED = """
    import os, signal, sys
    moment, number = sys.argv[1], int(sys.argv[2])

    class Deaf:
        def __del__(self):  # Python raises nothing from here
            os.kill(os.getpid(), number)
            sum(range(100))

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == moment:
                os.kill(os.getpid(), number)

    def begin():
        if moment == "finalizer":
            Deaf()
        elif moment == "exec":
            exec("os.kill(os.getpid(), number)")

    sys.meta_path.insert(0, Finder())
    sys.argv = ["vgx", "data", "list"]
    import vgx.cli.process
    before, vgx.cli.process.begin = vgx.cli.process.begin, lambda: (before(), begin())
    from vgx.cli import main
    main()
"""


@pytest.mark.parametrize("moment", ["typer", "rich", "finalizer", "exec"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_ends_a_command_with_130_and_a_line_even_while_it_imports(number, moment):
    done = run_of(SIGNALLED, moment, int(number))
    assert (done.returncode, done.stderr, done.stdout) == (130, "interrupted\n", "")


SWALLOWED = """
    import os, signal, sys
    import vgx.runner.preparation
    from vgx.cli import main

    before = vgx.runner.preparation.begin_compiling

    def lost(*arguments):  # as jax loses one, where its C++ calls Python
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            pass
        return before(*arguments)

    vgx.runner.preparation.begin_compiling = lost
    sys.argv = ["vgx", "train", sys.argv[1], "--runs", sys.argv[2], "--quiet"]
    main()
"""


def test_a_signal_that_a_library_lost_stops_the_run_before_its_first_step(tmp_path):
    config = tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump(SMALL))
    done = run_of(SWALLOWED, config, tmp_path / "runs")
    assert done.returncode == 130, done.stderr
    [run] = (tmp_path / "runs").iterdir()
    assert json.loads((run / "meta.json").read_text())["status"] == "interrupted"


def test_a_folder_of_checkpoints_that_is_a_file_is_damage_and_none_is_no_checkpoint(tmp_path):
    assert checkpoint.newest(tmp_path / "checkpoint") is None
    (tmp_path / "checkpoint").write_text("no folder")
    with pytest.raises(Damaged, match="checkpoint: cannot be read"):
        checkpoint.newest(tmp_path / "checkpoint")


def test_whatever_a_library_raises_for_a_checkpoint_is_damage(tmp_path, monkeypatch):
    class Odd(Exception):
        """Of no kind that a library promises."""

    class Checkpointer:
        def __enter__(self):
            raise Odd("checksum\nmismatch")

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(checkpoint, "_checkpointer", Checkpointer)
    with pytest.raises(Damaged, match=r"000000008: cannot be read \(checksum mismatch\)"):
        checkpoint.load(tmp_path, 8, {})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return vgx.train(vgx.load_config(SMALL), runs=tmp_path_factory.mktemp("whole"))


def stop_in(monkeypatch, name: str, number: int) -> None:
    """Sends a signal the first time that a function is called, before it does anything."""
    owner, _, attribute = name.rpartition(".")
    module = sys.modules[owner]
    before, turns = getattr(module, attribute), []

    def signalling(*arguments, **options):
        turns.append(1)
        if len(turns) == 1:
            os.kill(os.getpid(), number)
        return before(*arguments, **options)

    monkeypatch.setattr(module, attribute, signalling)


LOOP = "vgx.runner.loop"
OTHERS = [pytest.param(f"{LOOP}.{name}", marks=pytest.mark.slow) for name in ("_dispatch", "evaluated")]
MOMENTS = [f"{LOOP}.prepare", f"{LOOP}._flush", "vgx.runner.train.judge_lanes", *OTHERS]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_stopped_at_any_time_is_resumable_to_the_same_bits(moment, whole, tmp_path, monkeypatch):
    config = vgx.load_config(SMALL)
    with monkeypatch.context() as patch:
        stop_in(patch, moment, signal.SIGINT)
        with pytest.raises(Interrupted, match="resume=True goes on"):
            vgx.train(config, runs=tmp_path)
    run = vgx.open_run(tmp_path / whole.path.name)
    assert run.status == "interrupted"
    assert "error" not in run.meta
    resumed = vgx.train(config, runs=tmp_path, resume=True)
    assert resumed.status == "done"
    for table in ("metrics", "layers", "lanes"):
        assert getattr(resumed, table)().equals(getattr(whole, table)())


def sweep_of():
    return vgx.load_sweep(SMALL | {"sweep": {"axes": {"train.optimizer.learning_rate": [0.1, 0.2]}}})


def lanes_by_rate(run) -> list:
    return run.lanes().drop_columns(["error"]).to_pylist()


@pytest.fixture(scope="module")
def whole_sweep(tmp_path_factory):
    return vgx.sweep(sweep_of(), runs=tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    "moment", [f"{LOOP}.prepare", pytest.param("vgx.runner.sweeping.judge_lanes", marks=pytest.mark.slow)]
)
def test_a_sweep_stopped_at_any_time_goes_on_with_the_same_command(moment, whole_sweep, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_in(patch, moment, signal.SIGINT)
        with pytest.raises(Interrupted, match="the same command goes on"):
            vgx.sweep(sweep_of(), runs=tmp_path)
    run = vgx.open_run(tmp_path / whole_sweep.path.name)
    assert run.status == "interrupted"
    assert {lane["status"] for lane in run.lanes().to_pylist()} == {"pending"}
    resumed = vgx.sweep(sweep_of(), runs=tmp_path)
    assert lanes_by_rate(resumed) == lanes_by_rate(whole_sweep)
    assert resumed.layers().equals(whole_sweep.layers())


# A full disk


def full_at(monkeypatch, turn: int) -> None:
    """Has no room for the checkpoint at its turn."""
    save, turns = checkpoint.save, []

    def saving(folder, step, state):
        turns.append(step)
        if len(turns) == turn:
            with files.explained(folder, run=True):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(folder, step, state)

    monkeypatch.setattr(checkpoint, "save", saving)


def test_a_run_that_a_full_disk_stopped_goes_on_to_the_same_bits(whole, tmp_path, monkeypatch):
    config = vgx.load_config(SMALL)
    with monkeypatch.context() as patch:
        full_at(patch, 1)
        with pytest.raises(EnvironmentFault, match="No space left on device; make room, then go on with resume=True"):
            vgx.train(config, runs=tmp_path)
    run = vgx.open_run(tmp_path / whole.path.name)
    assert run.status == "interrupted"
    assert "No space left on device" in run.meta["error"]
    resumed = vgx.train(config, runs=tmp_path, resume=True)
    assert resumed.layers().equals(whole.layers())
    assert "error" not in resumed.meta


def test_a_sweep_that_a_full_disk_stopped_goes_on_with_all_its_lanes(whole_sweep, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        full_at(patch, 1)
        with pytest.raises(EnvironmentFault, match="No space left on device"):
            vgx.sweep(sweep_of(), runs=tmp_path)
    assert vgx.open_run(tmp_path / whole_sweep.path.name).status == "interrupted"
    assert lanes_by_rate(vgx.sweep(sweep_of(), runs=tmp_path)) == lanes_by_rate(whole_sweep)


LIMITED = """
    import resource, sys
    from pathlib import Path
    import jax, numpy as np
    from vgx.runner import checkpoint
    from vgx.errors import EnvironmentFault

    kind, limit, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    state = [jax.numpy.asarray(np.random.default_rng(i).normal(size=(200, 200))) for i in range(6)]
    checkpoint.save(folder, 1, state)
    number = getattr(resource, kind)
    before = resource.getrlimit(number)
    resource.setrlimit(number, (limit, before[1]))
    try:
        checkpoint.save(folder, 2, state)
    except EnvironmentFault as fault:
        print(fault)
    resource.setrlimit(number, before)
    assert [path.name for path in folder.iterdir()] == ["000000001"], "the checkpoint before stands, alone"
    checkpoint.load(folder, 1, state)
    checkpoint.save(folder, 3, state)
    assert [path.name for path in folder.iterdir()] == ["000000003"]
"""


@pytest.mark.parametrize(
    ("kind", "limit", "line"),
    [
        ("RLIMIT_FSIZE", 20_000, "cannot write: File too large; raise the limit of a file's size (ulimit -f)"),
        ("RLIMIT_NOFILE", 14, "cannot write: Too many open files; raise the limit of open files (ulimit -n 1024)"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_one_line_and_leaves_the_one_before(kind, limit, line, tmp_path):
    done = run_of(LIMITED, kind, limit, tmp_path / "checkpoint")
    assert done.stderr == ""
    assert done.stdout == f"{tmp_path}/checkpoint: {line}\n"
    assert done.returncode == 0


# Standard output


def vgx_help(**options) -> subprocess.CompletedProcess[str]:
    return run_of("import sys; sys.argv = ['vgx', '--help']; from vgx.cli import main; main()", **options)


def test_a_full_standard_output_is_one_line():
    with open("/dev/full", "w") as full:
        done = vgx_help(stdout=full)
    assert done.stderr == "standard output: cannot write: No space left on device; > /dev/null throws it away\n"
    assert done.returncode == 4


def test_a_closed_standard_output_is_one_line_and_no_file_takes_its_number(tmp_path):
    script = """
        import os, sys
        os.close(1)
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
    """
    inner = "import sys; sys.argv = ['vgx', '--help']; from vgx.cli import main; main()"
    done = run_of(script, inner)
    assert done.stderr == "standard output: cannot write: it is closed; > /dev/null throws it away\n"
    assert done.returncode == 4


def test_a_reader_that_has_left_ends_a_command_in_silence():
    reading, writing = os.pipe()
    os.close(reading)
    done = vgx_help(stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_whose_reader_has_left_is_stopped_and_resumable(whole, tmp_path):
    def watch(progress) -> None:
        if progress.step:
            raise EnvironmentFault("standard output: cannot write") from BrokenPipeError()

    with pytest.raises(Interrupted, match="nobody reads what it prints any more; resume=True goes on"):
        vgx.train(vgx.load_config(SMALL), runs=tmp_path, watch=watch)
    assert vgx.open_run(tmp_path / whole.path.name).status == "interrupted"


# Names and texts


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (OSError(errno.EMFILE, "", "/x"), 4, r"/x: too many open files; raise the limit of open files \(ulimit"),
        (ImportError("libx.so: cannot open shared object file: Too many open files"), 4, "vgx: too many open files"),
        (OSError(errno.ENAMETOOLONG, "", "a" * 5000), 2, r"a{60}\.\.\.a{20} \(5,000 characters\): file name too long"),
        (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"), 2, r"'\\udce9': this is not UTF-8"),
        (FileNotFoundError(errno.ENOENT, "", "/x"), None, ""),
        (ImportError("no module"), None, ""),
    ],
)  # fmt: skip
def test_what_the_machine_refuses_is_one_line_and_a_bug_is_not(error, code, line):
    fault = process.refusal(error)
    if code is None:
        assert fault is None
    else:
        assert isinstance(fault, VgxError)
        assert fault.exit_code == code
        assert re.match(line, str(fault))


def test_what_cannot_be_read_is_not_said_to_be_unwritable(tmp_path):
    with pytest.raises(EnvironmentFault, match="x: cannot read: Permission denied"), files.explained(Path("x"), "read"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with pytest.raises(EnvironmentFault) as refused, files.explained(Path("page.html")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "--resume" not in str(refused.value)


FOREIGN = """
    import sys
    sys.argv = ["vgx", *sys.argv[1:]]
    from vgx.cli import main
    main()
"""


def test_names_and_texts_are_utf8_whatever_the_locale(tmp_path):
    folder = tmp_path / "é"
    folder.mkdir()
    (folder / "ñ.yaml").write_text("name: small # é\nmodel: {depth: 2, width: 8}\n", encoding="utf-8")
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": str(Path(vgx.__file__).parents[1])}
    done = run_of(FOREIGN, "check", folder / "ñ.yaml", env=plain)
    assert done.returncode == 0
    assert "Error" not in done.stderr
    with pytest.raises(RunError, match="this name is not UTF-8, or the locale is not"):
        directories.ready(Path(os.fsdecode(b"caf\xe9")))


SOURCES = sorted(Path(vgx.__file__).parent.rglob("*.py"))


def test_every_text_is_read_and_written_as_utf8():
    """An open without an encoding takes the locale's, which need not know the text."""
    bare = []
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in ("self", "writer"):
                continue  # a run's writer, which knows
            words = {word.arg for word in node.keywords}
            modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            is_text = name in ("read_text", "write_text") or (
                name == "open" and modes and not any("b" in mode for mode in modes)
            )
            if is_text and "encoding" not in words:
                bare.append(f"{source.name}:{node.lineno}")
    assert bare == []
