"""Negative expressions of an object: those of other objects, of its own image if possible.

The draws are those of the official code (TRIS dataset/ReferDataset.py, `__getitem__`) in its order:
first an object, then one of its expressions, with replacement. As there, an object that is alone in
its image gets any expressions of the split that have another text.
"""

import numpy as np
from numpy.typing import NDArray

from stages.runtime.errors import InputError
from stages.storage.tables import Samples

Random = np.random.Generator | np.random.RandomState
MOST_TRIES = 1000  # draws of the same text, after which it must be the only one


class Negatives:
    """Draws negatives within one split of a data set."""

    def __init__(self, samples: Samples) -> None:
        objects = [int(object_id) for object_id in samples.objects["object"]]
        images = [int(image) for image in samples.objects["image"]]
        rows = samples.expressions
        self.texts = dict(zip(rows["expression"].tolist(), rows["text"].tolist(), strict=True))
        of_object: dict[int, list[int]] = {object_id: [] for object_id in objects}
        for expression, object_id in zip(rows["expression"], rows["object"], strict=True):
            of_object[int(object_id)].append(int(expression))
        self.expressions = [of_object[object_id] for object_id in objects]  # by row of the objects
        self.row = {object_id: row for row, object_id in enumerate(objects)}
        in_image: dict[int, list[int]] = {}
        for row, image in enumerate(images):
            in_image.setdefault(image, []).append(row)
        self.neighbors = [in_image[image] for image in images]

    def draw(
        self, object_id: int, expression: int, count: int, random: Random
    ) -> NDArray[np.int64]:
        """Expression ids (count,) that are not of this object, or at least not its text."""
        row = self.row[object_id]
        others = [other for other in self.neighbors[row] if other != row]
        drawn = []
        for _ in range(count):
            if others:
                drawn.append(self._of(others[int(random.choice(len(others)))], random))
            else:
                drawn.append(self._other_text(self.texts[expression], random))
        return np.array(drawn, dtype=np.int64)

    def _of(self, row: int, random: Random) -> int:
        expressions = self.expressions[row]
        return expressions[int(random.choice(len(expressions)))]

    def _other_text(self, text: str, random: Random) -> int:
        for _ in range(MOST_TRIES):
            drawn = self._of(int(random.choice(len(self.expressions))), random)
            if self.texts[drawn] != text:
                return drawn
        raise InputError(
            f"every expression of the split is {text!r}; needed others, or stage1.negatives: 0"
        )
