#!/usr/bin/env bash
# Builds the service's image without a container engine, and checks it: it must start as another user
# than root on a read-only root file system, answer /readyz, and end on SIGTERM. Prints
# size, start time and memory. For root, on Linux, with Debian's buildah (and debootstrap).
#
#   BASE_IMAGE=python:3.13-slim-bookworm@sha256:… deploy/build-image.sh [NAME:TAG]
#   BASE_IMAGE=debootstrap deploy/build-image.sh [NAME:TAG]      where no registry can be reached
#
# DEBIAN_SUITE, DEBIAN_MIRROR   what debootstrap installs (bookworm), and from where
# STORAGE                       where buildah keeps images (a temporary folder, removed at the end)
# OUTPUT                        an archive to write, such as oci-archive:orchestrator.tar
# PORT                          of the check, on 127.0.0.1 (18080)
set -euo pipefail
cd "$(dirname "$0")/.."

image=${1:-localhost/orchestrator:latest}
base=${BASE_IMAGE:?"set BASE_IMAGE to an image by its digest, or to debootstrap"}
port=${PORT:-18080}
if [[ $base != debootstrap && ! $base =~ @sha256:[0-9a-f]{64}$ ]]; then
  echo "BASE_IMAGE is $base: name it by its digest, NAME@sha256:…, since a tag may change" >&2
  exit 2
fi

work=$(mktemp -d)
storage=${STORAGE:-$work/storage}
buildah=(buildah --root "$storage" --runroot "$work/run" --storage-driver vfs)
container=
service=
finish() {
  [[ -z $service ]] || kill -KILL "$service" 2> /dev/null || true
  if [[ -n $container ]]; then
    "${buildah[@]}" umount "$container" > /dev/null 2>&1 || true
    "${buildah[@]}" rm "$container" > /dev/null 2>&1 || true
  fi
  rm -rf "$work"
}
trap finish EXIT

# --- the base --------------------------------------------------------------------------------

if [[ $base == debootstrap ]]; then
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
    "${DEBIAN_SUITE:-bookworm}" "$work/root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} > "$work/log"
  rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
  base=localhost/debian-python
  container=$("${buildah[@]}" from scratch)
  "${buildah[@]}" add --quiet "$container" "$work/root" / > /dev/null
  "${buildah[@]}" commit --quiet --rm "$container" "$base" > /dev/null
  container=
  rm -rf "$work/root"
  pull=--pull-never
else
  pull=--pull
fi

# --- the image -------------------------------------------------------------------------------

# The authorities that this machine trusts hold for the steps of the build, not in the image.
"${buildah[@]}" bud --isolation chroot --format docker "$pull" --build-arg "PYTHON_IMAGE=$base" \
  --volume /etc/ssl/certs:/etc/ssl/certs:ro --tag "$image" . > "$work/log" 2>&1 \
  || { tail -n 30 "$work/log" >&2; exit 1; }
[[ -z ${OUTPUT:-} ]] || "${buildah[@]}" push --quiet "$image" "$OUTPUT"

# --- the check -------------------------------------------------------------------------------

container=$("${buildah[@]}" from --pull-never "$image")
root=$("${buildah[@]}" mount "$container")
user=$("${buildah[@]}" inspect --type image --format '{{.OCIv1.Config.User}}' "$image")
if [[ ! $user =~ ^[1-9][0-9]*:[1-9][0-9]*$ ]]; then
  echo "the image's user is '$user': it must be another one than root, by number" >&2
  exit 1
fi
mapfile -t variables < <("${buildah[@]}" inspect --type image \
  --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' "$image")

# In a mount namespace of its own, as ECS runs it: a read-only root file system, no capabilities.
cat > "$work/start" << 'START'
set -e
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/dev"
for device in null:3 zero:5 random:8 urandom:9; do
  mknod -m 666 "$1/dev/${device%:*}" c 1 "${device#*:}"
done
mount -o remount,ro,bind "$1"
exec setpriv --no-new-privs chroot --userspec="$2" "$1" /usr/bin/env -i "${@:3}"
START
run() {
  exec unshare --mount bash "$work/start" "$root" "$user" "${variables[@]}" "$@"
}
now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }

if (run python3 -c 'open("/tmp/file", "w")') 2> /dev/null; then
  echo "the root file system can be written" >&2
  exit 1
fi
began=$(now_ms)
(run ORCHESTRATOR__ENVIRONMENT=local ORCHESTRATOR_LEDGER__BACKEND=memory \
  ORCHESTRATOR_TIERS__BACKEND=static ORCHESTRATOR_HTTP__HOST=127.0.0.1 \
  ORCHESTRATOR_HTTP__PORT="$port" orchestrator serve) > "$work/log" 2>&1 &
service=$!
until curl --silent --fail --noproxy '*' --output /dev/null "http://127.0.0.1:$port/readyz"; do
  if ! kill -0 "$service" 2> /dev/null || (($(now_ms) - began > 60000)); then
    echo "the service did not become ready:" >&2
    cat "$work/log" >&2
    exit 1
  fi
  sleep 0.05
done
start_ms=$(($(now_ms) - began))
uid=$(awk '/^Uid:/ {print $2}' "/proc/$service/status")
memory_kb=$(awk '/^VmRSS:/ {print $2}' "/proc/$service/status")
began=$(now_ms)
kill -TERM "$service"
code=0
wait "$service" || code=$?
stop_ms=$(($(now_ms) - began))
service=
if ((code)) || [[ $uid != "${user%:*}" ]]; then
  echo "the service ran as user $uid and ended with $code:" >&2
  cat "$work/log" >&2
  exit 1
fi
size=$("${buildah[@]}" images --format '{{.Size}}' "$image")
echo "image    $image, $size (of that the service: $(du -sm "$root/opt/orchestrator" | cut -f1) MB)"
echo "start    $start_ms ms until /readyz answered 200, as user $uid, root file system read-only"
echo "memory   $((memory_kb / 1024)) MB"
echo "SIGTERM  ended with 0 after $stop_ms ms"
