"""The products of all experiments and data sets (stages/config/product.py says what one is)."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from stages.config.baselines import BASELINES
from stages.config.contents import LISTING, Contents
from stages.config.encoders import JudgeSource
from stages.config.experiment import Experiment
from stages.config.exports import STAGES
from stages.config.load import Configs
from stages.config.product import STORED, Product
from stages.config.recipes import recipe, step_version
from stages.config.section import Section
from stages.config.selection import ONLY_OF_TRAINING, SelectedTraining, training_recipe
from stages.config.steps import Stage1


class Products:
    """The products of experiments and data sets, made from their options and files when asked."""

    def __init__(self, configs: Configs, results: Path, contents: Contents) -> None:
        self.configs, self.results, self.contents = configs, results, contents
        self._samples: dict[str, Product] = {}  # by data set
        self._experiments: dict[str, dict[str, Product]] = {}
        self._by_folder: dict[str, Product] = {}
        self._registered: set[str] = set()

    def everything(self) -> list[Product]:
        """The products of all experiments and data sets of configs/."""
        for dataset in self.configs.datasets:
            self._register(dataset)
        return list(self._by_folder.values())

    def find(self, kind: str, identity: str) -> Product | None:
        """The product of a folder; None if no experiment or data set of configs/ has it."""
        folder = f"work/{kind}/{identity}"
        if folder not in self._by_folder:
            self._register(identity.rpartition("-")[0])
        return self._by_folder.get(folder)

    def _register(self, dataset: str) -> None:
        if dataset in self._registered or dataset not in self.configs.datasets:
            return
        self._registered.add(dataset)
        self.samples(dataset)
        for name, experiment in self.configs.experiments.items():
            if experiment.dataset == dataset:
                self.of_experiment(name)
                for model in (experiment.stage1, experiment.segmentor):
                    self.resized_images(dataset, model.resize_mode, model.image_size)

    def _add(self, product: Product) -> Product:
        """The first product of a folder, of which others with the same digest are copies."""
        return self._by_folder.setdefault(product.folder, product)

    def _product(
        self,
        kind: str,
        step: str,
        dataset: str,
        options: Mapping[str, Any],
        sources: tuple[Product, ...] = (),
        files: Iterable[Path] = (),
        owner: Experiment | None = None,
    ) -> Product:
        contents = {str(path): self.contents.of_file(path) for path in files}
        version = step_version(step)
        return self._add(Product(kind, dataset, step, version, options, contents, sources, owner))

    # ------------------------------------------------------------------------------ data sets

    def samples(self, name: str) -> Product:
        """The samples of a data set, with its images as they are now."""
        if name not in self._samples:
            self._samples[name] = self._make_samples(name)
        return self._samples[name]

    def _make_samples(self, name: str) -> Product:
        dataset = self.configs.datasets[name]
        options = recipe(dataset, "members", "published", "refshapes")
        if dataset.source == "mix":
            members = tuple(self.samples(member) for member in dataset.members)
            options["names"] = list(dataset.members)
            return self._product("samples", "mix", name, options, members)
        if dataset.source == "refshapes":
            shapes = self._product("shapes", "make_refshapes", name, recipe(dataset.refshapes))
            return self._product("samples", "prepare", name, options, (shapes,))
        options["images"] = str(dataset.images) if dataset.images is not None else None
        plain = self._product("samples", "prepare", name, options, files=dataset.annotation_files)
        images = self.contents.of_images(self.results / plain.folder / LISTING)
        if images is None or images[0] == images[1]:
            return plain
        changed = {**options, "listing": images[1]}
        return self._product("samples", "prepare", name, changed, files=dataset.annotation_files)

    def resized_images(self, dataset: str, resize_mode: str, size: int) -> Product:
        """All images of a data set at the size that a model sees."""
        options = {"resize_mode": resize_mode, "size": size}
        return self._product("images", "resize_images", dataset, options, (self.samples(dataset),))

    def text_features(self, dataset: str, judge: JudgeSource) -> Product:
        """All expressions of a data set as a CLIP encodes them."""
        options = {"clip": recipe(judge, "image_size")}
        sources = (self.samples(dataset),)
        # Its step is given the CLIP of an experiment that has it as its judge.
        owner = next(e for e in self.configs.experiments.values() if e.judge == judge)
        return self._product(
            "text_features", "encode_text", dataset, options, sources, judge.files, owner
        )

    # --------------------------------------------------------------------- from text to masks

    def of_experiment(self, name: str) -> dict[str, Product]:
        """All products of an experiment, by what they are for it.

        `text_features`, `stage1`, `maps`, `labels`, `affinity`, `pseudo_masks` and, if asked for,
        `regions` and `assigned` where it learns from text, `stage1` alone where both models are
        imported;
        `samples` and `segmentor`;
        `predictions/<scored>`, `rows/<scored>` and `scores/<scored>` of each thing that is scored.
        """
        if name not in self._experiments:
            self._experiments[name] = self._experiment(name)
        return self._experiments[name]

    def _experiment(self, name: str) -> dict[str, Product]:
        experiment = self.configs.experiments[name]
        made = {"samples": self.samples(experiment.dataset)}
        predicted = {}
        if experiment.learns_from_text:
            made |= self._chain(self.configs.source(name))
            source = self.configs.experiments[self.configs.source(name)]
            if "stage1" in made:
                predicted["zero_shot"] = self._zero_shot(source)
                predicted["stage1"] = self._predictions(source, made["stage1"])
        elif experiment.stage1_checkpoint is not None:
            made["stage1"] = self._imported_stage1(experiment)
            predicted["stage1"] = self._predictions(experiment, made["stage1"])
        made["segmentor"] = self._segmentor(name, made)
        predicted["segmentor"] = self._predictions(experiment, made["segmentor"])
        scored: dict[str, tuple[Product, ...]] = {baseline: () for baseline in BASELINES}
        scored |= {kind: (made[kind],) for kind in STORED if kind in made}
        scored |= {model: (product,) for model, product in predicted.items()}
        made |= {f"predictions/{model}": product for model, product in predicted.items()}
        for thing, masks in scored.items():
            made |= self._scores(experiment, thing, (made["samples"], *masks))
        return made | self._taken_away(experiment, made)

    def _taken_away(
        self, experiment: Experiment, made: Mapping[str, Product]
    ) -> dict[str, Product]:
        """What people and other tools are given: only what the experiment asks for."""
        samples, taken = made["samples"], dict[str, Product]()
        if experiment.visualize == "all":
            taken["visualized"] = self._predictions(experiment, made["segmentor"], "visualize")
        for stage in experiment.masks.stages:
            for name in experiment.masks.formats:
                shown = made["votes" if stage == "response" and "votes" in made else STAGES[stage]]
                taken[f"masks/{stage}-{name}"] = self._product(
                    "masks",
                    "write_masks",
                    experiment.dataset,
                    {"stage": stage, "format": name},
                    (samples,) if shown == samples else (samples, shown),
                    (),
                    experiment,
                )
        return taken

    def _scores(
        self, experiment: Experiment, scored: str, sources: tuple[Product, ...]
    ) -> dict[str, Product]:
        """The scored rows of some masks, and the scores that are made of them."""
        dataset, options = experiment.dataset, {"scored": scored}
        # TRIS's validate.py and validate_referit.py score boxes, of both stages.
        is_tris = scored == "segmentor" and experiment.segmentor.model == "tris"
        asked = {**options, "boxes": is_tris or scored == "stage1"}
        if scored in ("stage1", "segmentor"):
            asked |= recipe(experiment.evaluation, "splits", "labels", "batch_size", "precision")
            if experiment.evaluation.at_input_size:
                section = experiment.stage1 if scored == "stage1" else experiment.segmentor
                asked["side"] = section.image_size
        rows = self._product("rows", "evaluate", dataset, asked, sources, (), experiment)
        behind = (sources[0], rows)
        scores = self._product("scores", "score", dataset, options, behind, (), experiment)
        return {f"rows/{scored}": rows, f"scores/{scored}": scores}

    def _chain(self, name: str) -> dict[str, Product]:
        """From text to the pseudo masks of an experiment that makes its own."""
        experiment = self.configs.experiments[name]
        dataset, judge = experiment.dataset, {"judge": recipe(experiment.judge)}
        samples, text = self.samples(dataset), self.text_features(dataset, experiment.judge)

        def made(
            kind: str,
            step: str,
            options: Mapping[str, Any],
            *sources: Product,
            files: Iterable[Path] = (),
        ) -> Product:
            return self._product(
                kind, step, dataset, options, (samples, *sources), files, experiment
            )

        if experiment.votes_of is not None:
            segmentor = self.of_experiment(experiment.votes_of)["segmentor"]
            maps = made("votes", "vote", recipe(experiment.prms), segmentor)
            chain = {"text_features": text, "votes": maps}
        else:
            if experiment.stage1_checkpoint is not None:
                stage1 = self._imported_stage1(experiment)
            else:
                stage1 = made(
                    "stage1",
                    "train_stage1",
                    training_recipe(experiment.stage1) | judge,
                    text,
                    *self._initial(experiment.stage1),
                    files=[*experiment.stage1.training_files, *experiment.judge.files],
                )
            maps = made(
                "maps",
                "select_maps",
                recipe(experiment.prms) | judge,
                text,
                stage1,
                files=experiment.judge.files,
            )
            chain = {"text_features": text, "stage1": stage1, "maps": maps}
        labels = made("labels", "make_labels", recipe(experiment.labels), maps)
        affinity = made(
            "affinity",
            "train_affinity",
            recipe(experiment.affinity),
            labels,
            files=experiment.affinity.files,
        )
        masks = made("pseudo_masks", "propagate", recipe(experiment.propagation), maps, affinity)
        chain |= {"labels": labels, "affinity": affinity, "pseudo_masks": masks}
        regions: tuple[Product, ...] = ()
        if experiment.assignment.needs_regions:
            walk = recipe(experiment.propagation, *experiment.propagation.only_of_masks)
            chain["regions"] = made("regions", "find_regions", walk, maps, affinity)
            regions = (chain["regions"],)
        if experiment.assigns:
            chain["assigned"] = made(
                "assigned",
                "assign_masks",
                recipe(experiment.assignment) | judge,
                *(text, maps, masks, *regions),
                files=experiment.judge.files,
            )
        return chain

    def _segmentor(self, name: str, made: Mapping[str, Product]) -> Product:
        experiment = self.configs.experiments[name]
        if experiment.checkpoint is not None:
            return self._imported(experiment, experiment.checkpoint, experiment.segmentor)
        masks = (_last_masks(made),) if experiment.learns_from_text else ()
        return self._product(
            "segmentor",
            "train_segmentor",
            experiment.dataset,
            training_recipe(experiment.segmentor),
            (made["samples"], *masks, *self._initial(experiment.segmentor)),
            experiment.segmentor.training_files,
            experiment,
        )

    def _initial(self, section: SelectedTraining) -> tuple[Product, ...]:
        """The model of another experiment that a training starts from, if there is one."""
        name = section.initial_experiment
        if name is None:
            return ()
        experiment = self.configs.experiments[name]
        if isinstance(section, Stage1):
            if experiment.learns_from_text:
                return (self._chain(self.configs.source(name))["stage1"],)
            return (self._imported_stage1(experiment),)
        made = {"samples": self.samples(experiment.dataset)}
        made |= self._chain(self.configs.source(name)) if experiment.learns_from_text else {}
        return (self._segmentor(name, made),)

    def _imported_stage1(self, experiment: Experiment) -> Product:
        assert experiment.stage1_checkpoint is not None
        return self._imported(experiment, experiment.stage1_checkpoint, experiment.stage1)

    def _imported(self, experiment: Experiment, checkpoint: Path, section: Section) -> Product:
        """An official checkpoint as a model of ours; it is learned from nothing here."""
        kind = "stage1" if section is experiment.stage1 else "segmentor"
        options = {"imported": kind} | recipe(section, *ONLY_OF_TRAINING)
        return self._product(
            "imported",
            "import_checkpoint",
            experiment.dataset,
            options,
            files=[checkpoint],
            owner=experiment,
        )

    # ---------------------------------------------------------------------------- predictions

    def _predictions(
        self,
        experiment: Experiment,
        model: Product,
        step: Literal["predict", "visualize"] = "predict",
    ) -> Product:
        options = recipe(experiment.evaluation, "splits", "labels", "empty_response")
        sources = (self.samples(experiment.dataset), model)
        kind = {"predict": "predictions", "visualize": "visualized"}[step]
        return self._product(kind, step, experiment.dataset, options, sources, (), experiment)

    def _zero_shot(self, experiment: Experiment) -> Product:
        """Predictions of the CLIP that stage 1 starts from, without any training."""
        clip = experiment.stage1.clip
        options = recipe(experiment.evaluation, "splits", "labels", "empty_response")
        options |= {"clip": recipe(clip), "image_size": experiment.stage1.image_size}
        return self._product(
            "predictions",
            "predict",
            experiment.dataset,
            options,
            (self.samples(experiment.dataset),),
            clip.files,
            experiment,
        )


def _last_masks(made: Mapping[str, Product]) -> Product:
    """The masks that a segmentor learns from, of an experiment that learns from text."""
    return made["assigned"] if "assigned" in made else made["pseudo_masks"]
