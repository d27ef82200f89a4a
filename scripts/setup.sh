#!/bin/sh
# Makes .venv with pcdistill: for `demo` what its demonstration uses, for `test` what tests and pages use as well.
# `make` calls it when needed: setup.sh demo|test.
# PYTHON names the interpreter; pip reads its own settings (PIP_INDEX_URL, ...) as always.
set -eu
cd "$(dirname "$0")/.."

torch=2.13.0
demo=open3d
extras=open3d,video,las,pyg,plots,log,ray,hub,export
group=dev
libraries="libusb-1.0.so.0 libEGL.so.1 libGL.so.1 libgomp.so.1" # what Open3D loads from the system
packages="libusb-1.0-0 libegl1 libgl1 libgomp1"                 # where Debian and Ubuntu keep them

say() { echo "setup: $*" >&2; }

apt_install() { # fails where apt is missing, or neither root nor password-less sudo is to be had
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" = 0 ]; then as_root=env; else as_root="sudo -n env"; fi
    $as_root true 2>/dev/null || return 1
    say "installing $* with apt"
    $as_root apt-get update -qq >/dev/null 2>&1 || true # a stale list may still do
    $as_root DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 </dev/null
}

find_python() {
    for candidate in ${PYTHON:-python3.11 python3}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    say "no Python 3.11 or newer as ${PYTHON:-python3.11 or python3}; name one with make PYTHON=/path/to/python"
    return 1
}

make_venv() {
    python=$(find_python)
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then # Debian packs it apart
        venv=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        apt_install "$venv" || { say "$python cannot make environments: apt-get install $venv"; return 1; }
    fi
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
}

pip_install() { .venv/bin/python -m pip install --disable-pip-version-check "$@"; }

missing_library() {
    for library in $libraries; do
        /sbin/ldconfig -p | grep -q "$library" || return 0
    done
    return 1
}

# --- system libraries: only pictures need them, so go on without
if [ "$(uname)" = Linux ] && missing_library; then
    # shellcheck disable=SC2086 # one word per package
    apt_install $packages || say "Open3D will not load before: apt-get install $packages"
fi

# --- Python
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then make_venv; fi
say "installing torch $torch (some minutes the first time, and more where pip finds GPU builds alone: see README.md)"
pip_install "torch==$torch" # first, so that nothing else decides its version
if [ "${1:-test}" = demo ]; then
    say "installing pcdistill[$demo]"
    pip_install --editable ".[$demo]"
else
    say "installing pcdistill[$extras] and the group $group"
    pip_install --upgrade "pip>=25.1" # the first that knows groups
    pip_install --editable ".[$extras]" --group "$group"
fi
say "ready: . .venv/bin/activate"
