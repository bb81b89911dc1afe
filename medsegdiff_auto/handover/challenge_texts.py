"""The texts of a challenge's folder: Dockerfile, scripts, README."""

from __future__ import annotations

PROGRAM = '''"""Segments the image in /input with the model in /opt/ml/model and writes to /output (sockets.json)."""

from medsegdiff_auto.handover.challenge import main

if __name__ == "__main__":
    raise SystemExit(main())
'''

_DOCKERFILE = """FROM {base_image}

# "--no-index" installs from wheels/ alone, without a network, after "pip download -r requirements.lock -d wheels"
ARG PIP_INDEX=""
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --system user && useradd --system --gid user --no-log-init --create-home user
WORKDIR /opt/app
COPY requirements.lock ./
COPY wheels wheels
RUN python -m pip install --no-cache-dir $PIP_INDEX --find-links wheels --requirement requirements.lock \\
    && python -m pip install --no-cache-dir --no-index --no-deps wheels/medsegdiff_auto-*.whl
COPY inference.py sockets.json ./

# the home is not writable on the platform, and there is no network
ENV HOME=/tmp MPLCONFIGDIR=/tmp XDG_CACHE_HOME=/tmp HF_HUB_OFFLINE=1 nnUNet_compile=f
USER user
ENTRYPOINT ["python", "inference.py"]
"""

_HEAD = "#!/usr/bin/env bash\nset -euo pipefail\ncd \"$(dirname \"${BASH_SOURCE[0]}\")\"\n"
_SCRIPTS = {
    "do_build.sh": 'docker build --platform linux/amd64 --tag {name} "$@" .\n',
    "do_test_run.sh": """./do_build.sh
GPU=()
if command -v nvidia-smi > /dev/null; then GPU=(--gpus all); fi
for case in test/input/*; do
    out="$PWD/test/output/$(basename "$case")"
    mkdir -p "$out" && chmod 777 "$out"
    docker run --rm "${{GPU[@]}}" --platform linux/amd64 --network none --shm-size 64m --read-only --tmpfs /tmp \\
        --volume "$PWD/$case:/input:ro" --volume "$PWD/model:/opt/ml/model:ro" --volume "$out:/output" {name}
    (cd "$out" && find . -type f | sort)
done
""",
    "do_save.sh": "./do_build.sh\ndocker save {name} | gzip > {name}.tar.gz\n"
                  "echo 'upload {name}.tar.gz as the image and model.tar.gz as the model'\n"}

README = """# {name}: a container for a challenge

    ./do_build.sh                          builds the image; --build-arg PIP_INDEX=--no-index from wheels/ alone
    ./do_test_run.sh                       builds, runs every case of test/input without a network, and lists the output
    ./do_save.sh                           {name}.tar.gz, the image; upload model.tar.gz as the algorithm's model

`test/expected_output` is what this model made of the test cases on the machine that exported it; a GPU gives the same
but for voxels on boundaries.

Measured there, on its CPU: {seconds} s with loading, for an image of {size} voxels (x, y, z), {folds} folds with
{samples} samples each. A real image has more voxels: time the largest case on the platform's card before you submit.
Where it takes too long, set `"speed": "fast"` in `sockets.json`: half of the samples and steps, no mirrors.

The labels of the masks and the sockets stand in `sockets.json`.
"""


def dockerfile(base_image: str) -> str:
    """The Dockerfile on a base image with Python."""
    return _DOCKERFILE.replace("{base_image}", base_image)


def scripts(name: str) -> dict[str, str]:
    """Programs by the names of their files."""
    return {file: _HEAD + text.format(name=name) for file, text in _SCRIPTS.items()} | {"inference.py": PROGRAM}
