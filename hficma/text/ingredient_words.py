"""The words of ingredient lines that name no ingredient: measures, preparation, function words.

Read off the ingredient lines of 75,082 recipes by how often each word stands there; a word that
also names a thing to buy counts where its neighbours say so (`NAMED_BEFORE`, `NAMED_AFTER`).
"""

from __future__ import annotations

UNITS = frozenset(
    "bag bags ball balls bar bars basket baskets batch batches bit block blocks bottle bottles "
    "bowl bowls box boxes branch branches bulb bulbs bunch bunches bundle bundles c can "
    "canister cans carton cartons cc centiliter centilitre centimeter centimeters centimetre "
    "centimetres chunk cl clove cloves cm container containers couple ctn cube cubes cup cupful "
    "cupfuls cups dash dashes decilitre degree degrees dessertspoon dessertspoons diameter dl "
    "dollop dollops doz dozen drizzle drop drops dsp ear ears env envelope envelopes finger "
    "fistful fistfuls fl floret florets floweret flowerets floz fluid g gal gallon gallons "
    "generous glass glasses glug glugs gm gms gr gram gramm gramme grammes grams grating "
    "gratings grind grinding grindings grinds half handful handfull handfuls head heads inch "
    "inches jar jars jigger jiggers jug kernel kernels kg kgs kilo kilogram kilograms kilos "
    "knob knobs l lb lbs leaf leaves length lengths link links liter liters litre litres loaf "
    "log lot lots lump lumps measure measures mg milliliter milliliters millilitre millilitres "
    "millimeter millimeters millimetres ml mls mm mug mugs ounce ounces ouncess oz ozs pack "
    "package packages packet packets packs part parts pc pcs piece pieces pinch pinches pint "
    "pints pkg pkgs pkt pkts plenty portion portions pot pots pouch pouches pound pounds proof "
    "pt pts punnet punnets qt qts quart quarter quarters quarts rack racks rasher rashers rib "
    "ribs sachet sachets scoop scoops segment segments selection serving servings shake shakes "
    "shaving shavings sheet sheets shot shots slab slabs sleeve sleeves slice slices sliver "
    "slivers spear spears splash splashes spoon spoonful spoonfuls spoons sprig sprigs sprinkle "
    "sprinkling square squares squeeze squirt stalk stalks stem stems stick sticks strip strips "
    "t tablespoon tablespoonful tablespoonfuls tablespoons tb tbl tbls tblsp tblsps tbs tbsp "
    "tbspn tbsps tea teaspoon teaspoonful teaspoonfuls teaspoons third thirds thread threads "
    "thumb tin tins touch tray trays tsp tsps tub tube tubes tubs twist unit units wedge wedges "
    "wheel".split()
)
"""Measures, and the parts that a thing is counted in."""

THINGS = frozenset("clove cloves fat leaf leaves loaf rib ribs stick sticks tea".split())
"""Units that are the ingredient itself where a line names nothing else: "1 tsp ground cloves"."""

PREPARATIONS = frozenset(
    "about additional approx approximately around assorted available baked beaten best big bite "
    "blanched boiled boiling boned boneless bottled broken bruised brushed bulk butterflied "
    "canned cheap chilled chopped chunks chunky clean cleaned coarse coarsely cold cooked "
    "cooled cored cracked crumbled crushed crusty cubed cut debearded defatted defrosted "
    "deseeded deveined diagonally diced divided drained dried dry emptied even extra fat "
    "favorite favourite filleted fine finely firmly flaky flat fluffy fresh freshly frozen "
    "fully garnish generous good grained grated ground gutted halved hand healthy heaped "
    "heaping heavy high homemade hot huge hulled husked iced jarred julienne julienned jumbo "
    "ladle large largish lean leftover level lg lge lrg lightly little live loosely low lukewarm "
    "marinated mashed md med medium melted microwaved mince minced mini nice optional organic "
    "overripe packed peeled petite picked pitted plump poached popped pre precooked preferably "
    "premium prepared pressed purchased pure quality quartered quick raw real reduced "
    "refrigerated reserved rinsed ripe roasted room roughly rounded rubbed scant scraped "
    "scrubbed seeded seedless separate separated shaken shaved shelled shredded shucked sifted "
    "size sized skinless skinned sliced slightly slivered sm small smallest smallish smashed "
    "snipped sodium soft softened squeezed squished stale steamed stemmed stirred stoned "
    "strained temperature thawed thick thickly thickness thin thinly tightly tiny toasted torn "
    "trimmed unbaked uncooked undrained unpeeled unpitted unsifted untrimmed unwaxed very "
    "virgin warm warmed washed weight whisked whole xl yummy zested".split()
)
"""How it is prepared, its size and state: not what is bought."""

NUMBERS = frozenset(
    "one two three four five six seven eight nine ten eleven twelve fifteen sixteen twenty hundred "
    "several few many some".split()
)
FUNCTION_WORDS = frozenset(
    "a about above add after all along also amount an and another any approx are as at be been "
    "before below between both but by can choice containing desired di do each either else "
    "enough equal etc every few for from full garnish give has have how i if in including "
    "inside instead into is it its just last least left less like lots made may minus more most "
    "my needed needs no not note notes now of off on only onto or other our out over own per "
    "plus possible quite rather recipe recipes removed required s same serve serving so such "
    "taste than that the their them then these they this those through to together too toward "
    "turn under until up use used using version via was we well were what when where which "
    "while whose will wish with within without would x you your".split()
)
"""Words of grammar, and of the remarks of a line, that name nothing."""

LEFT_OUT = UNITS | PREPARATIONS | NUMBERS | FUNCTION_WORDS | frozenset({"th"})

ADJECTIVES = frozenset(
    "bibb bitter bittersweet black blue boston bright brown california chinese colored coloured "
    "creamy crunchy dark english european firm free french golden greek green hard hearty "
    "instant italian juicy kalamata kosher light lowfat mature mexican mild natural nonfat pale "
    "pink plain purple red regular salted sea semi semisweet sharp skim smooth sour spanish "
    "special spicy strong style sweet sweetened tart thai turkish unbleached unflavored "
    "unsalted unsweetened white yellow young".split()
)
"""What can stand before a comma or an "or" without being the thing: "unbleached, white flour"."""

SHARED_HEADS = {
    "bouillon broth stock": "beef chicken fish mushroom pork turkey veal vegetable",
    "cheese": "american cheddar cottage cream emmenthaler feta fontina goat gouda gruyere gruyère "
    "havarti jack mozzarella parmesan provolone ricotta romano swiss",
    "chile chiles chilies chili chillies peppers": "cayenne fresno habanero jalapeno jalapeño "
    "poblano serrano",
    "clams": "littleneck manila",
    "mushrooms": "button chestnut cremini crimini morel oyster porcini portobello shiitake",
    "oil": "avocado canola corn grapeseed groundnut olive peanut rapeseed safflower sunflower "
    "vegetable",
    "juice peel zest": "grapefruit lemon lime orange",
    "steak steaks": "flank hanger sirloin skirt strip",
    "tomatoes": "cherry grape plum",
}
"""Heads, and what shares one before an "or": "chicken or vegetable stock" is chicken stock."""

GENERIC = frozenset(
    "biscuits bits brand candies candy cereal chips cookie cookies crackers dressing liqueur mix "
    "original powder sauce seasoning spread sweetener topping".split()
)
"""Heads that are told apart by the brand before them: "Old Bay® seasoning"."""

PARTS = frozenset(
    "flesh grating gratings juice juices kernels leaves meat peel pulp rind seeds white whites "
    "yolk yolks zest".split()
)
"""Parts of a thing that is bought whole: "zest and juice of 1 lemon"."""

NAMED_BEFORE = {
    "all": {"purpose", "spice", "bran"},
    "baked": {"beans", "ham"},
    "black": {"eyed"},
    "canned": {"tuna", "pumpkin"},
    "cold": {"cuts"},
    "cube": {"steak", "steaks"},
    "dried": {"fruit", "cranberries", "cherries", "apricots"},
    "dry": {"milk", "mustard", "sherry", "white", "red", "wine", "vermouth", "ranch"},
    "fat": {"free"},
    "five": {"spice"},
    "flat": {"leaf", "leafed", "iron", "bread", "breads"},
    "glass": {"noodles"},
    "ground": {
        "beef", "bison", "chicken", "chuck", "lamb", "meat", "pork", "round", "sausage", "sirloin",
        "turkey", "veal", "venison",
    },
    "half": {"and", "half"},
    "heavy": {"cream", "whipping", "duty"},
    "hot": {"chili", "chile", "dog", "dogs", "fudge", "pepper", "sauce", "cocoa"},
    "leaf": {"lettuce", "lard"},
    "low": {"fat"},
    "medium": {"grain"},
    "pot": {"roast", "stickers"},
    "quick": {"cooking", "oats"},
    "rib": {"eye", "eyes", "roast"},
    "shredded": {"wheat"},
    "slivered": {"almonds"},
    "small": {"curd"},
    "soft": {"cheese"},
    "tea": {"bag", "bags", "leaves"},
    "thick": {"cream"},
    "thousand": {"island"},
    "whole": {"grain", "milk", "wheat"},
}  # fmt: skip
"""Words that belong to a name before some others: ground beef is bought, ground cumin is cumin."""
NAMED_AFTER = {
    "dried": {"sun"},
    "dry": {"active"},
    "fat": {"goose", "duck", "low", "bacon", "chicken"},
    "half": {"half", "and"},
    "leaf": {"bay", "lime", "flat"},
    "leaves": {"bay", "lime", "curry", "tea"},
    "mince": {"beef", "lamb", "pork", "turkey"},
    "ribs": {"back", "short", "spare", "pork", "beef"},
    "rib": {"prime", "short"},
    "quarters": {"leg"},
    "tea": {"black", "green"},
    "thread": {"bean"},
}
"""Words that belong to the name after some others: "bay leaf", "black tea"."""
