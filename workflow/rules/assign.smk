# Beyond TRIS: which object of an image each pseudo mask belongs to, and what a segmentor votes for.

ASSIGNED = f"{WORK}/assigned/{{assigned}}"
VOTES = f"{WORK}/votes/{{votes}}"


rule vote:
    input:
        samples=made_from("samples"),
        model=made_from("segmentor", "imported"),
        images=images_for("segmentor"),
    output:
        maps=f"{VOTES}/maps-{{split}}-{{shard}}-of-{{shards}}.parquet",
    log:
        f"{VOTES}/vote-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{VOTES}/vote-{{split}}-{{shard}}-of-{{shards}}.tsv"
    priority: 1
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


rule assign_masks:
    input:
        samples=made_from("samples"),
        features=made_from("text_features"),
        maps=made_from("maps", "votes"),
        masks=made_from("pseudo_masks"),
        weights=files_read,
    output:
        masks=f"{ASSIGNED}/masks-{{split}}-{{shard}}-of-{{shards}}.parquet",
    log:
        f"{ASSIGNED}/assign_masks-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{ASSIGNED}/assign_masks-{{split}}-{{shard}}-of-{{shards}}.tsv"
    priority: 1
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
        " --config {params.config:q} > {log:q} 2>&1"
