"""Processes that only serve an index: what they need, in this installation or in another."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from hficma.errors import ArtifactError
from hficma.recipe import Recipe

# Runs in installations of any version since 0.1.0, so it keeps to what all of them have.
_PROGRAM = """
import json, sys, time
from pathlib import Path
from hficma.engine import Engine
options = json.loads(sys.argv[1])
began = time.perf_counter()
index, bundle = Path(options["index"]), Path(options["bundle"])
with Engine.open(index, bundle=bundle, **options["open"]) as engine:
    print(json.dumps(time.perf_counter() - began), flush=True)
    for line in sys.stdin:
        query = json.loads(line)
        if "image" in query:
            query["image"] = Path(query["image"])
        else:
            from hficma.recipe import Recipe
            query["recipe"] = Recipe.parse(query["recipe"], where="query")
        start = time.perf_counter()
        answer = engine.search(**query, **options["search"])
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "ids": [hit.id for hit in answer.hits],
                          "scores": [float(hit.score) for hit in answer.hits],
                          "certified": answer.certified}), flush=True)
"""


class Server(subprocess.Popen[str]):
    """A process that has opened an index and answers; as a context manager it ends with its block.

    Args:
        python: the interpreter of an installation.
        index: served.
        bundle: its model.
        opening: further options of `Engine.open`.
        search: further options of `Engine.search`.
        home: the process's workspace; None takes the user's.

    Raises:
        ArtifactError: that installation cannot open the index; why stands on the standard error.
    """

    def __init__(
        self,
        python: Path | str,
        index: Path,
        bundle: Path,
        *,
        opening: dict[str, Any],
        search: dict[str, Any] | None = None,
        home: Path | None = None,
    ) -> None:
        self._python, self._index = python, index
        options = {"index": str(index), "bundle": str(bundle)}
        words = json.dumps({**options, "open": opening, "search": search or {}})
        super().__init__(
            [str(python), "-P", "-c", _PROGRAM, words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "HFICMA_HOME": str(home)} if home else None,
        )  # fmt: skip
        self.opening_seconds: float = self._answer()
        """Opening took."""

    def ask(self, query: Path | Recipe) -> dict[str, Any]:
        """Return "seconds", "ids", "scores" and "certified" of the search for a photo or recipe."""
        words = {"recipe": query.to_json()} if isinstance(query, Recipe) else {"image": str(query)}
        print(json.dumps(words), file=self.stdin, flush=True)
        answer: dict[str, Any] = self._answer()
        return answer

    def memory(self) -> dict[str, float]:
        """Return MB resident: `peak_mb`, and now `own_mb` and `mapped_mb`, which may be dropped."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines()
        status = dict(line.split(":", 1) for line in lines)
        names = {"peak_mb": "VmHWM", "own_mb": "RssAnon", "mapped_mb": "RssFile"}
        return {key: int(status[name].split()[0]) / 1024 for key, name in names.items()}

    def _answer(self) -> Any:
        assert self.stdout is not None
        if line := self.stdout.readline():
            return json.loads(line)
        raise ArtifactError(f"{self._python}: cannot answer from {self._index}; see above")
