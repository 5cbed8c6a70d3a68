# Data sets: generated or read, checked, and their expressions encoded.

from stages.config.encoders import ClipSource
from stages.config.steps import PretrainClip, PretrainDino

FETCHED = f"{RESULTS}/downloads/{{download}}.json"
SHAPES = f"{WORK}/shapes/{{shapes}}"
SAMPLES = f"{WORK}/samples/{{samples}}"
MIXED = one_of(name for name, dataset in configs.datasets.items() if dataset.source == "mix")


def dataset_options(wildcards):
    """Of a generated data set: where the generator puts it."""
    product = product_of(wildcards)
    dataset = configs.datasets[product.dataset]
    if dataset.source == "refshapes":
        folder = Path(RESULTS, product.source("shapes").folder)
        dataset = dataset.model_copy(update={"annotations": folder, "images": folder / "images"})
    return dataset.model_dump_json()


def annotations(wildcards):
    product = product_of(wildcards)
    made = [path_of(source) for source in product.sources]
    return made + [ancient(path) for path in product.files]


rule make_refshapes:
    output:
        instances=f"{SHAPES}/instances.json",
    log:
        f"{SHAPES}/make_refshapes.log",
    benchmark:
        f"{SHAPES}/make_refshapes.tsv"
    threads: asks("threads", 1)
    resources:
        gpu=asks("gpu", 0),
        mem_mb=asks("mem_mb", 2000),
        runtime=asks("runtime", 60),
    params:
        config=lambda w: configs.datasets[product_of(w).dataset].refshapes.model_dump_json(),
        folder=lambda w, output: Path(output.instances).parent,
    shell:
        "python -m stages.make_refshapes --output {params.folder:q}"
        " --config {params.config:q} > {log:q} 2>&1"


rule prepare:
    input:
        annotations=annotations,
    output:
        images=f"{SAMPLES}/images.parquet",
        objects=f"{SAMPLES}/objects.parquet",
        expressions=f"{SAMPLES}/expressions.parquet",
        listing=f"{SAMPLES}/listing.json",
        samples=f"{SAMPLES}/samples.json",
    log:
        f"{SAMPLES}/prepare.log",
    benchmark:
        f"{SAMPLES}/prepare.tsv"
    wildcard_constraints:
        samples=rf"(?!({MIXED})-{DIGEST})\w+-{DIGEST}",
    threads: asks("threads", 8)
    resources:
        gpu=asks("gpu", 0),
        mem_mb=asks("mem_mb", 4000),
        runtime=asks("runtime", 60),
    params:
        config=dataset_options,
    shell:
        "python -m stages.prepare --samples {output.samples:q} --config {params.config:q}"
        " --workers {threads} > {log:q} 2>&1"


rule mix:
    input:
        members=lambda w: [path_of(member) for member in product_of(w).sources],
    output:
        images=f"{SAMPLES}/images.parquet",
        objects=f"{SAMPLES}/objects.parquet",
        expressions=f"{SAMPLES}/expressions.parquet",
        samples=f"{SAMPLES}/samples.json",
    log:
        f"{SAMPLES}/mix.log",
    benchmark:
        f"{SAMPLES}/mix.tsv"
    wildcard_constraints:
        samples=rf"({MIXED})-{DIGEST}",
    threads: asks("threads", 1)
    resources:
        gpu=asks("gpu", 0),
        mem_mb=asks("mem_mb", 4000),
        runtime=asks("runtime", 60),
    params:
        config=lambda w: configs.datasets[product_of(w).dataset].model_dump_json(),
    shell:
        "python -m stages.mix --samples {output.samples:q} --members {input.members:q}"
        " --config {params.config:q} > {log:q} 2>&1"


# Of data sets whose size the configuration does not tell: after it, the jobs of passes are planned.
checkpoint count_samples:
    input:
        samples=ancient(f"{SAMPLES}/samples.json"),
    output:
        counts=f"{SAMPLES}/counts.json",
    log:
        f"{SAMPLES}/count_samples.log",
    localrule: True
    shell:
        "cp {input.samples:q} {output.counts:q} 2> {log:q}"


rule resize_images:
    input:
        samples=made_from("samples"),
    output:
        images=f"{WORK}/images/{{images}}/images.npy",
    log:
        f"{WORK}/images/{{images}}/resize_images.log",
    benchmark:
        f"{WORK}/images/{{images}}/resize_images.tsv"
    priority: 1
    threads: asks("threads", 8)
    resources:
        gpu=asks("gpu", 0),
        mem_mb=asks("mem_mb", 8000),
        runtime=asks("runtime", 240),
    params:
        mode=lambda w: product_of(w).options["resize_mode"],
        size=lambda w: product_of(w).options["size"],
    shell:
        "python -m stages.resize_images --samples {input.samples:q} --images {output.images:q}"
        " --resize-mode {params.mode} --size {params.size} --workers {threads} > {log:q} 2>&1"


rule encode_text:
    input:
        samples=made_from("samples"),
        weights=files_read,
    output:
        features=f"{WORK}/text_features/{{text_features}}/text.safetensors",
    log:
        f"{WORK}/text_features/{{text_features}}/encode_text.log",
    benchmark:
        f"{WORK}/text_features/{{text_features}}/encode_text.tsv"
    priority: 1
    threads: asks("threads", 1)
    resources:
        gpu=asks("gpu", 1),
        mem_mb=asks("mem_mb", 8000),
        runtime=asks("runtime", 60),
    params:
        clip=recipe("judge"),
    shell:
        "python -m stages.encode_text --samples {input.samples:q} --features {output.features:q}"
        " --clip {params.clip:q} > {log:q} 2>&1"


# Not redirected to a log: a progress bar belongs to the terminal.
rule fetch:
    output:
        record=FETCHED,
    localrule: True
    params:
        config=lambda w: configs.downloads[w.download].model_dump_json(),
    shell:
        "python -m stages.fetch --config {params.config:q} --folder data --record {output.record:q}"


# What follows is made once and kept in data/: nothing depends on these rules. Copy their results
# there to use them.
CLIPS = {
    "small_clip": PretrainClip(),
    "placed_clip": PretrainClip(
        epochs=54,
        crop_epochs=36,
        place_epochs=2,
        scenes=3000,
        batch_size=48,
        masked_fraction=0.9,
        texts=3,
        learning_rate=1.2e-3,
        max_grad_norm=10,
        seed=1,
    ),
}


rule pretrain_clip:
    output:
        weights=f"{RESULTS}/{{clip}}/{{clip}}.safetensors",
        model=f"{RESULTS}/{{clip}}/{{clip}}.json",
        record=f"{RESULTS}/{{clip}}/{{clip}}.log.json",
    log:
        f"{RESULTS}/{{clip}}/pretrain_clip.log",
    benchmark:
        f"{RESULTS}/{{clip}}/pretrain_clip.tsv"
    wildcard_constraints:
        clip=one_of(CLIPS),
    threads: 2
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=240,
    params:
        config=lambda w: CLIPS[w.clip].model_dump_json(),
        work=lambda w: f"{RESULTS}/{w.clip}/work",
    shell:
        "python -m stages.runtime.launch {resources.gpu} stages.pretrain_clip"
        " --weights {output.weights:q} --model {output.model:q} --record {output.record:q}"
        " --work {params.work:q} --config {params.config:q} > {log:q} 2>&1"


rule pretrain_dino:
    input:
        model="data/placed_clip.json",
        weights="data/placed_clip.safetensors",
    output:
        weights=f"{RESULTS}/mini_dino/mini_dino.safetensors",
        record=f"{RESULTS}/mini_dino/mini_dino.log.json",
    log:
        f"{RESULTS}/mini_dino/pretrain_dino.log",
    benchmark:
        f"{RESULTS}/mini_dino/pretrain_dino.tsv"
    threads: 2
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=240,
    params:
        clip=lambda w, input: ClipSource(
            model=input.model, weights=input.weights, output_stride=8
        ).model_dump_json(),
        config=PretrainDino().model_dump_json(),
        work=f"{RESULTS}/mini_dino/work",
    shell:
        "python -m stages.runtime.launch {resources.gpu} stages.pretrain_dino"
        " --weights {output.weights:q} --record {output.record:q} --work {params.work:q}"
        " --clip {params.clip:q} --config {params.config:q} > {log:q} 2>&1"
