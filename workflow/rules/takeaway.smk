# What people and other tools are given: images of every expression, and masks in other formats.

VISUALIZED = f"{WORK}/visualized/{{visualized}}"
MASKS = f"{WORK}/masks/{{masks}}"


def files_of_masks(wildcards):
    """The shards of the stage whose masks are written; none for the ground truth."""
    sources = [source for source in product_of(wildcards).sources if source.kind != "samples"]
    return [path for source in sources for path in shards(source, wildcards.split)]


def taken_away(page, kinds=("visualized", "masks")):
    """The records of what a page has for people and other tools."""
    return [
        path
        for product, split in page.taken_away()
        if product.kind in kinds
        for path in shards(product, split)
    ]


rule visualize:
    input:
        samples=made_from("samples"),
        model=model_to_predict_with,
        images=images_to_predict,
    output:
        record=f"{VISUALIZED}/visualized-{{split}}-{{shard}}-of-{{shards}}.json",
    log:
        f"{VISUALIZED}/visualize-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{VISUALIZED}/visualize-{{split}}-{{shard}}-of-{{shards}}.tsv"
    threads: asks("threads", 8)
    resources:
        gpu=asks("gpu", 1),
        mem_mb=asks("mem_mb", 16000),
        runtime=asks("runtime", 480),
    params:
        config=recipe("evaluation"),
    shell:
        "python -m stages.runtime.launch {resources.gpu} stages.visualize"
        " --samples {input.samples:q} --split {wildcards.split} --shard {wildcards.shard}"
        " --shards {wildcards.shards} --record {output.record:q} --model {input.model:q}"
        " --config {params.config:q} --images {input.images:q} --workers {threads}"
        " > {log:q} 2>&1"


rule write_masks:
    input:
        samples=made_from("samples"),
        shards=files_of_masks,
    output:
        record=f"{MASKS}/masks-{{split}}.json",
    log:
        f"{MASKS}/write_masks-{{split}}.log",
    benchmark:
        f"{MASKS}/write_masks-{{split}}.tsv"
    threads: asks("threads", 1)
    resources:
        gpu=asks("gpu", 0),
        mem_mb=asks("mem_mb", 4000),
        runtime=asks("runtime", 240),
    params:
        stage=lambda w: product_of(w).options["stage"],
        format=lambda w: product_of(w).options["format"],
    shell:
        "python -m stages.write_masks --samples {input.samples:q} --split {wildcards.split}"
        " --stage {params.stage} --format {params.format} --record {output.record:q}"
        " --shards {input.shards:q} > {log:q} 2>&1"
