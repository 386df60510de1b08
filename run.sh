#!/usr/bin/env bash
# One command for everything: ./run.sh help. Here .venv is made and filled; the verbs are in likesite/machine/console.py.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
unset PYTHONPATH PYTHONHOME PYTHONSAFEPATH

fail() {
  printf 'likesite: %s\n' "$*" >&2
  exit 1
}

usage() {
  cat <<'TEXT'
usage: ./run.sh VERB

  start              bring everything up in the background and say where it is
  stop               stop it, likes flushed first
  down               stop, and drop the run files
  destroy [--yes]    down, and drop the data (asks)
  test [N]           a load run of N likes (1000), then its certificate
  like [ID]          like post ID (1)
  check              the counts of posts 1 to 3
  reset              all totals to zero, on record
  scale N            N worker processes (0: none)
  logs [NAME]        follow the logs
  status             what runs, and the age of the oldest like not persisted
  manage ...         manage.py ... against what is running
  env                the settings, as NAME=value lines
  pytest ...         the tests, in servers of their own
  bench [NAME ...]   measure front, flush, stream or all three, in servers of their own; minutes each
  help               this text
TEXT
}

python_311() {
  local candidate
  for candidate in "${PYTHON:-python3}" python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v -- "$candidate"
      return
    fi
  done
  fail 'Python 3.11 or newer is needed, and none was found (PYTHON=/path/to/python names one)'
}

# install FILE: .venv holds what FILE lists; nothing is done when FILE and the pins are what was installed last.
install() {
  local stamp=".venv/installed-$1" wanted
  wanted=$(cat -- "$1" requirements.txt constraints.txt | cksum)
  if [[ -f $stamp && $(<"$stamp") == "$wanted" ]]; then return; fi
  if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    local python
    python=$(python_311)
    printf 'likesite: making .venv with %s\n' "$python" >&2
    "$python" -m venv --clear .venv ||
      fail 'python -m venv failed: the venv module with ensurepip is needed (Debian, Ubuntu: apt install python3-venv)'
  fi
  printf 'likesite: installing %s, a minute or so\n' "$1" >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$1" >&2 || fail "installing $1 failed"
  printf '%s\n' "$wanted" >"$stamp"
}

case "${1:-}" in
  start | test | manage) install requirements.txt ;;
  pytest) install requirements.txt && install requirements-dev.txt ;;
  bench) install requirements.txt && install requirements-bench.txt ;;
  # These must reach what runs, even when the requirements have changed since it was started.
  stop | down | destroy | like | check | reset | scale | logs | status | env)
    [[ -f .venv/installed-requirements.txt ]] || install requirements.txt
    ;;
  help | -h | --help)
    usage
    exit
    ;;
  *)
    usage >&2
    exit 2
    ;;
esac
exec .venv/bin/python -m likesite.machine.console "$@"
