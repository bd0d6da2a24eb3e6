"""HTML pages of benchmarks: one file each, which opens offline and on a phone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hficma.artifacts.manifest import write_atomically
from hficma.errors import MissingDependencyError

from .report import Report, cell_text

TEMPLATES = Path(__file__).parent / "templates"


def write_page(path: Path, template: str, **values: object) -> None:
    """Render a template and write the page.

    Args:
        path: the page's file.
        template: a file of `TEMPLATES`; all of them extend `page.html.j2`.
        values: what it shows; text is escaped.

    Raises:
        MissingDependencyError: Jinja is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingDependencyError("jinja2", "report", "a benchmark's page") from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    write_atomically(path, environment.get_template(template).render(values).encode())


def write_report_page(
    path: Path, report: Report, plots: Mapping[str, Sequence[str]], whole: Collection[str]
) -> None:
    """Write a report as HTML.

    Args:
        path: the page's file.
        report: shown.
        plots: SVG of each table, by its key.
        whole: names of rows that are set in bold, such as a sum of the others.
    """
    facts = [*_facts(report.environment), *_facts(report.options)]
    write_page(
        path, "report.html.j2",
        report=report, plots=plots, whole=whole, facts=facts, cell_text=cell_text,
    )  # fmt: skip


def _facts(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names and values as text, without those that are empty."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        elif isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        if value not in (None, ""):
            yield name.replace("_", " "), str(value)
