"""The commands of `hficma`, and how each ends: with an exit code, and an error as one line."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, NoReturn, cast

import typer

from .. import __version__
from ..errors import HficmaError
from ..printable import one_line, printable_lines
from .exit_codes import BAD_INPUT, INTERRUPTED
from .help_text import command_group
from .lazy_group import LazyGroup

UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])
"""The base of all errors about a command line's words: Typer exports only some of its
subclasses."""


class _Commands(LazyGroup):
    """The commands of `hficma` and where they live."""

    homes: ClassVar[Mapping[str, tuple[str, str]]] = {
        "train": ("hficma.cli.commands.models", "train"),
        "eval": ("hficma.cli.commands.evaluations", "evaluate"),
        "calibrate": ("hficma.cli.commands.models", "calibrate"),
        "export": ("hficma.cli.commands.models", "export"),
        "index": ("hficma.cli.commands.indexes", "app"),
        "search": ("hficma.cli.commands.search", "search"),
        "serve": ("hficma.cli.commands.serve", "serve"),
        "bench": ("hficma.cli.commands.benchmarks", "app"),
        "demo": ("hficma.cli.commands.demo", "demo"),
        "doctor": ("hficma.cli.commands.doctor", "doctor"),
        "data": ("hficma.cli.commands.datasets", "app"),
        "vectors": ("hficma.cli.commands.text_vectors", "app"),
        "compare": ("hficma.cli.commands.evaluations", "compare"),
        "extract": ("hficma.cli.commands.models", "extract"),
        "convert": ("hficma.cli.commands.models", "convert"),
    }


app = command_group(
    "Find the recipe for a photo of a dish, and the photo for a recipe.",
    cls=_Commands,
    no_args_is_help=True,
)


def _print_version(value: bool) -> None:
    if value:
        print(f"hficma {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    home: Annotated[
        Path | None,
        typer.Option(help="Where runs, bundles, indexes live.", show_default="workspace"),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,  # before a missing command is an error
            callback=_print_version,
        ),
    ] = False,
) -> None:
    if home is not None:
        os.environ["HFICMA_HOME"] = str(home)


def run() -> NoReturn:
    """Run the command that the process was called with, and end the process.

    Raises:
        KeyboardInterrupt: the user interrupted it.
    """
    with _process_settings():
        _run()


@contextlib.contextmanager
def _process_settings() -> Iterator[None]:
    """Set up streams, log and warnings of the process for a command, as a library must not."""
    for stream in (sys.stdout, sys.stderr):
        # A title that the terminal's encoding lacks is shown as escapes, not as a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    log, handler = logging.getLogger("hficma"), _LogLines()
    log.addHandler(handler)
    try:
        with warnings.catch_warnings():
            # Pillow warns of damaged photos in its own words; each has a line of ours already.
            warnings.filterwarnings("ignore", module="PIL")
            yield
    finally:
        log.removeHandler(handler)


def _run() -> NoReturn:
    """Run a command and end the process with its exit code; an error of the user's is one line."""
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # Typer's own answer to it
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except HficmaError as error:
        _stop(str(error), error.exit_code)
    except UsageError as error:
        # Its text quotes what was typed, which a shell may have completed to any file's name.
        text = io.StringIO()
        error.show(file=text)
        print(printable_lines(text.getvalue()), end="", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except typer.Abort:
        _stop("not done: nothing was confirmed", 1)
    except BrokenPipeError:
        # The reader of our output has gone; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            _stop(f"too many files are open ({error.strerror}); raise `ulimit -n`", BAD_INPUT)
        if error.errno not in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT):
            raise
        place = f"{error.filename}: " if error.filename else ""
        _stop(f"{place}cannot be written ({error.strerror}); choose another --home", BAD_INPUT)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        _stop(
            f"this command needs {error.name}, which is not installed: "
            f"pip install 'hficma[{extra}]'",
            BAD_INPUT,
        )


# The extra of `pip install hficma[EXTRA]` that installs a package.
_EXTRAS = {
    "torch": "train",
    "torchvision": "train",
    "onnx": "train",
    "onnxscript": "train",
    "gensim": "train",
    "safetensors": "train",
    "tensorboard": "train",
    "pyarrow": "data",
    "lmdb": "data",
    "matplotlib": "report",
    "onnxruntime": "cpu",
    "faiss": "cpu",
    "openvino": "openvino",
}


class _LogLines(logging.Handler):
    """Prints what the package logs as a warning, such as a fallback, as one line."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"hficma: {one_line(record.getMessage())}", file=sys.stderr)


def _stop(message: str, code: int) -> NoReturn:
    """Print a message as one line and end the process."""
    print(f"hficma: {one_line(message)}", file=sys.stderr)
    sys.exit(code)
