"""The twelve kinds of dish: their ingredients, their steps, and what cooking hides of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Dish:
    """A kind of dish: a template of recipes."""

    kind: str
    """Its name, and the category of its recipes."""
    titles: tuple[str, ...]
    """Templates of titles over three of its main ingredients: `{first}`, `{second}` and `{third}`
    ("figs"), or `{a}`, `{b}` and `{c}` where a noun follows ("fig")."""
    always: tuple[str, ...]
    """Ingredients that every recipe of this kind has."""
    picks: tuple[tuple[str, int, int], ...]
    """(role, fewest, most): the number of ingredients to draw of each role, in the order of the
    lines."""
    steps: tuple[tuple[str, tuple[str, ...]], ...]
    """(roles, templates): `{items}` lists the recipe's ingredients of those roles ("the a and the
    b"), `{bare}` the same without articles. A step is left out where the recipe has none of its
    roles; one without roles is always there. A role may be an ingredient's name."""
    simmers: bool = False
    """Soft ingredients fall apart in it: they colour the liquid and are not seen."""


DISHES: tuple[Dish, ...] = (
    Dish(
        kind="salad",
        titles=(
            "{a} and {b} salad",
            "{c} salad with {first}",
            "Summer salad with {first} and {second}",
            "Crunchy {a} salad",
        ),
        always=("salt", "olive oil"),
        picks=(
            ("green", 1, 1), ("vegetable", 3, 4), ("aromatic", 0, 1), ("protein", 0, 1),
            ("cheese", 0, 1), ("nut", 0, 1), ("herb", 0, 1), ("acid", 1, 2),
        ),
        steps=(
            ("green", ("Put {items} into a large bowl.", "Arrange {items} on a wide plate.")),
            ("vegetable, aromatic", ("Add {items}.", "Scatter {items} over it.")),
            ("protein, cheese", ("Top with {items}.", "Add {items} and toss gently.")),
            ("acid, olive oil, salt", ("Whisk {items} together.", "Shake {items} in a jar.")),
            ("nut, herb", ("Sprinkle with {items}.", "Finish with {items}.")),
            ("", ("Pour over the dressing and serve at once.", "Dress, toss and serve.")),
        ),
    ),
    Dish(
        kind="soup",
        titles=(
            "{a} soup",
            "Hearty {a} and {b} soup",
            "Grandmother's soup with {first}",
            "Clear soup with {second} and {third}",
        ),
        always=("onions", "salt"),
        picks=(
            ("fat", 1, 1), ("base", 0, 1), ("vegetable", 4, 5), ("aromatic", 0, 1),
            ("green", 0, 1), ("protein", 1, 2), ("stock", 1, 1), ("spice", 0, 2), ("herb", 0, 1),
        ),
        steps=(
            ("fat, base", ("Sweat {items} in a large pot.", "Soften {items} over low heat.")),
            ("spice", ("Stir in {items} for a minute.", "Add {items} and let it bloom.")),
            ("vegetable, aromatic", ("Add {items}.", "Tip in {items} and stir.")),
            ("stock", ("Pour in {items} and bring to a boil.", "Cover with {items}.")),
            ("", ("Simmer for 20 minutes.", "Let it bubble gently for half an hour.")),
            ("protein, green", ("Add {items} and cook until done.", "Stir in {items}.")),
            ("herb, salt", ("Season with {bare} and ladle into bowls.", "Finish with {bare}.")),
        ),
        simmers=True,
    ),
    Dish(
        kind="curry",
        titles=(
            "{a} curry",
            "Curry of {first} and {second}",
            "Fiery {a} and {c} curry",
            "Creamy {b} curry",
        ),
        always=("fresh ginger", "garlic", "salt"),
        picks=(
            ("fat", 1, 1), ("paste", 1, 1), ("vegetable", 3, 4), ("aromatic", 0, 1),
            ("protein", 1, 2), ("sauce pot", 1, 1), ("spice", 0, 1), ("nut", 0, 1), ("herb", 0, 1),
        ),
        steps=(
            ("fat, base", ("Heat {items} in a wide pot.", "Fry {items} until fragrant.")),
            ("paste, spice", ("Stir in {items}.", "Toast {items} for two minutes.")),
            ("vegetable, aromatic", ("Add {items} and coat well.", "Fry {items} for 5 minutes.")),
            ("sauce pot", ("Pour in {items}.", "Add {items} and bring to a simmer.")),
            ("protein", ("Add {items} and simmer for 15 minutes.", "Cook {items} in the sauce.")),
            ("salt", ("Season with {bare}.", "Taste and add {bare}.")),
            ("nut, herb", ("Serve with {items} on top.", "Scatter over {items}.")),
        ),
        simmers=True,
    ),
    Dish(
        kind="pizza",
        titles=(
            "Pizza with {first} and {second}",
            "{a} pizza",
            "Weeknight {a} and {c} pizza",
            "Thin-crust pizza with {second}",
        ),
        always=("pizza dough", "tomato paste", "olive oil", "salt"),
        picks=(
            ("vegetable", 2, 4), ("aromatic", 0, 1), ("protein", 0, 1), ("cheese", 1, 2),
            ("green", 0, 1), ("spice", 0, 1), ("herb", 0, 1),
        ),
        steps=(
            ("", ("Heat the oven to 250 degrees.", "Put a baking stone into a very hot oven.")),
            ("dough", ("Roll out {items}.", "Stretch {items} into a thin round.")),
            ("paste, olive oil, salt, spice", ("Mix {items} and spread it on top.",)),
            ("cheese", ("Cover with {items}.", "Distribute {items}.")),
            ("vegetable, aromatic, protein", ("Top with {items}.", "Lay {items} over it.")),
            ("", ("Bake for 10 minutes until the crust is crisp.", "Bake until blistered.")),
            ("green, herb", ("Finish with {items}.", "Scatter {items} over the hot pizza.")),
        ),
    ),
    Dish(
        kind="pasta",
        titles=(
            "Pasta with {first} and {second}",
            "Quick {a} pasta",
            "{b} and {c} pasta",
            "One-pot pasta with {first}",
        ),
        always=("garlic", "salt", "olive oil"),
        picks=(
            ("pasta", 1, 1), ("vegetable", 2, 3), ("aromatic", 0, 1), ("protein", 1, 1),
            ("sauce pot", 0, 1), ("cheese", 0, 1), ("spice", 0, 1), ("herb", 0, 1),
        ),
        steps=(
            ("pasta, salt", ("Boil {items} in plenty of water.", "Cook {items} until al dente.")),
            ("base, olive oil, spice", ("Gently fry {items}.", "Warm {items} in a pan.")),
            ("vegetable, aromatic", ("Add {items} and cook until tender.", "Sauté {items}.")),
            ("protein", ("Add {items} and brown on all sides.", "Stir in {items}.")),
            ("sauce pot", ("Pour in {items} and reduce.", "Add {items}; simmer briefly.")),
            ("", ("Toss with the drained pasta.", "Fold in the pasta and a little water.")),
            ("cheese, herb", ("Serve with {items}.", "Top with {items}.")),
        ),
    ),
    Dish(
        kind="rice bowl",
        titles=(
            "{a} and {b} bowl",
            "Buddha bowl with {first}",
            "Warm bowl of {first}, {second} and {third}",
            "{c} power bowl",
        ),
        always=("salt",),
        picks=(
            ("grain", 1, 1), ("vegetable", 3, 4), ("aromatic", 0, 1), ("protein", 1, 1),
            ("green", 0, 1), ("sauce", 1, 1), ("fat", 1, 1), ("acid", 0, 1), ("nut", 0, 1),
        ),
        steps=(
            ("grain, salt", ("Cook {items} in twice the water.", "Steam {items} until tender.")),
            ("protein, fat", ("Sear {items} in a hot pan.", "Warm {items} in a skillet.")),
            ("vegetable, aromatic, green", ("Get {items} ready.", "Blanch or leave raw {items}.")),
            ("sauce, acid", ("Stir {items} together for the dressing.", "Mix {items}.")),
            ("", ("Fill the bowls, everything side by side.", "Arrange it all in sections.")),
            ("nut", ("Sprinkle with {items}.", "Add {items} for crunch.")),
        ),
    ),
    Dish(
        kind="stir-fry",
        titles=(
            "{a} stir-fry",
            "Stir-fried {first} with {second}",
            "Ten-minute {b} and {c} stir-fry",
            "Wok of {first} and {third}",
        ),
        always=("garlic",),
        picks=(
            ("fat", 1, 1), ("base", 0, 1), ("vegetable", 3, 5), ("aromatic", 0, 1),
            ("protein", 1, 1), ("sauce", 1, 2), ("spice", 0, 1), ("nut", 0, 1), ("herb", 0, 1),
        ),
        steps=(
            ("fat", ("Heat {items} in a wok until it smokes.", "Swirl {items} through a hot wok.")),
            ("protein", ("Fry {items} in batches.", "Sear {items} and set aside.")),
            ("base, spice", ("Stir in {items} for 30 seconds.", "Add {items} and stir.")),
            ("vegetable, aromatic", ("Stir-fry {items} for 4 minutes.", "Toss in {items}.")),
            ("sauce", ("Add {items} and toss.", "Pour {items} around the edge.")),
            ("nut, herb", ("Scatter over {items}.", "Top with {items}.")),
            ("", ("Serve straight from the wok.", "Serve immediately.")),
        ),
    ),
    Dish(
        kind="tray bake",
        titles=(
            "Roast {first} and {second}",
            "Tray bake of {first}",
            "Sheet-pan {first} with {third}",
            "Oven-roasted {second} and {third}",
        ),
        always=("olive oil", "salt", "black pepper"),
        picks=(
            ("vegetable", 4, 5), ("aromatic", 0, 1), ("protein", 0, 1), ("spice", 1, 2),
            ("sweet", 0, 1), ("cheese", 0, 1), ("herb", 0, 1),
        ),
        steps=(
            ("", ("Heat the oven to 200 degrees.", "Line a baking tray with paper.")),
            ("vegetable, aromatic, protein", ("Spread {items} on a tray.", "Mix {items} well.")),
            ("olive oil, sweet, spice", ("Coat with {items}.", "Drizzle and dust with {bare}.")),
            ("salt", ("Season with {bare}.", "Add {bare} generously.")),
            ("", ("Roast for 35 minutes, turning once.", "Bake until the edges are brown.")),
            ("cheese, herb", ("Finish with {items}.", "Scatter {items} over the tray.")),
        ),
    ),
    Dish(
        kind="frittata",
        titles=(
            "{a} frittata",
            "Frittata with {first} and {second}",
            "Sunday omelette with {second}",
            "Baked eggs with {first} and {third}",
        ),
        always=("eggs", "milk", "salt"),
        picks=(
            ("fat", 1, 1), ("vegetable", 2, 4), ("aromatic", 0, 1), ("green", 0, 1),
            ("protein", 0, 1), ("cheese", 1, 1), ("spice", 0, 1), ("herb", 0, 1),
        ),
        steps=(
            ("egg, milk, salt, spice", ("Whisk {items} in a bowl.", "Beat {items} until frothy.")),
            ("fat", ("Heat {items} in an ovenproof pan.", "Warm {items} in a skillet.")),
            ("vegetable, aromatic, protein", ("Fry {items} until soft.", "Cook {items} briefly.")),
            ("", ("Pour in the eggs.", "Pour the eggs over and let them set.")),
            ("green, cheese", ("Distribute {items} over the top.", "Add {items}.")),
            ("", ("Finish under the grill.", "Bake for 12 minutes until golden.")),
            ("herb", ("Serve with {items}.", "Sprinkle with {items}.")),
        ),
    ),
    Dish(
        kind="tart",
        titles=(
            "{a} tart",
            "{a} and {b} tart",
            "Rustic {b} tart",
            "Tart with {first} and {third}",
        ),
        always=("shortcrust pastry", "butter", "sugar"),
        picks=(
            ("fruit", 3, 4), ("nut", 0, 1), ("topping", 0, 1), ("flour", 0, 1),
            ("flavour", 1, 1), ("heavy cream", 0, 1), ("mint", 0, 1),
        ),
        steps=(
            ("butter", ("Grease a tin with {items}.", "Brush a tart tin with {items}.")),
            ("pastry", ("Line the tin with {items}.", "Press {items} into the tin.")),
            ("", ("Bake blind for 15 minutes.", "Prick with a fork and bake until pale gold.")),
            ("sweet, flour, flavour, heavy cream", ("Mix {items} and fill the case.",)),
            ("fruit", ("Arrange {items} in rings.", "Lay {items} on top in circles.")),
            ("nut, topping, mint", ("Decorate with {items}.", "Scatter with {items}.")),
            ("", ("Cool before slicing.", "Serve at room temperature.")),
        ),
    ),
    Dish(
        kind="breakfast bowl",
        titles=(
            "{a} breakfast bowl",
            "Morning bowl with {first} and {second}",
            "{b} and {c} breakfast",
            "Overnight bowl with {first}",
        ),
        always=("milk",),
        picks=(
            ("bowl", 1, 2), ("fruit", 3, 4), ("nut", 0, 1), ("topping", 0, 1),
            ("sweet", 1, 1), ("flavour", 0, 1), ("mint", 0, 1),
        ),
        steps=(
            ("bowl, milk", ("Stir {items} together.", "Soak {items} overnight.")),
            ("sweet, flavour", ("Sweeten with {bare}.", "Stir in {items}.")),
            ("fruit", ("Top with {items}.", "Arrange {items} in neat heaps.")),
            ("nut, topping, mint", ("Sprinkle {items} over the bowl.", "Finish with {items}.")),
            ("", ("Serve cold.", "Eat right away.")),
        ),
    ),
    Dish(
        kind="skewers",
        titles=(
            "{a} skewers",
            "Grilled {a} and {b} skewers",
            "Barbecue skewers with {second}",
            "Kebabs of {first} and {third}",
        ),
        always=("salt", "black pepper"),
        picks=(
            ("protein", 1, 2), ("vegetable", 3, 4), ("aromatic", 0, 1), ("fat", 1, 1),
            ("acid", 0, 1), ("spice", 1, 2), ("honey", 0, 1), ("herb", 0, 1),
        ),
        steps=(
            ("fat, acid, spice, honey", ("Mix {items} for the marinade.", "Combine {items}.")),
            ("protein", ("Marinate {items} for an hour.", "Turn {items} in the marinade.")),
            ("vegetable, aromatic", ("Thread {items} onto skewers in turns.",)),
            ("salt", ("Season with {bare}.", "Sprinkle with {bare}.")),
            ("", ("Grill for 10 minutes, turning often.", "Cook over hot coals.")),
            ("herb", ("Serve with {items}.", "Scatter {items} over them.")),
        ),
    ),
)  # fmt: skip
"""Every kind of dish."""
