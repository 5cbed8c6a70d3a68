# Segmentation masks from text alone: the whole workflow.
#
#   snakemake demo --cores 32 --resources gpu=4
#
# A target for every experiment and every data set of configs/ (snakemake --list-rules shows them).
# Rules with a priority are the longest chain: they go before what waits for nothing.
# Elsewhere: --config configs=my/configs results=my/results


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/tris.smk"
include: "workflow/rules/irnet.smk"
include: "workflow/rules/segment.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/targets.smk"
