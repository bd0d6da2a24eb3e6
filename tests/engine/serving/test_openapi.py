"""The OpenAPI document says what the service does: requests made from it are answered so."""

from __future__ import annotations

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="fuzzes the OpenAPI document")

from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from schemathesis.checks import CHECKS  # noqa: E402

from tests.engine.serving.servers import Server  # noqa: E402

EXAMPLES = 12
"""Requests for each address: the time of this test."""
HELD_TO = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
"""What an answer is compared with."""


def test_whatever_is_asked_is_answered_as_documented(server: Server) -> None:
    """No request makes a fault, an undocumented status or an answer of another form."""
    document = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    checks = [CHECKS.get_one(name) for name in HELD_TO]
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) >= 12
    for operation in operations:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            case.validate_response(case.call(timeout=60), checks=checks)

        ask()


def test_the_document_has_an_example_for_whoever_tries_it(server: Server) -> None:
    """`/docs` shows them, ready for a terminal."""
    with server.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    for path in ("/search", "/search/batch", "/embed", "/explain", "/items"):
        content = paths[path]["post"]["requestBody"]["content"]
        assert content["application/json"]["examples"], path
        assert "photo" in content["multipart/form-data"]["schema"]["properties"], path
