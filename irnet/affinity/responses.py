"""Response maps, grouped by image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stages.data.response_maps import full_map, normalize
from stages.runtime.errors import InputError
from stages.storage.tables import ResponseMap, Samples, read_maps


@dataclass(frozen=True)
class MappedImage:
    """An image, and the response map of each of its objects that has one."""

    image: int
    file: str
    width: int
    height: int
    objects: list[int]
    responses: list[ResponseMap]


def mapped_images(samples: Samples, maps: Sequence[Path]) -> list[MappedImage]:
    """The images of all objects in `maps`, in the order of the samples."""
    responses = read_maps(maps)
    of_object = dict(zip(samples.objects.object, samples.objects.image, strict=True))
    unknown = sorted(set(responses) - set(of_object))
    if unknown:
        raise InputError(
            f"{', '.join(map(str, maps))}: object {unknown[0]} (and {len(unknown) - 1} more) is not"
            " in the samples; needed: maps made from these samples"
        )
    objects: dict[int, list[int]] = {}
    for object_id in sorted(responses):
        objects.setdefault(of_object[object_id], []).append(object_id)
    return [
        MappedImage(
            row["image"],
            row["file"],
            row["width"],
            row["height"],
            objects[row["image"]],
            [responses[object_id] for object_id in objects[row["image"]]],
        )
        for row in samples.images.to_dict("records")
        if row["image"] in objects
    ]


def full_size(image: MappedImage, device: torch.device | None = None) -> Tensor:
    """The response maps (P, H, W) of an image in [0, 1], at its own size, made on the device."""
    shape = (image.height, image.width)
    maps = [
        full_map(torch.from_numpy(response.grid)[None].to(device), response.input_size, shape)
        for response in image.responses
    ]
    return normalize(torch.cat(maps))
