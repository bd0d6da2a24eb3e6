"""HTML pages of benchmarks: one file each, which opens offline and on a phone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

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
    facts = []
    for name, value in [*report.environment.items(), *report.options.items()]:
        if isinstance(value, Mapping):
            value = [f"{key} {item}" for key, item in value.items()]
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        if text not in (None, ""):
            facts.append((name.replace("_", " "), str(text)))
    write_page(
        path, "report.html.j2",
        report=report, plots=plots, whole=whole, facts=facts, cell_text=cell_text,
    )  # fmt: skip
