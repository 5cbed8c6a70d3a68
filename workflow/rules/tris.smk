# TRIS stage 1, and the choice of each object's response map.

STAGE1 = f"{WORK}/stage1/{{stage1}}"
MAPS = f"{WORK}/maps/{{maps}}"


rule train_stage1:
    input:
        samples=made_from("samples"),
        features=made_from("text_features"),
        images=images_for("stage1"),
        initialize=initial_weights("stage1"),
        weights=files_read,
    output:
        model=f"{STAGE1}/model.safetensors",
        losses=f"{STAGE1}/losses.json",
    log:
        f"{STAGE1}/train_stage1.log",
    benchmark:
        f"{STAGE1}/train_stage1.tsv"
    priority: 1
    threads: asks("threads", 8)
    resources:
        gpu=asks("gpu", 1),
        mem_mb=asks("mem_mb", 16000),
        runtime=asks("runtime", 1440),
    params:
        config=recipe("stage1"),
        judge=recipe("judge"),
        execution=execution,
        name=run_name,
    shell:
        "python -m stages.runtime.launch {resources.gpu} stages.train_stage1"
        " --samples {input.samples:q} --features {input.features:q} --model {output.model:q}"
        " --config {params.config:q} --judge {params.judge:q} --images {input.images:q}"
        " --initialize {input.initialize:q} --execution {params.execution:q}"
        " --name {params.name} > {log:q} 2>&1"


rule select_maps:
    input:
        samples=made_from("samples"),
        features=made_from("text_features"),
        images=images_for("stage1"),
        model=made_from("stage1", "imported"),
        weights=files_read,
    output:
        maps=f"{MAPS}/maps-{{split}}-{{shard}}-of-{{shards}}.parquet",
    log:
        f"{MAPS}/select_maps-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{MAPS}/select_maps-{{split}}-{{shard}}-of-{{shards}}.tsv"
    priority: train_first
    threads: asks("threads", 8)
    resources:
        gpu=asks("gpu", 1),
        mem_mb=asks("mem_mb", 16000),
        runtime=asks("runtime", 1440),
    params:
        config=recipe("prms"),
        judge=recipe("judge"),
    shell:
        "python -m stages.runtime.launch {resources.gpu} stages.select_maps"
        " --samples {input.samples:q} --features {input.features:q} --model {input.model:q}"
        " --maps {output.maps:q} --split {wildcards.split} --shard {wildcards.shard}"
        " --shards {wildcards.shards} --judge {params.judge:q} --config {params.config:q}"
        " --images {input.images:q} > {log:q} 2>&1"
