# The `severstal` command in a container, with or without a GPU:
#
#   docker build -t severstal .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/data:/steel/data" -v "$PWD/models:/steel/models" severstal train
#
# For an NVIDIA GPU add `--gpus all`: torch brings the CUDA libraries along, the host gives its driver through the
# NVIDIA container toolkit. Add `-v severstal-cache:/cache` to keep compiled code from run to run of the same user.
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

# Neither folder belongs to one user alone: with `--user` the files on the host belong to the person who runs this.
RUN useradd --no-create-home --home-dir /cache steel \
    && mkdir -p /steel/data /steel/models /steel/submissions /cache \
    && chown -R steel:steel /steel /cache \
    && chmod -R a+rwX /steel /cache
ENV HOME=/cache XDG_CACHE_HOME=/cache NUMBA_CACHE_DIR=/cache/numba MPLCONFIGDIR=/cache/matplotlib
USER steel
WORKDIR /steel
VOLUME ["/steel/data", "/steel/models", "/steel/submissions"]
ENTRYPOINT ["severstal"]
CMD ["--help"]
