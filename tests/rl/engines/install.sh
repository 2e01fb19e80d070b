#!/usr/bin/env bash
# An environment in folder $1 with what checks emitted launch scripts: verl's config schema and Hydra, OpenRLHF's options.
# Neither engine's own dependencies, which are gigabytes and need GPUs.
set -euo pipefail
python3 -m venv "$1"
"$1/bin/pip" install --quiet --disable-pip-version-check hydra-core==1.3.7
"$1/bin/pip" install --quiet --disable-pip-version-check --no-deps verl==0.9.1 openrlhf==0.11.2
