"""Draws a recipe: a kind of dish, its ingredients, and the words for them.

How much a photo can tell: the visible ingredients are drawn with an entropy of 18 bits (a tart:
three or four of 22 fruits, perhaps nuts, a topping, mint) to 29 bits (a salad: a leaf of 5, three
or four of 35 vegetables, perhaps an onion, a protein, a cheese, nuts, a herb). Among 1,000 recipes
about 83 are of the same kind, so once the kind is seen, log2 83 = 6.4 bits tell a recipe from the
others: whoever names half of the pieces finds it. Colour alone names none: a hundred looks share
fourteen colours, and ripeness, light, sauce and browning move them further than some of these lie
apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from .dishes import DISHES, Dish
from .pantry import PANTRY, Ingredient

# Preparations as an instruction says them: "chopped" in a line, "Chop the ..." in a step.
_VERBS = {
    "beaten": "beat", "chilled": "chill", "chopped": "chop", "cleaned": "clean", "cored": "core",
    "crumbled": "crumble", "crushed": "crush", "cubed": "cube", "deseeded": "deseed",
    "deveined": "devein", "diced": "dice", "drained": "drain", "flaked": "flake",
    "grated": "grate", "halved": "halve", "hulled": "hull", "melted": "melt", "minced": "mince",
    "peeled": "peel", "picked over": "pick over", "pitted": "pit", "quartered": "quarter",
    "rinsed": "rinse", "shaved": "shave", "shelled": "shell", "shredded": "shred",
    "sifted": "sift", "skinned": "skin", "sliced": "slice", "snipped": "snip", "thawed": "thaw",
    "toasted": "toast", "torn": "tear", "trimmed": "trim", "washed": "wash",
}  # fmt: skip

MEASURES: dict[str, tuple[str, ...]] = {
    "count": ("{small} {name}{after}", "{small} large {name}{after}", "about {small} {name}"),
    "cup": ("{cups} of {before}{name}", "{cups} {name}{after}", "{small} handfuls of {name}"),
    "gram": ("{grams} g {name}{after}", "{grams}g of {before}{name}", "{ounces} oz {name}{after}"),
    "can": ("1 can of {name}{after}", "1 (400 g) can {name}{after}", "{cups} {before}{name}"),
    "herb": ("a bunch of {name}{after}", "{cups} of finely {before}fresh {name}",
             "{small} tablespoons of {before}{name}"),
    "clove": ("{small} cloves of {name}{after}", "{small} cloves {before}{name}"),
    "spoon": ("{small} tablespoons {before}{name}", "{small} tbsp of {before}{name}"),
    "pinch": ("a pinch of {name}", "1/2 teaspoon {name}", "1 tsp {name}", "{name} to taste"),
    "pour": ("{cups} of {name}", "{grams} ml {name}", "{cups} {name}"),
}  # fmt: skip
"""How people write amounts, by `Ingredient.measure`."""

# Roles of ingredients that a title may name.
_PRINCIPAL = ("vegetable", "aromatic", "green", "protein", "cheese", "fruit")
# Endings of plurals and of their singulars; the first that fits is taken.
_SINGULARS = (
    ("chilies", "chili"), ("ies", "y"), ("oes", "o"), ("shes", "sh"), ("ches", "ch"),
    ("us", "us"), ("ss", "ss"), ("s", ""),
)  # fmt: skip
_CLOSINGS = ("Enjoy!", "Leftovers keep for a day.", "Serve with bread.", "Serves four.")
_CUPS = ("1/2 cup", "1 cup", "1 1/2 cups", "2 cups", "3 cups")


@dataclass(frozen=True, slots=True)
class Draft:
    """A recipe before it has an id: its words, and the ingredients behind them."""

    dish: Dish
    """Its kind."""
    contents: tuple[Ingredient, ...]
    """Its ingredients, in the order of the lines."""
    title: str
    """Its title, which names up to three of the main ingredients."""
    lines: tuple[str, ...]
    """The ingredient lines, with amounts and preparations."""
    instructions: tuple[str, ...]
    """The steps, a sentence or two each."""

    @property
    def visible(self) -> tuple[Ingredient, ...]:
        """Return the ingredients that a photo of the dish shows as pieces."""
        return tuple(
            item for item in self.contents if item.look and not (self.dish.simmers and item.soft)
        )


def draft(rng: Random) -> Draft:
    """Draw one recipe.

    Args:
        rng: the same state gives the same recipe.
    """
    dish = rng.choice(DISHES)
    contents = _contents(dish, rng)
    preparations = {
        item.name: rng.choice(item.preparations) for item in contents if item.preparations
    }
    return Draft(
        dish=dish,
        contents=contents,
        title=_title(dish, contents, rng),
        lines=tuple(_line(item, preparations.get(item.name), rng) for item in contents),
        instructions=_instructions(dish, contents, preparations, rng),
    )


def _contents(dish: Dish, rng: Random) -> tuple[Ingredient, ...]:
    """Draw the ingredients: some of each role, then those that every such dish has."""
    chosen: dict[str, Ingredient] = {}
    for role, fewest, most in dish.picks:
        pool = [item for item in _pool(role) if item.name not in dish.always]
        chosen |= {item.name: item for item in rng.sample(pool, rng.randint(fewest, most))}
    return (*chosen.values(), *(PANTRY[name] for name in dish.always))


@cache
def _pool(role: str) -> list[Ingredient]:
    """Return all ingredients of a role."""
    return _of(role, PANTRY.values())


def _of(roles: str, items: Iterable[Ingredient]) -> list[Ingredient]:
    """Return those of some ingredients that have one of the roles, or are named among them."""
    choices = roles.split(", ")
    return [item for item in items if item.role in choices or item.name in choices]


def _title(dish: Dish, contents: Sequence[Ingredient], rng: Random) -> str:
    """Draw a title over three of the visible main ingredients."""
    principal = [item.name for item in contents if item.look and item.role in _PRINCIPAL]
    first, second, third = rng.sample(principal, 3)
    title = rng.choice(dish.titles).format(
        first=first, second=second, third=third,
        a=_singular(first), b=_singular(second), c=_singular(third),
    )  # fmt: skip
    return _sentence(title)


def _singular(name: str) -> str:
    """Return a name as it stands before a noun: a fig tart has figs."""
    for plural, singular in _SINGULARS:
        if name.endswith(plural):
            return name.removesuffix(plural) + singular
    return name


def _sentence(text: str) -> str:
    """Return a text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def _line(item: Ingredient, preparation: str | None, rng: Random) -> str:
    """Draw an ingredient line.

    All amounts are drawn, whether or not the template has a place for them: the stream is then the
    same after every line.
    """
    return rng.choice(MEASURES[item.measure]).format(
        name=item.name,
        before=f"{preparation} " if preparation else "",
        after=f", {preparation}" if preparation else "",
        small=rng.randint(2, 4),
        cups=rng.choice(_CUPS),
        grams=rng.randrange(100, 450, 50),
        ounces=rng.randrange(4, 16, 2),
    )


def _instructions(
    dish: Dish, contents: Sequence[Ingredient], preparations: dict[str, str], rng: Random
) -> tuple[str, ...]:
    steps = _preparation(preparations, rng)
    for roles, templates in dish.steps:
        names = [item.name for item in _of(roles, contents)]
        if names or not roles:
            template = rng.choice(templates)
            steps.append(template.format(items=_listed(names, "the "), bare=_listed(names)))
    if rng.random() < 0.3:
        steps.append(rng.choice(_CLOSINGS))
    return tuple(steps)


def _preparation(preparations: dict[str, str], rng: Random) -> list[str]:
    """Draw the steps that cut and peel, one to four; cooks do not write down all of it."""
    stated = {name: done for name, done in preparations.items() if rng.random() < 0.7}
    clauses = [
        f"{_VERBS[done]} {_listed([name for name, how in stated.items() if how == done], 'the ')}"
        for done in dict.fromkeys(stated.values())
    ]
    alone = 3 if rng.random() < 0.3 else 0
    steps = [*clauses[:alone], ", ".join(clauses[alone:])]
    return [_sentence(step) + "." for step in steps if step]


def _listed(names: Sequence[str], article: str = "") -> str:
    """Return names as a sentence lists them: "the a, the b and the c"."""
    phrases = [article + name for name in names]
    return " and ".join(filter(None, [", ".join(phrases[:-1]), *phrases[-1:]]))
