# risflow with everything it needs, for CPUs and NVIDIA GPUs:
#   docker build -t risflow .
#   docker run --rm -it --gpus all -v "$PWD":/project risflow sh -c "risflow init . && snakemake --cores all demo"
# Smaller, for CPUs alone: --build-arg TORCH_INDEX=<address of PyTorch's index of CPU wheels>
ARG PYTHON=3.12
FROM python:${PYTHON}-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv
ARG TORCH_INDEX=""
RUN if [ -n "$TORCH_INDEX" ]; then \
    uv pip install --system --no-cache --index-url "$TORCH_INDEX" torch torchvision; fi
COPY . /opt/risflow
RUN uv pip install --system --no-cache "/opt/risflow[serve,export,slurm]"
WORKDIR /project
CMD ["risflow", "--help"]
