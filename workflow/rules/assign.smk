# Beyond TRIS: which object of an image each pseudo mask belongs to, and what a segmentor votes for.

REGIONS = f"{WORK}/regions/{{regions}}"
ASSIGNED = f"{WORK}/assigned/{{assigned}}"
VOTES = f"{WORK}/votes/{{votes}}"


rule vote:
    input:
        samples=made_from("samples"),
        model=made_from("segmentor", "imported"),
        images=images_for("segmentor", of_model=("segmentor", "imported")),
    output:
        maps=f"{VOTES}/maps-{{split}}-{{shard}}-of-{{shards}}.parquet",
    log:
        f"{VOTES}/vote-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{VOTES}/vote-{{split}}-{{shard}}-of-{{shards}}.tsv"
    priority: train_first
    threads: asks("threads", 8)
    resources:
        gpu=asks("gpu", 1),
        mem_mb=asks("mem_mb", 16000),
        runtime=asks("runtime", 240),
    params:
        config=recipe("prms"),
    shell:
        "python -m stages.runtime.launch {resources.gpu} stages.vote"
        " --samples {input.samples:q} --model {input.model:q} --maps {output.maps:q}"
        " --split {wildcards.split} --shard {wildcards.shard} --shards {wildcards.shards}"
        " --config {params.config:q} --images {input.images:q} > {log:q} 2>&1"


rule find_regions:
    input:
        samples=made_from("samples"),
        maps=made_from("maps", "votes"),
        model=made_from("affinity"),
    output:
        regions=f"{REGIONS}/regions-{{split}}-{{shard}}-of-{{shards}}.parquet",
    log:
        f"{REGIONS}/find_regions-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{REGIONS}/find_regions-{{split}}-{{shard}}-of-{{shards}}.tsv"
    priority: train_first
    threads: asks("threads", 8)
    resources:
        gpu=asks("gpu", 1),
        mem_mb=asks("mem_mb", 16000),
        runtime=asks("runtime", 1440),
    params:
        config=recipe("propagation"),
    shell:
        "python -m stages.runtime.launch {resources.gpu} irnet.find_regions"
        " --samples {input.samples:q} --maps {input.maps:q} --model {input.model:q}"
        " --regions {output.regions:q} --config {params.config:q} --workers {threads}"
        " > {log:q} 2>&1"


def regions_of(wildcards):
    """The regions that are candidates, too; none if an experiment does not want them."""
    sources = product_of(wildcards).sources
    return [path_of(source, wildcards) for source in sources if source.kind == "regions"]


rule assign_masks:
    input:
        samples=made_from("samples"),
        features=made_from("text_features"),
        maps=made_from("maps", "votes"),
        masks=made_from("pseudo_masks"),
        regions=regions_of,
        weights=files_read,
    output:
        masks=f"{ASSIGNED}/masks-{{split}}-{{shard}}-of-{{shards}}.parquet",
    log:
        f"{ASSIGNED}/assign_masks-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{ASSIGNED}/assign_masks-{{split}}-{{shard}}-of-{{shards}}.tsv"
    priority: train_first
    threads: asks("threads", 4)
    resources:
        gpu=asks("gpu", 1),
        mem_mb=asks("mem_mb", 8000),
        runtime=asks("runtime", 240),
    params:
        config=recipe("assignment"),
        judge=recipe("judge"),
    shell:
        "python -m stages.runtime.launch {resources.gpu} stages.assign_masks"
        " --samples {input.samples:q} --features {input.features:q} --maps {input.maps:q}"
        " --masks {input.masks:q} --assigned {output.masks:q} --judge {params.judge:q}"
        " --config {params.config:q} --regions {input.regions:q} > {log:q} 2>&1"
