# Training a segmentor on true or pseudo masks, and the predictions of every model.

import shlex

PREDICTIONS = f"{RUN}/predictions/{{what}}-{{split}}-{{shard}}-of-{{shards}}.parquet"


def masks_to_learn(wildcards):
    """The pseudo masks of the experiment that they are taken from; none: the true masks."""
    if not experiment_of(wildcards).from_text:
        return []
    source = configs.source(wildcards.experiment)
    return shard_files(PSEUDO_MASKS, source, split="train")


def model_to_predict_with(wildcards):
    if wildcards.what == "zero_shot":
        return experiment_of(wildcards).clip.files
    return f"{RUN}/{wildcards.what}/model.safetensors".format(experiment=wildcards.experiment)


def images_to_predict(wildcards):
    section = "segmentor" if wildcards.what == "segmentor" else "stage1"
    return images_of(section)(wildcards)


def model_arguments(wildcards, input):
    if wildcards.what != "zero_shot":
        return shlex.join(["--model", str(input.model)])
    experiment = experiment_of(wildcards)
    size = str(experiment.stage1.image_size)
    return shlex.join(["--clip", experiment.clip.model_dump_json(), "--image-size", size])


rule train_segmentor:
    input:
        samples=samples,
        masks=masks_to_learn,
        images=images_of("segmentor"),
        weights=lambda w: list(map(str, experiment_of(w).segmentor_files)),
    output:
        model=f"{RUN}/segmentor/model.safetensors",
        losses=f"{RUN}/segmentor/losses.json",
    log:
        f"{RUN}/segmentor/train_segmentor.log",
    benchmark:
        f"{RUN}/segmentor/train_segmentor.tsv"
    wildcard_constraints:
        experiment=one_of(n for n, e in configs.experiments.items() if e.checkpoint is None),
    threads: resource("train_segmentor", "threads")
    resources:
        gpu=resource("train_segmentor", "gpu"),
        mem_mb=resource("train_segmentor", "mem_mb"),
        runtime=resource("train_segmentor", "runtime"),
    params:
        config=options("segmentor"),
        clip=options("clip"),
    shell:
        "python -m stages.runtime.launch {resources.gpu} stages.train_segmentor --samples {input.samples:q} --masks {input.masks:q}"
        " --images {input.images:q} --model {output.model:q} --config {params.config:q}"
        " --clip {params.clip:q} > {log:q} 2>&1"


# What is not trained but imported, by the folder of its model: the checkpoint and the options.
IMPORTED = {
    f"{name}/{stage}": (name, checkpoint, option, section)
    for name, experiment in configs.experiments.items()
    for stage, checkpoint, option, section in [
        ("segmentor", experiment.checkpoint, "--config", experiment.segmentor),
        ("stage1", experiment.stage1_checkpoint, "--stage1", experiment.stage1),
    ]
    if checkpoint is not None
}


def import_options(wildcards):
    name, _, option, section = IMPORTED[wildcards.imported]
    clip = configs.experiments[name].clip
    return shlex.join([option, section.model_dump_json(), "--clip", clip.model_dump_json()])


rule import_checkpoint:
    input:
        checkpoint=lambda w: str(IMPORTED[w.imported][1]),
    output:
        model=f"{RESULTS}/{{imported}}/model.safetensors",
    log:
        f"{RESULTS}/{{imported}}/import_checkpoint.log",
    benchmark:
        f"{RESULTS}/{{imported}}/import_checkpoint.tsv"
    wildcard_constraints:
        imported=one_of(IMPORTED),
    threads: resource("import_checkpoint", "threads")
    resources:
        gpu=resource("import_checkpoint", "gpu"),
        mem_mb=resource("import_checkpoint", "mem_mb"),
        runtime=resource("import_checkpoint", "runtime"),
    params:
        options=import_options,
    shell:
        "python -m stages.import_checkpoint --checkpoint {input.checkpoint:q} --model {output.model:q}"
        " {params.options} > {log:q} 2>&1"


rule predict:
    input:
        samples=samples,
        model=model_to_predict_with,
        images=images_to_predict,
    output:
        predictions=PREDICTIONS,
    log:
        f"{RUN}/predictions/{{what}}-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{RUN}/predictions/{{what}}-{{split}}-{{shard}}-of-{{shards}}.tsv"
    wildcard_constraints:
        what="zero_shot|stage1|segmentor",
    threads: resource("predict", "threads")
    resources:
        gpu=resource("predict", "gpu"),
        mem_mb=resource("predict", "mem_mb"),
        runtime=resource("predict", "runtime"),
    params:
        config=options("evaluation"),
        model=model_arguments,
    shell:
        "python -m stages.runtime.launch {resources.gpu} stages.predict --samples {input.samples:q} --split {wildcards.split}"
        " --shard {wildcards.shard} --shards {wildcards.shards}"
        " --predictions {output.predictions:q} {params.model} --config {params.config:q}"
        " --images {input.images:q}"
        " > {log:q} 2>&1"
