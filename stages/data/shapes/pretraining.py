"""What the small CLIP is trained on: batches of image-text pairs, and which of them contrast.

It begins with crops. Masked pairs come in twos, of two items of one scene, so that the model must
learn to tell the items of a scene apart. To learn places, most of these twos are alike in all that
the first text names, some texts are of a place alone, and each text is held against itself with its
directions turned around. Before them come epochs of texts of places alone: what only places tell
apart is else never learned.

An image may have several texts at once: it takes ten times as long to encode as a text.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stages.config.steps import PretrainClip
from stages.data.images import normalize
from stages.data.shapes.pairs import (
    NUM_ATTRIBUTES,
    UNNAMED,
    Pair,
    alike_pairs,
    any_expression,
    crop,
    draw_scene,
    expression_of_any_kind,
    masked,
    placed_pairs,
    tell_attributes,
    tell_item,
    tell_place,
    tell_scene,
    whole,
)
from stages.data.text import Tokenizer

STREAM = 1000  # random streams of these scenes, away from those of the data set's splits
FURTHER = 7  # ends the random streams of further texts


class ContrastivePairs:
    """Pairs of (epoch, number): crops in the first epochs, then scenes and masked scenes."""

    groups: NDArray[np.int64] | None = None

    def __init__(self, config: PretrainClip, tokenizer: Tokenizer, size: int) -> None:
        self.config, self.tokenizer, self.size = config, tokenizer, size
        numbers = range(config.scenes)
        self.scenes = [draw_scene((config.seed, STREAM, number), size) for number in numbers]

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, key: tuple[int, int]) -> list[Pair]:
        """Pairs of one scene, then the same images with further texts."""
        epoch, number = key
        pairs = self._pairs(epoch, number)
        rng = np.random.default_rng([self.config.seed, STREAM, epoch, number, FURTHER])
        further = (
            self._told_again(rng, epoch, p) for _ in range(1, self.config.texts) for p in pairs
        )
        return [*pairs, *further]

    def _pairs(self, epoch: int, number: int) -> list[Pair]:
        rng = np.random.default_rng([self.config.seed, STREAM, epoch, number])
        scene = self.scenes[number]
        if epoch < self.config.crop_epochs:
            return [crop(rng, number, scene)]
        if rng.random() >= self.config.masked_fraction:
            return [whole(rng, number, scene)]
        if self.config.places:
            draw = placed_pairs if self._has_places_alone(epoch) else alike_pairs
            return draw(rng, number, scene)
        kept = [int(target) for target in rng.permutation(len(scene.items))[:2]]
        return [
            masked(rng, number, scene, target, any_expression(rng, scene, target))
            for target in kept
        ]

    def _has_places_alone(self, epoch: int) -> bool:
        return epoch < self.config.crop_epochs + self.config.place_epochs

    def _told_again(self, rng: np.random.Generator, epoch: int, pair: Pair) -> Pair:
        """The same image with another text."""
        scene = self.scenes[pair.scene]
        if pair.item is None:
            return tell_scene(rng, scene, pair)
        if epoch < self.config.crop_epochs:
            return tell_attributes(rng, scene, pair)
        if not self.config.places:
            return tell_item(rng, scene, pair, any_expression(rng, scene, pair.item))
        is_alone = self._has_places_alone(epoch)
        expression = None if is_alone else expression_of_any_kind(rng, scene, pair.item)
        again = tell_item(rng, scene, pair, expression)
        return tell_place(rng, scene, again, expression, 1 if is_alone else 0.5)

    def collate(self, items: list[list[Pair]]) -> dict[str, Tensor]:
        """images (B, 3, S, S), tokens (T B + D, L), rivals (T, B, B), turned (D, 2), twins (K, 3).

        T texts of each image: the first of all, then the second. `rivals` tells which texts
        contrast an image. `turned` (text, image) tells of what the last D texts are: these have
        their directions turned around. `twins` (text, image, image) are two items of one scene, of
        which the text of the first does not fit the second.
        """
        sets = [
            [pair for item in items for pair in _part(item, number, self.config.texts)]
            for number in range(self.config.texts)
        ]
        pairs = sets[0]
        images = normalize(
            torch.from_numpy(np.stack([pair.pixels for pair in pairs]).transpose(0, 3, 1, 2).copy())
        )
        for row, pair in enumerate(pairs):
            if pair.mask is not None:
                images[row] *= torch.from_numpy(pair.mask)
        opposites = [
            (number, row, pair.opposite)
            for number, of_set in enumerate(sets)
            for row, pair in enumerate(of_set)
            if pair.opposite
        ]
        texts = [pair.text for of_set in sets for pair in of_set]
        tokens = self.tokenizer(texts + [text for _, _, text in opposites])
        rivals = [_rivals(of_set) for of_set in sets]
        twins = [
            F.pad(_twins(*of_set), (1, 0), value=number)
            for number, of_set in enumerate(zip(sets, rivals, strict=True))
        ]
        return {
            "images": images,
            "tokens": tokens[:, : int((tokens != 0).sum(dim=1).max())],
            "rivals": torch.stack(rivals),
            "turned": torch.tensor([place for *place, _ in opposites]).long().reshape(-1, 2),
            "twins": torch.cat(twins) if self.config.places else torch.zeros(0, 3).long(),
        }

    def prepare(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch as it is: masked images are no bytes."""
        return batch


def _part(pairs: list[Pair], number: int, parts: int) -> list[Pair]:
    size = len(pairs) // parts
    return pairs[number * size : (number + 1) * size]


def _rivals(pairs: list[Pair]) -> Tensor:
    """Which texts (columns) an image (rows) must score below its own: those that do not fit it.

    A text that is unique in its scene fits one item of it only. Any other may fit by chance.
    """
    fits = np.zeros((len(pairs), len(pairs)), dtype=bool)
    scenes = np.array([pair.scene for pair in pairs])
    unique = np.array([pair.is_unique for pair in pairs])
    named = np.array([pair.named for pair in pairs])
    words, direction = named[:, None, :NUM_ATTRIBUTES], named[:, NUM_ATTRIBUTES]  # (B, 1, 4), (B,)
    for row, pair in enumerate(pairs):
        visible = np.array(pair.visible)
        lies = visible[:, NUM_ATTRIBUTES:].astype(bool)  # (items, 4)
        same = (words == visible[None, :, :NUM_ATTRIBUTES]) | (words == UNNAMED)  # (B, items, 4)
        there = lies.T[direction] | (direction == UNNAMED)[:, None]  # (B, items)
        possible = (scenes != pair.scene) | ~unique
        fits[row] = (same.all(axis=2) & there).any(axis=1) & possible
        fits[row] |= np.array([other.text == pair.text for other in pairs])
        fits[row, row] = False
    return torch.from_numpy(~fits)


def _twins(pairs: list[Pair], rivals: Tensor) -> Tensor:
    """Rows (K, 2) of two masked items of a scene: the text of the first is wrong of the second."""
    rows: dict[int, list[int]] = {}
    for row, pair in enumerate(pairs):
        if pair.mask is not None:
            rows.setdefault(pair.scene, []).append(row)
    both = [(a, b) for of_scene in rows.values() for a in of_scene for b in of_scene if a != b]
    return torch.tensor([(a, b) for a, b in both if rivals[b, a]]).reshape(-1, 2)
