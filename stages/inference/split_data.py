"""A part of a data set as a trained model reads it, batch by batch with the sizes of its images."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from stages.data.dataset import ReferringDataset, inference_batches
from stages.inference.inference import Inference
from stages.runtime.loading import count_workers
from stages.storage.tables import Samples

Shapes = list[tuple[int, int]]  # heights and widths of images


def data_for(inference: Inference, samples: Samples, images: Path | None) -> ReferringDataset:
    """`images` are those of resize_images; without them they are decoded when they are needed."""
    return ReferringDataset(
        samples,
        inference.tokenizer,
        inference.image_size,
        resize_mode=inference.resize_mode_name,
        text_field=inference.text_field,
        images=images,
    )


def batches_with_shapes(
    inference: Inference, data: ReferringDataset, batch_size: int
) -> Iterator[tuple[dict[str, Tensor], Shapes]]:
    """The batches of `inference_batches`, each with the shapes of its images."""
    for batch in inference_batches(data, batch_size, count_workers(inference.device)):
        yield batch, [data.shapes[image] for image in batch["image"].tolist()]
