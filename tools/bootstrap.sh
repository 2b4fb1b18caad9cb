#!/usr/bin/env bash
# Makes the virtual environment and its one bootstrap package, uv, on a bare Debian 12.
set -euo pipefail
environment=$1
if [ ! -x "$environment/bin/python" ]; then
    if ! python3 -m venv --help >/dev/null 2>&1 || ! python3 -c 'import ensurepip' >/dev/null 2>&1; then
        echo "setup: installing python3-venv"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv
    fi
    echo "setup: making $environment"
    python3 -m venv "$environment"
fi
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
