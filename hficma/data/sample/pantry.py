"""The ingredients of the synthetic sample: how each is measured, prepared and seen.

Looks are built from few parts (25 shapes, 12 textures, 14 colours), so that a model must combine
them, and no two visible ingredients look the same.
"""

from __future__ import annotations

from dataclasses import dataclass

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (206, 52, 40),
    "crimson": (138, 32, 58),
    "pink": (232, 148, 140),
    "orange": (232, 128, 42),
    "amber": (238, 188, 62),
    "cream": (242, 228, 188),
    "white": (246, 244, 236),
    "tan": (206, 162, 106),
    "brown": (120, 74, 42),
    "lime": (172, 198, 88),
    "green": (82, 142, 54),
    "forest": (40, 86, 46),
    "purple": (92, 52, 104),
    "black": (44, 38, 44),
}
"""Red, green and blue, 0 to 255. Fourteen for about a hundred looks: a colour alone names no
ingredient."""


@dataclass(frozen=True, slots=True)
class Look:
    """The look of an ingredient's piece from above."""

    shape: str
    """A shape of `pieces.SHAPES`."""
    texture: str
    """A texture of `pieces.TEXTURES`, drawn in the accent colour."""
    colour: str
    """The main colour, a key of `COLOURS`."""
    accent: str
    """The texture's colour, a key of `COLOURS`."""


@dataclass(frozen=True, slots=True)
class Ingredient:
    """An ingredient that a recipe may have."""

    name: str
    """Its name in ingredient lines and instructions."""
    role: str
    """Its role in a dish; dishes pick by role."""
    measure: str
    """The way people measure it: a key of `grammar.MEASURES`."""
    preparations: tuple[str, ...]
    """Participles that fit it ("sliced"); may be empty."""
    look: Look | None
    """The look of its pieces; None where a photo never shows any (salt, stock)."""
    tint: str | None
    """The colour it gives a liquid it dissolves in, or None."""
    soft: bool
    """Whether it falls apart when simmered: a soup hides it, a salad shows it."""


# name | role | measure | preparations | shape texture colour accent, "~" (falls apart), or "tint X"
_TABLE = """
carrots             | vegetable | count | sliced, peeled, chopped | disc rings orange amber
cherry tomatoes     | vegetable | cup   | halved, quartered       | disc seeds red amber ~
cucumbers           | vegetable | count | sliced, diced           | disc seeds lime forest
red bell peppers    | vegetable | count | sliced, deseeded        | strip gloss red pink
yellow bell peppers | vegetable | count | sliced, deseeded        | strip gloss amber cream
zucchini            | vegetable | count | sliced, chopped         | disc rim lime forest
eggplants           | vegetable | count | cubed, diced            | cube rim cream purple ~
broccoli            | vegetable | gram  | chopped, trimmed        | floret speckle green forest
cauliflower         | vegetable | gram  | chopped, trimmed        | floret speckle cream tan
mushrooms           | vegetable | gram  | sliced, halved          | mushroom rim cream brown
radishes            | vegetable | count | sliced, trimmed         | disc rim white crimson
beets               | vegetable | count | peeled, sliced          | wedge rings crimson pink
sweet corn          | vegetable | can   | drained                 | cluster gloss amber cream
peas                | vegetable | cup   | thawed, rinsed          | cluster plain green green
green beans         | vegetable | gram  | trimmed, halved         | strip seeds green lime
asparagus           | vegetable | gram  | trimmed, sliced         | sprig plain green lime
potatoes            | vegetable | count | peeled, cubed, diced    | chunk speckle tan brown ~
sweet potatoes      | vegetable | count | peeled, cubed           | cube stripes orange amber ~
pumpkin             | vegetable | gram  | peeled, cubed           | crescent rim orange forest ~
fennel              | vegetable | count | sliced, shredded        | crescent stripes white lime
celery              | vegetable | cup   | sliced, chopped         | arch plain lime lime
Brussels sprouts    | vegetable | gram  | halved, trimmed         | ball vein lime forest
artichoke hearts    | vegetable | can   | drained, quartered      | wedge stripes lime forest
black olives        | vegetable | cup   | pitted, sliced          | ring plain black black
green olives        | vegetable | cup   | pitted, halved          | ball core green red
sun-dried tomatoes  | vegetable | cup   | drained, chopped        | chunk vein crimson black
avocados            | vegetable | count | sliced, cubed           | crescent rim lime brown
snow peas           | vegetable | gram  | trimmed, halved         | leaf seeds green lime
red cabbage         | vegetable | cup   | shredded, sliced        | shreds plain purple pink
bok choy            | vegetable | gram  | trimmed, halved         | leaf half white green
okra                | vegetable | gram  | trimmed, sliced         | disc spokes green cream
jalapeños           | vegetable | count | sliced, deseeded        | ring seeds forest cream
red chilies         | vegetable | count | sliced, deseeded        | ring gloss red pink
bamboo shoots       | vegetable | can   | drained, sliced         | strip stripes cream tan
water chestnuts     | vegetable | can   | drained, sliced         | disc core white tan
red onions          | aromatic  | count | sliced, peeled          | ring rings purple white ~
leeks               | aromatic  | count | sliced, trimmed         | ring rings lime white ~
spring onions       | aromatic  | count | sliced, trimmed         | tube rim green lime
pearl onions        | aromatic  | cup   | peeled, halved          | ball stripes white purple
spinach             | green     | cup   | washed, torn            | leaf vein forest lime ~
romaine lettuce     | green     | cup   | torn, shredded          | chunk vein lime white
kale                | green     | cup   | shredded, torn          | floret vein forest lime
radicchio           | green     | cup   | torn, shredded          | chunk half crimson white
rocket              | green     | cup   | washed, torn            | star vein green lime
chicken             | protein   | gram  | sliced, cubed           | chunk grid cream brown
shrimp              | protein   | gram  | peeled, deveined        | curl stripes pink red
salmon              | protein   | gram  | cubed, skinned          | cube stripes pink white
tuna                | protein   | can   | drained, flaked         | chunk stripes pink brown
beef                | protein   | gram  | cubed, trimmed          | cube speckle brown black
bacon               | protein   | gram  | chopped, diced          | strip stripes crimson pink
chorizo             | protein   | gram  | sliced, diced           | disc speckle crimson white
ham                 | protein   | gram  | diced, chopped          | wedge plain pink red
tofu                | protein   | gram  | cubed, drained          | cube grid cream brown
boiled eggs         | protein   | count | halved, quartered       | egg core white amber
chickpeas           | protein   | can   | drained, rinsed         | cluster speckle tan brown
kidney beans        | protein   | can   | drained, rinsed         | bean gloss crimson pink
black beans         | protein   | can   | drained, rinsed         | bean gloss black white
white beans         | protein   | can   | drained, rinsed         | bean plain white white
meatballs           | protein   | gram  | thawed, halved          | ball speckle brown black
mussels             | protein   | gram  | cleaned, rinsed         | heart core black orange
squid               | protein   | gram  | cleaned, sliced         | ring speckle white pink
feta                | cheese    | gram  | crumbled, cubed         | cube speckle white lime
mozzarella          | cheese    | gram  | torn, sliced            | disc gloss white cream
parmesan            | cheese    | cup   | grated, shaved          | shreds plain cream cream
cheddar             | cheese    | cup   | grated, shredded        | shreds plain orange orange
halloumi            | cheese    | gram  | sliced, cubed           | strip grid cream brown
blue cheese         | cheese    | gram  | crumbled, chopped       | chunk speckle white green
basil               | herb      | herb  | chopped, torn           | leaf gloss green lime
parsley             | herb      | herb  | chopped, minced         | star plain forest green
dill                | herb      | herb  | chopped, torn           | sprig plain forest forest
chives              | herb      | herb  | chopped, snipped        | shreds plain green green
cilantro            | herb      | herb  | chopped, torn           | heart vein green lime
mint                | mint      | herb  | chopped, torn           | leaf stripes green forest
spaghetti           | pasta     | gram  |                         | strands plain cream cream
tagliatelle         | pasta     | gram  |                         | strands stripes amber tan
penne               | pasta     | gram  |                         | tube stripes cream tan
farfalle            | pasta     | gram  |                         | bow plain amber tan
fusilli             | pasta     | gram  |                         | strip rings cream tan
shell pasta         | pasta     | gram  |                         | arch stripes amber tan
jasmine rice        | grain     | cup   | rinsed                  | grains plain white white
brown rice          | grain     | cup   | rinsed                  | grains plain tan tan
black rice          | grain     | cup   | rinsed                  | grains plain purple purple
quinoa              | grain     | cup   | rinsed                  | dots plain cream cream
soba noodles        | grain     | gram  |                         | strands plain brown brown
strawberries        | fruit     | cup   | hulled, sliced, halved  | heart seeds red amber
blueberries         | fruit     | cup   | rinsed, picked over     | ball core purple black
raspberries         | fruit     | cup   | rinsed, picked over     | cluster seeds pink red
blackberries        | fruit     | cup   | rinsed, halved          | cluster gloss black purple
red currants        | fruit     | cup   | rinsed, picked over     | cluster core red pink
bananas             | fruit     | count | sliced, peeled          | disc seeds cream brown
apples              | fruit     | count | sliced, cored, peeled   | crescent rim cream red
pears               | fruit     | count | sliced, cored, peeled   | heart rim cream lime
peaches             | fruit     | count | sliced, pitted          | wedge rim amber red
oranges             | fruit     | count | peeled, sliced          | disc spokes orange cream
kiwis               | fruit     | count | peeled, sliced          | disc spokes lime black
mangoes             | fruit     | count | peeled, cubed           | cube gloss amber orange
pineapple           | fruit     | cup   | cubed, chopped          | wedge stripes amber tan
red grapes          | fruit     | cup   | halved, rinsed          | ball gloss crimson pink
cherries            | fruit     | cup   | pitted, halved          | ball half crimson red
figs                | fruit     | count | quartered, halved       | heart core purple pink
pomegranate seeds   | fruit     | cup   | rinsed                  | grains gloss crimson crimson
plums               | fruit     | count | sliced, pitted          | crescent half amber purple
rhubarb             | fruit     | gram  | trimmed, chopped        | strip half pink lime
apricots            | fruit     | count | halved, pitted          | ball core orange brown
dragon fruit        | fruit     | cup   | cubed, sliced           | cube seeds white black
star fruit          | fruit     | count | sliced                  | star rim amber lime
walnuts             | nut       | cup   | chopped, toasted        | chunk vein tan brown
almonds             | nut       | cup   | toasted, chopped        | leaf plain tan brown
hazelnuts           | nut       | cup   | toasted, halved         | ball rim tan brown
cashews             | nut       | cup   | toasted, chopped        | curl plain cream tan
pistachios          | nut       | cup   | shelled, chopped        | bean vein lime brown
pecans              | nut       | cup   | toasted, chopped        | leaf stripes brown tan
coconut flakes      | topping   | cup   | toasted                 | shreds plain white white
dark chocolate      | topping   | gram  | chopped, shaved         | cube plain brown black
dates               | topping   | cup   | pitted, chopped         | bean stripes brown black
pumpkin seeds       | topping   | cup   | toasted                 | dots gloss forest green
onions              | base      | count | diced, minced, chopped  | tint cream
garlic              | base      | clove | minced, crushed         | tint -
fresh ginger        | base      | spoon | grated, minced          | tint -
salt                | salt      | pinch |                         | tint -
black pepper        | salt      | pinch |                         | tint -
cumin               | spice     | pinch |                         | tint amber
paprika             | spice     | pinch |                         | tint orange
dried oregano       | spice     | pinch |                         | tint -
chili flakes        | spice     | pinch |                         | tint -
turmeric            | spice     | pinch |                         | tint amber
olive oil           | fat       | spoon |                         | tint -
butter              | fat       | spoon | melted                  | tint -
sesame oil          | fat       | spoon |                         | tint -
sunflower oil       | fat       | spoon |                         | tint -
lemon juice         | acid      | spoon |                         | tint -
balsamic vinegar    | acid      | spoon |                         | tint -
red wine vinegar    | acid      | spoon |                         | tint -
Dijon mustard       | acid      | spoon |                         | tint -
soy sauce           | sauce     | spoon |                         | tint brown
oyster sauce        | sauce     | spoon |                         | tint brown
fish sauce          | sauce     | spoon |                         | tint tan
vegetable stock     | stock     | pour  |                         | tint amber
chicken stock       | stock     | pour  |                         | tint cream
beef stock          | stock     | pour  |                         | tint brown
coconut milk        | sauce pot | pour  |                         | tint white
crushed tomatoes    | sauce pot | pour  |                         | tint red
heavy cream         | sauce pot | pour  |                         | tint cream
red curry paste     | paste     | spoon |                         | tint red
green curry paste   | paste     | spoon |                         | tint green
tomato paste        | paste     | spoon |                         | tint red
pizza dough         | dough     | gram  |                         | tint -
shortcrust pastry   | pastry    | gram  | chilled                 | tint -
eggs                | egg       | count | beaten                  | tint amber
milk                | milk      | pour  |                         | tint white
Greek yogurt        | bowl      | cup   |                         | tint white
rolled oats         | bowl      | cup   |                         | tint tan
chia seeds          | bowl      | cup   |                         | tint -
sugar               | sweet     | spoon |                         | tint -
honey               | sweet     | spoon |                         | tint -
maple syrup         | sweet     | spoon |                         | tint -
vanilla extract     | flavour   | pinch |                         | tint -
ground cinnamon     | flavour   | pinch |                         | tint -
flour               | flour     | spoon | sifted                  | tint -
"""


def _parse(row: str) -> Ingredient:
    """Return the ingredient of a row of the table."""
    name, role, measure, preparations, look_text = (cell.strip() for cell in row.split("|"))
    words = look_text.split()
    look = tint = None
    if words[0] == "tint":
        tint = words[1] if words[1] != "-" else None
    else:
        look = Look(*words[:4])
        tint = look.colour
    return Ingredient(
        name=name,
        role=role,
        measure=measure,
        preparations=tuple(word.strip() for word in preparations.split(",") if word.strip()),
        look=look,
        tint=tint,
        soft=words[-1] == "~",
    )


PANTRY: dict[str, Ingredient] = {
    ingredient.name: ingredient for ingredient in map(_parse, _TABLE.strip().splitlines())
}
"""Every ingredient by its name."""
