# The configuration, checked when the workflow is parsed, and how rules ask for parts of it.
#
# A product is known by its folder, results/work/<kind>/<dataset>-<digest>/: its wildcard has the
# name of its kind. That it is there means that it is right, so that inputs are `ancient`, except
# those that a run makes anew because of --forcerun: what is made from them is made anew, too.

import functools
import json
import os
import shlex
import sys
from pathlib import Path

from snakemake.cli import get_argument_parser
from snakemake.exceptions import WorkflowError

from stages.config.catalog import Catalog, contents_of
from stages.config.earlier import notice
from stages.config.load import check_run_options, load_configs
from stages.config.product import FILES, everything_behind
from stages.config.project_version import version_notice
from stages.config.resources import chosen_resource
from stages.config.shard_files import complete_shards
from stages.config.sizes import count_shards, keeps_images, known_objects
from stages.config.variants import parse_changes
from stages.runtime.errors import InputError, suggest
from stages.runtime.launch import JOBS_PER_GPU
from stages.storage.collapse import collapse_warnings
from workflow.scheduling.orphaned_jobs import take_over

CONFIGS = Path(config.get("configs", "configs")).expanduser()
CHANGES = str(config.get("set", ""))
try:
    check_run_options(config)
    configs = load_configs(CONFIGS)
    changes = parse_changes(CHANGES)
except (InputError, ValueError) as error:
    raise WorkflowError(f"the configuration is wrong:\n{error}")

RESULTS = str(Path(config.get("results", configs.settings.results)).expanduser())

if workflow.is_main_process:
    earlier_results = notice(Path(RESULTS), configs.experiments)
    if earlier_results is not None:
        logger.warning(earlier_results)
    other_version = version_notice(Path(workflow.basedir))
    if other_version is not None:
        logger.warning(other_version)

# Rules call `python`: the one that runs this workflow, whether or not its environment is activated.
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

os.environ[JOBS_PER_GPU] = str(configs.settings.jobs_per_gpu)


onstart:
    if not workflow.local_exec:
        try:
            take_over(Path.cwd())
        except InputError as error:
            raise WorkflowError(str(error))


# What came out empty is told once more at the end, where it is read.
onsuccess:
    if workflow.is_main_process:
        made = {Path(file).parent for job in workflow.dag.jobs for file in job.output}
        for line in collapse_warnings(sorted(made)):
            logger.warning(f"warning: {line}")


WORK = f"{RESULTS}/work"
catalog = Catalog(
    configs,
    Path(RESULTS),
    contents_of(Path(RESULTS), is_frozen=not workflow.is_main_process),
    changes,
)
DIGEST = "[0-9a-f]{12}"


def one_of(names):
    """What a wildcard may be: one of some names."""
    return "|".join(names) or "none"


wildcard_constraints:
    **{kind: rf"\w+-{DIGEST}" for kind in FILES},
    download=one_of(configs.downloads),
    split=r"\w+",
    shard=r"\d+",
    shards=r"\d+",
    digest=DIGEST,


# What the user typed: targets, and steps to be made anew. Jobs and other programs have none.
TARGETS, FORCED_STEPS = [], []
if workflow.is_main_process and Path(sys.argv[0]).stem == "snakemake":
    options = get_argument_parser().parse_known_args(sys.argv[1:])[0]
    TARGETS, FORCED_STEPS = options.targets or [], options.forcerun or []


def kept(product, path):
    """A file of a product, as an input: its age is no reason to run, only that it is made anew."""
    is_forced = FORCED_STEPS and any(p.step in FORCED_STEPS for p in everything_behind([product]))
    return path if is_forced else ancient(path)


def product_of(wildcards):
    """The product that a job makes."""
    if "report" in wildcards.keys():
        return page_of(wildcards).product
    kind = next(name for name in wildcards.keys() if name in FILES)
    try:
        return catalog.find(kind, wildcards[kind])
    except InputError as error:
        raise WorkflowError(str(error))


def page_of(wildcards):
    """The page that a job makes."""
    try:
        return catalog.find_page(wildcards.report)
    except InputError as error:
        raise WorkflowError(str(error))


def path_of(product, wildcards=None):
    """The file that stands for a product, or for the part of it that the wildcards name."""
    names = dict(wildcards.items()) if wildcards is not None else {}
    return kept(product, f"{RESULTS}/{product.folder}/{FILES[product.kind].format(**names)}")


def made_from(*kinds):
    """An input: the product of one of these kinds, of the same split and shard."""
    return lambda wildcards: path_of(product_of(wildcards).source(*kinds), wildcards)


def files_read(wildcards):
    """What a step reads from outside: weights, annotations, checkpoints."""
    return [ancient(path) for path in product_of(wildcards).files]


def recipe(section):
    """The options of a section, as the step of a job is given them."""
    return lambda wildcards: getattr(product_of(wildcards).owner, section).model_dump_json()


def chosen_execution(wildcards):
    """The options of how a step computes, which change nothing of what it makes."""
    product = product_of(wildcards)
    return product.owner.execution_of(product.step)


def execution(wildcards):
    """All of them, as a training is given them."""
    return chosen_execution(wildcards).model_dump_json()


def run_name(wildcards):
    """What trackers call a training."""
    return catalog.run_name(product_of(wildcards))


def asks(name, usual):
    """What the jobs of a rule ask for: threads, gpu, mem_mb or runtime (minutes).

    An experiment may say otherwise (`resources`). A job that failed asks for more memory and more
    time when it is tried again.
    """

    def asked(wildcards, attempt):
        product = product_of(wildcards)
        resources = product.owner.resources if product.owner else {}
        value = chosen_resource(resources, product.step, name, usual)
        return value * attempt if name in ("mem_mb", "runtime") else value

    return asked


def train_first(wildcards):
    """The priority of a pass over a split: trainings wait for that over train alone."""
    return 1 if wildcards["split"] == "train" else 0


def num_objects(samples, split):
    """About how many objects a split has; counted when the samples are there if nothing tells."""
    known = known_objects(samples.dataset, split, configs.datasets)
    if known is not None:
        return known
    counts = checkpoints.count_samples.get(samples=samples.id).output.counts
    return json.loads(Path(counts).read_text())["splits"].get(split, {}).get("objects", 0)


@functools.cache
def shards_of(folder, split, wanted):
    """Over how many jobs a pass over a split is spread: as it was, where it is finished."""
    kind, identity = folder.split("/")[1:]
    if present := complete_shards(Path(RESULTS, folder), kind, split):
        return len(present)
    if wanted is not None:
        return wanted
    return count_shards(num_objects(catalog.find(kind, identity).source("samples"), split))


def num_shards(product, split):
    """How many shards a product has: the masks of a pass are made in as many as its maps."""
    if product.kind == "masks":  # one record a split
        return 1
    passes = {
        "labels": ("maps", "votes"),
        "pseudo_masks": ("maps", "votes"),
        "regions": ("maps", "votes"),
        "assigned": ("pseudo_masks",),
    }
    passes["rows"] = ("predictions", "maps", "votes", "labels", "pseudo_masks", "assigned")
    while product.kind in passes:
        sources = [s for s in product.sources if s.kind in passes[product.kind]]
        if not sources:  # baselines need no file
            return 1
        product = sources[0]
    return shards_of(product.folder, split, product.owner.shards)


def shards(product, split):
    """The files of all shards."""
    count = num_shards(product, split)
    return [
        kept(
            product,
            f"{RESULTS}/{product.folder}/"
            + FILES[product.kind].format(split=split, shard=shard, shards=count),
        )
        for shard in range(count)
    ]


@functools.cache
def has_kept_images(dataset):
    return keeps_images(
        configs.settings.cache_images,
        lambda: num_objects(catalog.products.samples(dataset), "train"),
    )


def images_for(section, of_model=None):
    """The images as the model of a section sees them, if they are kept; else steps decode them.

    The section is that of the job's experiment, or with `of_model`, kinds of products, that of the
    experiment whose model of these the job reads.
    """

    def files(wildcards):
        product = product_of(wildcards)
        if not has_kept_images(product.dataset):
            return []
        owner = product.source(*of_model).owner if of_model else product.owner
        model = getattr(owner, section)
        made = catalog.products.resized_images(product.dataset, model.resize_mode, model.image_size)
        return path_of(made)

    return files


def initial_weights(section):
    """What a training starts from: the model of an experiment, or a file; else nothing."""

    def weights(wildcards):
        product = product_of(wildcards)
        models = [s for s in product.sources if s.kind in ("stage1", "segmentor", "imported")]
        file = getattr(product.owner, section).initial_file
        return [path_of(model) for model in models] + ([ancient(str(file))] if file else [])

    return weights
