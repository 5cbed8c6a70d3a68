# Data sets: generated or read, checked, and their expressions encoded.

from stages.config.steps import PretrainClip

FETCHED = f"{RESULTS}/downloads/{{download}}.json"
JUDGES = {
    text_name(experiment.judge): experiment.judge for experiment in configs.experiments.values()
}


def annotations(wildcards):
    dataset = configs.datasets[wildcards.dataset]
    if dataset.source == "refshapes":
        return [f"{DATA}/source/instances.json".format(dataset=wildcards.dataset)]
    return [str(dataset.annotations)]


def dataset_options(wildcards):
    """Of a generated data set: where the generator puts it."""
    dataset = configs.datasets[wildcards.dataset]
    if dataset.source != "refshapes":
        return dataset.model_dump_json()
    folder = Path(DATA.format(dataset=wildcards.dataset)) / "source"
    return dataset.model_copy(
        update={"annotations": folder, "images": folder / "images"}
    ).model_dump_json()


rule make_refshapes:
    output:
        instances=f"{DATA}/source/instances.json",
    log:
        f"{DATA}/source/make_refshapes.log",
    benchmark:
        f"{DATA}/source/make_refshapes.tsv"
    threads: resource("make_refshapes", "threads")
    resources:
        gpu=resource("make_refshapes", "gpu"),
        mem_mb=resource("make_refshapes", "mem_mb"),
        runtime=resource("make_refshapes", "runtime"),
    params:
        config=lambda w: configs.datasets[w.dataset].refshapes.model_dump_json(),
        folder=lambda w, output: Path(output.instances).parent,
    shell:
        "python -m stages.make_refshapes --output {params.folder:q}"
        " --config {params.config:q} > {log:q} 2>&1"


rule prepare:
    input:
        annotations=annotations,
    output:
        images=f"{DATA}/images.parquet",
        objects=f"{DATA}/objects.parquet",
        expressions=f"{DATA}/expressions.parquet",
        samples=f"{DATA}/samples.json",
    log:
        f"{DATA}/prepare.log",
    benchmark:
        f"{DATA}/prepare.tsv"
    wildcard_constraints:
        dataset=one_of(name for name, d in configs.datasets.items() if d.source != "mix"),
    threads: resource("prepare", "threads")
    resources:
        gpu=resource("prepare", "gpu"),
        mem_mb=resource("prepare", "mem_mb"),
        runtime=resource("prepare", "runtime"),
    params:
        config=dataset_options,
    shell:
        "python -m stages.prepare --samples {output.samples:q} --config {params.config:q}"
        " --workers {threads} > {log:q} 2>&1"


rule mix:
    input:
        members=lambda w: [
            f"{RESULTS}/datasets/{name}/samples.json"
            for name in configs.datasets[w.dataset].members
        ],
    output:
        images=f"{DATA}/images.parquet",
        objects=f"{DATA}/objects.parquet",
        expressions=f"{DATA}/expressions.parquet",
        samples=f"{DATA}/samples.json",
    log:
        f"{DATA}/mix.log",
    benchmark:
        f"{DATA}/mix.tsv"
    wildcard_constraints:
        dataset=one_of(name for name, d in configs.datasets.items() if d.source == "mix"),
    threads: resource("mix", "threads")
    resources:
        gpu=resource("mix", "gpu"),
        mem_mb=resource("mix", "mem_mb"),
        runtime=resource("mix", "runtime"),
    params:
        config=lambda w: configs.datasets[w.dataset].model_dump_json(),
    shell:
        "python -m stages.mix --samples {output.samples:q} --members {input.members:q}"
        " --config {params.config:q} > {log:q} 2>&1"


rule resize_images:
    input:
        samples=f"{DATA}/samples.json",
        table=f"{DATA}/images.parquet",
    output:
        images=f"{DATA}/images-{{framing}}-{{size}}.npy",
    log:
        f"{DATA}/images-{{framing}}-{{size}}.log",
    benchmark:
        f"{DATA}/images-{{framing}}-{{size}}.tsv"
    wildcard_constraints:
        framing="squeezed|letterbox",
    priority: 1
    threads: resource("resize_images", "threads")
    resources:
        gpu=resource("resize_images", "gpu"),
        mem_mb=resource("resize_images", "mem_mb"),
        runtime=resource("resize_images", "runtime"),
    shell:
        "python -m stages.resize_images --samples {input.samples:q} --images {output.images:q}"
        " --framing {wildcards.framing} --size {wildcards.size} --workers {threads} > {log:q} 2>&1"


rule encode_text:
    input:
        samples=f"{DATA}/samples.json",
        expressions=f"{DATA}/expressions.parquet",
        weights=lambda w: [str(path) for path in JUDGES[w.clip].files],
    output:
        features=f"{DATA}/text-{{clip}}.safetensors",
    log:
        f"{DATA}/text-{{clip}}.log",
    benchmark:
        f"{DATA}/text-{{clip}}.tsv"
    priority: 1
    threads: resource("encode_text", "threads")
    resources:
        gpu=resource("encode_text", "gpu"),
        mem_mb=resource("encode_text", "mem_mb"),
        runtime=resource("encode_text", "runtime"),
    params:
        clip=lambda w: JUDGES[w.clip].model_dump_json(),
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


# Made once and kept in data/: nothing depends on this rule. Copy its results there to use them.
rule pretrain_clip:
    output:
        weights=f"{RESULTS}/small_clip/small_clip.safetensors",
        model=f"{RESULTS}/small_clip/small_clip.json",
        record=f"{RESULTS}/small_clip/small_clip.log.json",
    log:
        f"{RESULTS}/small_clip/pretrain_clip.log",
    benchmark:
        f"{RESULTS}/small_clip/pretrain_clip.tsv"
    threads: resource("pretrain_clip", "threads")
    resources:
        gpu=resource("pretrain_clip", "gpu"),
        mem_mb=resource("pretrain_clip", "mem_mb"),
        runtime=resource("pretrain_clip", "runtime"),
    params:
        config=PretrainClip().model_dump_json(),
        work=f"{RESULTS}/small_clip/work",
    shell:
        "python -m stages.runtime.launch {resources.gpu} stages.pretrain_clip --weights {output.weights:q} --model {output.model:q}"
        " --record {output.record:q} --work {params.work:q} --config {params.config:q}"
        " > {log:q} 2>&1"
