#!/bin/sh
# Makes the environment .venv in the project's root, with all that `make demo` and `make test` need.
# Needs Python 3.11 or newer and, on Debian, nothing else: where the venv module is missing and this
# runs as root, it is installed with apt-get.
#
#   PYTHON             interpreter to use (default: python3.11, 3.12, 3.13, python3, the first that fits)
#   SNNKIT_TORCH_INDEX extra package index for PyTorch, e.g. the CPU index that pytorch.org names for pip
set -eu
cd "$(dirname "$0")/.."

mark=.venv/.complete
want=$(cat pyproject.toml requirements-peers.txt scripts/environment.sh | cksum)
if [ -f "$mark" ] && [ "$(cat "$mark")" = "$want" ]; then exit 0; fi

python=
for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "snnkit needs Python 3.11 or newer; none was found. Install it or set PYTHON=/path/to/python3." >&2
    exit 1
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing python$version-venv, which Debian keeps apart from Python"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "python$version-venv" >/dev/null
    else
        echo "Python's venv module is missing. On Debian: sudo apt install python$version-venv" >&2
        exit 1
    fi
fi

echo "Making .venv with $("$python" --version); this takes a minute or two"
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
quiet() { if ! "$@" >.venv/install.log 2>&1; then cat .venv/install.log >&2; exit 1; fi; }

if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
    index=${SNNKIT_TORCH_INDEX:+--extra-index-url $SNNKIT_TORCH_INDEX}
    if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
        quiet pip install $index 'torch==2.13.*'
    elif pip install $index 'torch==2.13.0+cpu' >.venv/install.log 2>&1; then
        :
    else
        echo "No CPU wheel of PyTorch in the configured package indexes: installing the default one," >&2
        echo "which brings CUDA libraries on Linux (SNNKIT_TORCH_INDEX names an index with CPU wheels)." >&2
        quiet pip install $index 'torch==2.13.*'
    fi
fi
quiet pip install -e '.[dev,voices]'
quiet pip install --no-deps -r requirements-peers.txt
echo "$want" >"$mark"
