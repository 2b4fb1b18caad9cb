#!/usr/bin/env bash
# Compiles requirements/*.in to requirements/*.txt: versions and hashes, no index, no host name.
# dev.txt decides the versions; the parts' own files are constrained to them.
set -euo pipefail
uv=$1
compile() {
    "$uv" pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url \
        --python-version 3.11 "$@"
}
compile requirements/dev.in -o requirements/dev.txt
for part in bootstrap build contract operator adapter engine; do
    compile "requirements/$part.in" -c requirements/dev.txt -o "requirements/$part.txt"
done
peer=tests/benchmarks/peers/python/requirements
compile "$peer.in" -o "$peer.txt"
