# Training a segmentor on true or pseudo masks, and the predictions of every model.

SEGMENTOR = f"{WORK}/segmentor/{{segmentor}}"
IMPORTED = f"{WORK}/imported/{{imported}}"
PREDICTIONS = f"{WORK}/predictions/{{predictions}}"


def masks_to_learn(wildcards):
    """The pseudo masks, or those that were assigned; none: the true masks."""
    sources = product_of(wildcards).sources
    return [
        path
        for source in sources
        if source.kind in ("pseudo_masks", "assigned")
        for path in shards(source, "train")
    ]


def import_options(wildcards):
    product = product_of(wildcards)
    if product.options["imported"] == "stage1":
        return shlex.join(["--stage1", product.owner.stage1.model_dump_json()])
    return shlex.join(["--config", product.owner.segmentor.model_dump_json()])


def model_of(product):
    """The model that predicts; None for CLIP without any training."""
    kinds = ("stage1", "segmentor", "imported")
    return next((source for source in product.sources if source.kind in kinds), None)


def model_to_predict_with(wildcards):
    model = model_of(product_of(wildcards))
    return files_read(wildcards) if model is None else path_of(model)


def section_of(product):
    """The options of the model that predicts."""
    model = model_of(product)
    if model is None or "stage1" in (model.kind, model.options.get("imported")):
        return "stage1"
    return "segmentor"


def images_to_predict(wildcards):
    """Resized ones that a training has read too; for one split alone they are decoded."""
    product = product_of(wildcards)
    model = model_of(product)
    if model is not None and model.kind == "imported" and not product.owner.learns_from_text:
        return []
    return images_for(section_of(product))(wildcards)


def model_arguments(wildcards, input):
    product = product_of(wildcards)
    if model_of(product) is not None:
        return shlex.join(["--model", str(input.model)])
    stage1 = product.owner.stage1
    return shlex.join(
        ["--clip", stage1.clip.model_dump_json(), "--image-size", str(stage1.image_size)]
    )


rule train_segmentor:
    input:
        samples=made_from("samples"),
        masks=masks_to_learn,
        images=images_for("segmentor"),
        initialize=initial_weights("segmentor"),
        weights=files_read,
    output:
        model=f"{SEGMENTOR}/model.safetensors",
        losses=f"{SEGMENTOR}/losses.json",
    log:
        f"{SEGMENTOR}/train_segmentor.log",
    benchmark:
        f"{SEGMENTOR}/train_segmentor.tsv"
    threads: asks("threads", 8)
    resources:
        gpu=asks("gpu", 1),
        mem_mb=asks("mem_mb", 16000),
        runtime=asks("runtime", 1440),
    params:
        config=recipe("segmentor"),
        execution=execution,
        name=run_name,
    shell:
        "python -m stages.runtime.launch {resources.gpu} stages.train_segmentor"
        " --samples {input.samples:q} --masks {input.masks:q} --images {input.images:q}"
        " --initialize {input.initialize:q} --model {output.model:q} --config {params.config:q}"
        " --execution {params.execution:q}"
        " --name {params.name} > {log:q} 2>&1"


rule import_checkpoint:
    input:
        checkpoint=files_read,
    output:
        model=f"{IMPORTED}/model.safetensors",
    log:
        f"{IMPORTED}/import_checkpoint.log",
    benchmark:
        f"{IMPORTED}/import_checkpoint.tsv"
    threads: asks("threads", 1)
    resources:
        gpu=asks("gpu", 0),
        mem_mb=asks("mem_mb", 8000),
        runtime=asks("runtime", 30),
    params:
        options=import_options,
    shell:
        "python -m stages.import_checkpoint --checkpoint {input.checkpoint:q}"
        " --model {output.model:q} {params.options} > {log:q} 2>&1"


rule predict:
    input:
        samples=made_from("samples"),
        model=model_to_predict_with,
        images=images_to_predict,
    output:
        predictions=f"{PREDICTIONS}/predictions-{{split}}-{{shard}}-of-{{shards}}.parquet",
    log:
        f"{PREDICTIONS}/predict-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{PREDICTIONS}/predict-{{split}}-{{shard}}-of-{{shards}}.tsv"
    threads: asks("threads", 8)
    resources:
        gpu=asks("gpu", 1),
        mem_mb=asks("mem_mb", 16000),
        runtime=asks("runtime", 240),
    params:
        config=recipe("evaluation"),
        model=model_arguments,
    shell:
        "python -m stages.runtime.launch {resources.gpu} stages.predict"
        " --samples {input.samples:q} --split {wildcards.split} --shard {wildcards.shard}"
        " --shards {wildcards.shards} --predictions {output.predictions:q} {params.model}"
        " --config {params.config:q} --images {input.images:q} > {log:q} 2>&1"
