#!/bin/bash
# Runs a Python test with Debian's Python, which has Debian's grpcio; another `python3` in PATH may not.
set -eu
exec /usr/bin/python3 "$@"
