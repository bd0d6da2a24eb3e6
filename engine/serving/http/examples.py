"""What the OpenAPI document says of bodies, with an example of each."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

_PHOTO = {"type": "string", "format": "binary", "description": "A photo's file."}
_INGREDIENTS = {"ingredients": ["tomato", "basil", "mozzarella"], "k": 5}
_RECIPE = {
    "title": "Tomato soup",
    "ingredients": ["1 kg tomatoes", "2 onions", "salt"],
    "instructions": ["Chop everything.", "Cook for half an hour."],
}

INDEX: list[dict[str, Any]] = [
    {
        "name": "index", "in": "query", "required": False,
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
        "description": "Name of an index; the first by default.",
    }
]  # fmt: skip
ID_AND_INDEX: list[dict[str, Any]] = [
    {
        "name": "item_id", "in": "path", "required": True, "schema": {"type": "string"},
        "description": "Id of the item's recipe.",
    },
    *INDEX,
]  # fmt: skip

JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": _PHOTO}}, "description": "A small JPEG."}
}
ITEM: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/json": {"schema": {"type": "object"}, "example": _RECIPE}},
        "description": "The recipe.",
    }
}
METRICS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/plain": {"schema": {"type": "string"}}},
        "description": "Prometheus' format.",
    }
}


def search(body: type[BaseModel], options: type[BaseModel]) -> dict[str, Any]:
    """Return the document of `/search`."""
    return {
        "parameters": _parameters(options),
        "requestBody": _body(
            json_schema(body),
            {
                "ingredients": {"value": _INGREDIENTS},
                "recipe": {"value": {"recipe": _RECIPE, "without": ["peanut"]}},
            },
            form={"photo": _PHOTO, **_properties(options)},
            raw=True,
        ),
    }


def batch(body: type[BaseModel], options: type[BaseModel]) -> dict[str, Any]:
    """Return the document of `/search/batch`."""
    example = {"queries": [{"ingredients": ["tomato", "basil"]}, {"recipe": _RECIPE}], "k": 3}
    return _many(body, options, {"two recipes": {"value": example}})


def embed(body: type[BaseModel], choice: type[BaseModel]) -> dict[str, Any]:
    """Return the document of `/embed`."""
    return _many(body, choice, {"a recipe": {"value": {"queries": [{"recipe": _RECIPE}]}}})


def explain(body: type[BaseModel]) -> dict[str, Any]:
    """Return the document of `/explain`."""
    form = _properties(body) | {"photo": _PHOTO}
    example = {"photo": "/9j/4AAQ...", "ids": ["r17"]}
    return {
        "requestBody": _body(
            json_schema(body), {"one recipe": {"value": example}}, form=form, required=["ids"]
        )
    }


def items() -> dict[str, Any]:
    """Return the document of `POST /items`."""
    recipe = {"type": "object", "description": "A recipe with its `ingredients`."}
    schema = {
        "type": "object",
        "properties": {"recipe": recipe, "recipes": {"type": "array", "items": recipe}},
    }
    return {
        "parameters": INDEX,
        "requestBody": _body(
            schema,
            {"a recipe": {"value": {"recipe": _RECIPE}}},
            form={"photo": _PHOTO, "recipe": {"type": "string", "description": "As JSON."}},
        ),
    }


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's schema as it stands inside a document: its parts are written out.

    Args:
        model: of a body.
    """
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return resolved(parts[value["$ref"].rpartition("/")[2]])
            return {key: resolved(item) for key, item in value.items()}
        return [resolved(item) for item in value] if isinstance(value, list) else value

    schema_object: dict[str, Any] = resolved(schema)
    return schema_object


def _many(body: type[BaseModel], form: type[BaseModel], shown: dict[str, Any]) -> dict[str, Any]:
    """Return the document of what takes many queries: as JSON, or as a form of photos."""
    return {
        "parameters": _parameters(form),
        "requestBody": _body(
            json_schema(body),
            shown,
            form={"photo": {"type": "array", "items": _PHOTO}, **_properties(form)},
        ),
    }


def _properties(model: type[BaseModel]) -> dict[str, Any]:
    properties: dict[str, Any] = json_schema(model)["properties"]
    return properties


def _parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Return a model's fields as parameters of an address."""
    return [
        {
            "name": name, "in": "query", "required": False, "schema": schema,
            "description": schema.get("description", ""),
        }
        for name, schema in _properties(model).items()
    ]  # fmt: skip


def _body(
    schema: dict[str, Any],
    shown: dict[str, Any],
    *,
    form: dict[str, Any],
    required: list[str] | None = None,
    raw: bool = False,
) -> dict[str, Any]:
    """Return what a body may be.

    Args:
        schema: of JSON.
        shown: examples of JSON.
        form: a form's fields.
        required: fields that a form must have besides a photo.
        raw: whether a photo's bytes may be the whole body.
    """
    content: dict[str, Any] = {
        "application/json": {"schema": schema, "examples": shown},
        "multipart/form-data": {
            "schema": {
                "type": "object", "properties": form, "required": ["photo", *(required or [])],
            }
        },
    }  # fmt: skip
    if raw:
        content["image/*"] = {"schema": _PHOTO}
    return {"required": True, "content": content}
