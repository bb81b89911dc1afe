"""The texts of a challenge's folder: Dockerfile, scripts, README."""

from __future__ import annotations

from dataclasses import dataclass, field

PROGRAM = '''"""Segments the image in /input with the model in /opt/ml/model and writes to /output (sockets.json)."""

from medsegdiff_auto.handover.challenge import main

if __name__ == "__main__":
    raise SystemExit(main())
'''

CASES_PROGRAM = '''"""Segments all cases of /input, or of --input, and writes one mask per case (cases.json)."""

from pathlib import Path

from medsegdiff_auto.handover.challenge_cases import main

if __name__ == "__main__":
    raise SystemExit(main(folder=Path(__file__).resolve().parent))
'''

_DOCKERFILE = """FROM {base_image}

# "--no-index" installs from wheels/ alone, without a network, after "pip download -r requirements.lock -d wheels"
ARG PIP_INDEX=""
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --gid 10001 user && useradd --uid 10001 --gid user --no-log-init --create-home user
WORKDIR /opt/app
COPY requirements.lock ./
COPY wheels wheels
RUN python -m pip install --no-cache-dir $PIP_INDEX --find-links wheels --requirement requirements.lock \\
    && python -m pip install --no-cache-dir --no-index --no-deps wheels/medsegdiff_auto-*.whl
{copied}

# the home is not writable on the platform, and there is no network
ENV HOME=/tmp MPLCONFIGDIR=/tmp XDG_CACHE_HOME=/tmp HF_HUB_OFFLINE=1 nnUNet_compile=f
USER 10001:10001
{end}
"""

_HEAD = "#!/usr/bin/env bash\nset -euo pipefail\ncd \"$(dirname \"${{BASH_SOURCE[0]}}\")\"\n"
_BUILD = 'docker build --platform linux/amd64 --tag {name} "$@" .\n'
_TEST = """./do_build.sh
GPU=()
if command -v nvidia-smi > /dev/null; then GPU=(--gpus all); fi
for case in {cases}; do
    out="$PWD/test/output/$(basename "$case")"
    mkdir -p "$out" && chmod 777 "$out"
    docker run --rm "${{GPU[@]}}" --platform linux/amd64 --network none --shm-size 64m --read-only --tmpfs /tmp \\
        --volume "$PWD/$case:/input:ro" {volumes}--volume "$out:/output" {name}
    (cd "$out" && find . -type f | sort)
done
"""
_SAVE = "./do_build.sh\ndocker save {name} | gzip > {name}.tar.gz\necho 'upload {name}.tar.gz{model}'\n"
_PREDICT = """#!/bin/sh
# sh predict.sh [--input DIR] [--output DIR]
exec python "$(dirname "$0")/inference.py" "$@"
"""


@dataclass(frozen=True)
class Kind:
    """What one kind of challenge wants of the container.

    Attributes:
        settings: the file that says what is given and what is asked for.
        program: of ``inference.py``.
        copied: instructions that bring files into the image, beside the package.
        start: the last instruction of the Dockerfile.
        cases: the folders that ``do_test_run.sh`` mounts at ``/input``.
        volumes: that it mounts beside.
        model: the end of the sentence that says what to upload.
    """

    settings: str
    program: str
    copied: str
    start: str
    cases: str
    volumes: str
    model: str
    scripts: dict[str, str] = field(default_factory=dict)

    def dockerfile(self, base_image: str) -> str:
        """The Dockerfile on a base image with Python."""
        text = _DOCKERFILE.replace("{copied}", self.copied).replace("{end}", self.start)
        return text.replace("{base_image}", base_image)

    def programs(self, name: str) -> dict[str, str]:
        """Programs by the names of their files."""
        texts = {"do_build.sh": _HEAD + _BUILD, "do_test_run.sh": _HEAD + _TEST, "do_save.sh": _HEAD + _SAVE}
        return {file: text.format(name=name, cases=self.cases, volumes=self.volumes, model=self.model)
                for file, text in texts.items()} | self.scripts | {"inference.py": self.program}

    def readme(self, name: str, **facts: str) -> str:
        """The README; ``facts`` are those of :data:`_README`."""
        own = _OF_CASES if self is CASES else ""
        return _README.format(name=name, settings=self.settings, of_kind=own, model_upload=self.model, **facts)


GRAND_CHALLENGE = Kind("sockets.json", PROGRAM, "COPY inference.py sockets.json ./",
                       'ENTRYPOINT ["python", "inference.py"]',
                       "test/input/*", '--volume "$PWD/model:/opt/ml/model:ro" ',
                       " as the image and model.tar.gz as the model")
CASES = Kind("cases.json", CASES_PROGRAM, "COPY inference.py predict.sh cases.json ./\nCOPY model model",
             'CMD ["sh", "predict.sh"]', "test/input", "", " as the image, which holds the model",
             {"predict.sh": _PREDICT})

_OF_CASES = """
    sh predict.sh --input DIR --output DIR     in the container, whose command is predict.sh; the defaults are /input
                                               and /output
    python inference.py --input DIR --output DIR     the same without a container, where medsegdiff_auto is installed

Every case of the input folder gets one mask. `cases.json` names the files: `images`, one pattern per channel, and
`mask`, where `{case}` is the name of the case. The noise depends on it, as in `medsegdiff_predict`.
"""

_README = """# {name}: a container for a challenge

    ./do_build.sh                          builds the image; --build-arg PIP_INDEX=--no-index from wheels/ alone
    ./do_test_run.sh                       builds, runs test/input without a network, and lists the output
    ./do_save.sh                           {name}.tar.gz; upload it{model_upload}
{of_kind}
`test/expected_output` is what this model made of the test cases on the machine that exported it; a GPU gives the same
but for voxels on boundaries.

Measured there by the program itself, on its CPU: {seconds} s with loading and {memory} GB of memory at the peak, for
{case} (x, y, z), {folds} with {samples} samples each. A real image has more voxels: time the
largest case on the platform's card before you submit.

Planned, not measured, for a case of the median size of the training data, {median} voxels on the network's grid:

| speed | networks on that CPU, at most | within 20 minutes there | on a 16 GB card | fits it |
|---|---|---|---|---|
{planned}

The memory of the card follows from the memory plan; inf is more than the card and the disk of that machine hold. The
time on a card is not known before it is measured on one; that on the CPU leaves out reading, resampling and writing.
`"speed"` in `{settings}` chooses: `"fast"` takes half of the samples and steps, and no mirrors. {advice}

The labels of the masks and the names of the files stand in `{settings}`. `test/expected_output` was made with it as it
was exported.
"""
