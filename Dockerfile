# The `severstal` command in a container, with or without a GPU:
#
#   docker build -t severstal .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/data:/steel/data" -v "$PWD/models:/steel/models" severstal train
#
# Mount `-v "$PWD/submissions:/steel/submissions"` likewise for `predict`. For an NVIDIA GPU add `--gpus all`: torch brings
# the CUDA libraries along, the host gives its driver through the NVIDIA container toolkit. Add `-v "$PWD/cache:/cache"`,
# a folder of the same user, to keep compiled code from run to run.
FROM python:3.13-slim-trixie

# opencv-python is linked against OpenGL, X11 (which comes with libgl1) and GLib. The slim image has none of them.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0t64 \
    && rm -rf /var/lib/apt/lists/*

# The dependencies are several gigabytes, so they have a layer of their own: a change of the code does not repeat it.
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        > requirements.txt \
    && pip install --no-cache-dir -c constraints.txt -r requirements.txt

COPY README.md LICENSE ./
COPY severstal_cli severstal_cli
RUN pip install --no-cache-dir --no-deps -c constraints.txt .

# Only their owner can write to these folders: compiled code in the cache is run. A user given with `--user` mounts own
# folders, and has a cache for this container alone where none is mounted.
RUN useradd --no-create-home --home-dir /cache steel \
    && mkdir -p /steel/data /steel/models /steel/submissions /cache \
    && chown -R steel:steel /steel /cache \
    && chmod -R go-w /steel \
    && chmod 700 /cache
USER steel
WORKDIR /steel
VOLUME ["/steel/data", "/steel/models", "/steel/submissions"]
ENTRYPOINT ["sh", "-c", "export HOME=/cache; [ -w /cache ] || HOME=$(mktemp -d); export XDG_CACHE_HOME=$HOME NUMBA_CACHE_DIR=$HOME/numba MPLCONFIGDIR=$HOME/matplotlib; exec severstal \"$@\"", "severstal"]
CMD ["--help"]
