"""What the pages tell of quality: methods, encoders, text, the drawn sample."""

from __future__ import annotations

from hficma.metrics import DIRECTIONS

from .tables import Lines, Record, share, table

_ENCODERS = {
    "of": "{name}",
    "encoder": "{encoder}",
    "precision": "{precision}",
    "MB": "{mb:.1f}",
    "ms, 1 item, 1 thread": "{milliseconds[1 x 1]:.2f}",
    "2 threads": "{milliseconds[2 x 1]:.2f}",
    "16 items, 1 thread": "{milliseconds[1 x 16]:.2f}",
    "16 items, 2 threads": "{milliseconds[2 x 16]:.2f}{noise}",
    "R@10": "{ten}",
}
_METHODS = {
    "method": "{name}",
    "medR": "{photo[medR][value]:.1f}",
    "R@1": "{photo[R@1][value]:.1f}",
    "R@10 [95 %]": "{ten[value]:.1f} [{ten[low]:.0f}, {ten[high]:.0f}]",
    "over the first": "{over[value]:+.1f} [{over[low]:+.0f}, {over[high]:+.0f}]",
    "R@10, S_global alone": "{alone[R@10][value]:.1f}",
    "back: medR": "{recipe[medR][value]:.1f}",
    "back: R@10": "{recipe[R@10][value]:.1f}",
    "seeds": "{seeds}",
}
_TASKS = {"task, encoder": "{task}", "medR": "{medR:.1f}", "R@1": "{R@1:.1f}", "R@10": "{R@10:.1f}"}
_RANKED = {
    "ranked by": "{name}",
    "medR": "{image_to_recipe[medR]:.1f}",
    "R@1 [95 %]": "{photo}",
    "back: medR": "{recipe_to_image[medR]:.1f}",
    "back: R@1": "{recipe}",
}


def encoders(record: Record) -> Lines:
    """Tell of `encoders`: a line for each encoder in each precision, with its method's R@10."""
    rows = [
        row | {"ten": "–" if row["recall"] is None else f"{row['recall']:.1f}"}
        for row in record["rows"]
    ]
    return [
        f"**Encoders**: photos, and texts of {record['words']} tokens, in onnxruntime; R@10 is of "
        "the method that an encoder is part of.",
        "",
        *table(_ENCODERS, rows),
    ]


def quality(record: Record) -> Lines:
    """Tell of `quality`: every loss and system on the test pairs."""
    count, rows = record["test_pairs"], []
    for method in record["methods"]:
        photo, recipe = (method["S"][direction] for direction in DIRECTIONS)
        rows.append(
            method
            | {"photo": photo, "recipe": recipe, "ten": photo["R@10"]}
            | {
                "over": photo["R@10"]["against_baseline"],
                "alone": method["S_global"][DIRECTIONS[0]],
            }
        )
    learnt = f"{record['training_pairs']:,} to learn from, " if "training_pairs" in record else ""
    return [
        f"**{record['title']}**: {learnt}{count} test pairs as one bag, photo to recipe and back; "
        "means over seeds, 95 % intervals over queries, differences paired. Chance is medR "
        f"{(count + 1) / 2:.0f} and R@10 {1000 / count:.1f}.",
        "",
        *table(_METHODS, rows),
        "",
        *(f"* {one['name']}: {one['note']}." for one in record["methods"] if one["note"]),
    ]


def text_quality(record: Record) -> Lines:
    """Tell of `text_quality`: ingredients found, and what sentence vectors know."""
    accuracies = ", ".join(
        f"{share(one['accuracy'], one['lines'])} % of {one['lines']} lines ({name})"
        for name, one in record["ingredients"].items()
    )
    lines = [f"**Text**: ingredients are named right in {accuracies}."]
    if sentences := record.get("sentences"):
        tasks = [
            {"task": f"{task}, {encoder}", **figures}
            for encoder, encoder_tasks in sentences["encoders"].items()
            for task, figures in encoder_tasks.items()
        ]
        lines[0] += f" Sentence vectors find, among {sentences['candidates']:,} candidates:"
        lines += ["", *table(_TASKS, tasks)]
    return lines


def sample_hardness(record: Record) -> Lines:
    """Tell of `sample_hardness`: a trained run beside what colours alone and a wrong table give."""
    rows = []
    for name, one in record["rows"].items():
        firsts = [one[direction]["R@1"] for direction in DIRECTIONS]
        # Chance is a number, of which no query can be drawn otherwise.
        shares = [f"{r:.1f}" if name == "chance" else share(r, record["items"]) for r in firsts]
        rows.append({"name": name, "photo": shares[0], "recipe": shares[1], **one})
    title = f"**The synthetic sample** ({record['data']}, {record['items']} test items):"
    return [title, "", *table(_RANKED, rows)]
