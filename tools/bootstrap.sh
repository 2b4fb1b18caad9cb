#!/usr/bin/env bash
# Makes the virtual environment and its one bootstrap package, uv, on a bare Debian 12.
set -euo pipefail
environment=$1
if ! command -v python3 >/dev/null || ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "setup: Python 3.11 or newer is needed as python3 on PATH; on Debian 12: apt-get install python3" >&2
    exit 2
fi
if [ ! -x "$environment/bin/python" ]; then
    if ! python3 -m venv --help >/dev/null 2>&1 || ! python3 -c 'import ensurepip' >/dev/null 2>&1; then
        if [ "$(id -u)" != 0 ]; then
            echo "setup: Python's venv module is missing; install it as root: apt-get install python3-venv" >&2
            exit 2
        fi
        echo "setup: installing python3-venv"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv
    fi
    echo "setup: making $environment"
    python3 -m venv "$environment"
fi
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
