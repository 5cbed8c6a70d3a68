# The configuration, checked when the workflow is parsed, and how rules ask for parts of it.

import functools
import hashlib
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from workflow.scheduling.orphaned_jobs import take_over
from stages.runtime.errors import InputError
from stages.config.load import load_configs
from stages.runtime.launch import JOBS_PER_GPU
from stages.config.resources import resource as resource_of_step

try:
    configs = load_configs(Path(config.get("configs", "configs")))
except InputError as error:
    raise WorkflowError(f"the configuration is wrong:\n{error}")

# Rules call `python`: the one that runs this workflow, whether or not its environment is activated.
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

os.environ[JOBS_PER_GPU] = str(configs.settings.jobs_per_gpu)


onstart:
    if not workflow.local_exec:
        try:
            take_over(Path.cwd())
        except InputError as error:
            raise WorkflowError(str(error))


RESULTS = config.get("results", str(configs.settings.results))
RUN = f"{RESULTS}/{{experiment}}"
DATA = f"{RESULTS}/datasets/{{dataset}}"


def one_of(names):
    """What a wildcard may be: one of some names."""
    return "|".join(names) or "none"


wildcard_constraints:
    experiment=one_of(configs.experiments),
    dataset=one_of(configs.datasets),
    download=one_of(configs.downloads),
    comparison=one_of(configs.settings.comparisons),
    split=r"\w+",
    shard=r"\d+",
    shards=r"\d+",
    size=r"\d+",


def experiment_of(wildcards):
    return configs.experiments[wildcards.experiment]


def options(section):
    """The option text of a section: what a rule's job depends on."""
    return lambda wildcards: getattr(experiment_of(wildcards), section).model_dump_json()


def resource(step, name):
    """What the jobs of a rule ask for: threads, gpu, mem_mb or runtime.

    A job that failed asks for more memory and more time when it is tried again.
    """

    def asked(wildcards, attempt):
        experiment = configs.experiments.get(wildcards.get("experiment"))
        value = resource_of_step(step, name, experiment.resources if experiment else {})
        return value * attempt if name in ("mem_mb", "runtime") else value

    return asked


def samples(wildcards):
    return f"{RESULTS}/datasets/{experiment_of(wildcards).dataset}/samples.json"


@functools.cache
def caches_images(dataset):
    return configs.caches_images(dataset)


def images_of(section):
    """The images as the model of a section sees them, if they are kept; else steps decode them."""

    def files(wildcards):
        experiment = experiment_of(wildcards)
        if not caches_images(experiment.dataset):
            return []
        seen = getattr(experiment, section)
        folder = f"{RESULTS}/datasets/{experiment.dataset}"
        return f"{folder}/images-{seen.framing}-{seen.image_size}.npy"

    return files


def weights_of(*sections):
    """The files that what these sections describe is read from."""
    return lambda wildcards: [
        str(path)
        for section in sections
        for path in getattr(experiment_of(wildcards), section).files
    ]


def text_name(judge):
    """A file name for what depends on this CLIP: its own name, and a digest of all its options."""
    digest = hashlib.sha256(judge.model_dump_json().encode()).hexdigest()[:8]
    return f"{Path(judge.model).stem}-{digest}"


def text_features(wildcards):
    experiment = experiment_of(wildcards)
    name = text_name(experiment.judge)
    return f"{RESULTS}/datasets/{experiment.dataset}/text-{name}.safetensors"


@functools.cache
def shards_of(experiment):
    return configs.shards(experiment)


def shard_files(pattern, experiment, **names):
    """All shards of a file name that has {shard} and {shards}."""
    count = shards_of(experiment)
    return [
        pattern.format(experiment=experiment, shard=shard, shards=count, **names)
        for shard in range(count)
    ]
