# TRIS stage 1, and the choice of each object's response map.


rule train_stage1:
    input:
        samples=samples,
        features=text_features,
        images=images_of("stage1"),
        weights=weights_of("clip", "judge"),
    output:
        model=f"{RUN}/stage1/model.safetensors",
        losses=f"{RUN}/stage1/losses.json",
    log:
        f"{RUN}/stage1/train_stage1.log",
    benchmark:
        f"{RUN}/stage1/train_stage1.tsv"
    wildcard_constraints:
        experiment=one_of(n for n, e in configs.experiments.items() if e.stage1_checkpoint is None),
    priority: 1
    threads: resource("train_stage1", "threads")
    resources:
        gpu=resource("train_stage1", "gpu"),
        mem_mb=resource("train_stage1", "mem_mb"),
        runtime=resource("train_stage1", "runtime"),
    params:
        config=options("stage1"),
        clip=options("clip"),
        judge=options("judge"),
    shell:
        "python -m stages.runtime.launch {resources.gpu} stages.train_stage1 --samples {input.samples:q} --features {input.features:q}"
        " --model {output.model:q} --config {params.config:q} --clip {params.clip:q}"
        " --judge {params.judge:q} --images {input.images:q} > {log:q} 2>&1"


rule select_maps:
    input:
        samples=samples,
        features=text_features,
        images=images_of("stage1"),
        model=f"{RUN}/stage1/model.safetensors",
        weights=weights_of("judge"),
    output:
        maps=f"{RUN}/prms/maps-{{split}}-{{shard}}-of-{{shards}}.parquet",
    log:
        f"{RUN}/prms/select_maps-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{RUN}/prms/select_maps-{{split}}-{{shard}}-of-{{shards}}.tsv"
    priority: 1
    threads: resource("select_maps", "threads")
    resources:
        gpu=resource("select_maps", "gpu"),
        mem_mb=resource("select_maps", "mem_mb"),
        runtime=resource("select_maps", "runtime"),
    params:
        config=options("prms"),
        judge=options("judge"),
    shell:
        "python -m stages.runtime.launch {resources.gpu} stages.select_maps --samples {input.samples:q} --features {input.features:q}"
        " --model {input.model:q} --maps {output.maps:q} --split {wildcards.split}"
        " --shard {wildcards.shard} --shards {wildcards.shards}"
        " --judge {params.judge:q} --config {params.config:q} --images {input.images:q}"
        " > {log:q} 2>&1"
