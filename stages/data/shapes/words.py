"""Attributes of the generated shapes, and all words of their expressions.

The vocabulary of the small CLIP is made here, so that it knows every word of every expression.
"""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (212, 38, 40),
    "green": (44, 158, 66),
    "blue": (38, 78, 214),
    "yellow": (242, 214, 48),
    "orange": (244, 136, 28),
    "purple": (136, 58, 188),
    "pink": (246, 134, 186),
    "cyan": (58, 212, 222),
    "brown": (122, 72, 36),
    "white": (246, 246, 246),
}
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "heart")
TEXTURES = ("plain", "striped", "dotted")
SIZES = ("small", "large")

# In the order of English adjectives.
ATTRIBUTES = ("size", "texture", "color", "shape")

ANY_SHAPE = ("thing", "object")  # used if the shape is not named
PLURALS = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}

# Phrases for the direction in which the object is the outermost; {} is its description.
PLACES: dict[str, tuple[str, ...]] = {
    "left": ("{} on the left", "leftmost {}", "left {}"),
    "right": ("{} on the right", "rightmost {}", "right {}"),
    "top": ("{} at the top", "top {}", "highest {}"),
    "bottom": ("{} at the bottom", "bottom {}", "lowest {}"),
}
RELATIONS: dict[str, tuple[str, ...]] = {
    "left": ("{} to the left of the {}", "{} left of the {}"),
    "right": ("{} to the right of the {}", "{} right of the {}"),
    "top": ("{} above the {}", "{} over the {}"),
    "bottom": ("{} below the {}", "{} under the {}"),
}
OPPOSITES = {
    "left": "right",
    "leftmost": "rightmost",
    "top": "bottom",
    "highest": "lowest",
    "above": "below",
    "over": "under",
}
OPPOSITES |= {second: first for first, second in OPPOSITES.items()}
GROUPS = ("all {}", "all the {}", "the {}")  # {} in the plural
# Of the hard variant. The small CLIP has never learned "between", "is", "not" and "that".
BETWEEN = "{} between the {} and the {}"
NEGATIONS = ("{} that is not {}", "{} not {}")


def vocabulary() -> list[str]:
    """Every word of captions and of expressions, those of the hard variant aside, sorted."""
    words = {"the", "a", "and", "both", *COLORS, *SHAPES, *TEXTURES, *SIZES, *ANY_SHAPE}
    words.update(PLURALS.values())
    words.update(f"{word}s" for word in ANY_SHAPE)
    for table in (*PLACES.values(), *RELATIONS.values(), GROUPS):
        words.update(word for phrase in table for word in phrase.split() if word != "{}")
    return sorted(words)
