#!/usr/bin/env bash
# Make the base image where no registry can be reached: Debian bookworm as its slim image has it, from packages alone.
# Usage: base_image.sh FOLDER: writes FOLDER/base.tar and a Dockerfile that unpacks it, once.
set -euo pipefail
folder=$1
[ -f "$folder/Dockerfile" ] && exit 0

command -v mmdebstrap >/dev/null || { echo "make images: needs mmdebstrap: apt-get install mmdebstrap" >&2; exit 1; }
mkdir -p "$folder"
# The same files are left out as in debian:bookworm-slim, and usrmerge with all of Perl: nothing is left to merge.
mmdebstrap --quiet --variant=minbase --include=usr-is-merged \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/lintian/*' \
  --customize-hook='chroot "$1" apt-get -qq -y --allow-remove-essential purge usrmerge perl ^perl-modules- ^libperl5 >/dev/null' \
  bookworm "$folder/base.tar"
printf 'FROM scratch\nADD base.tar /\nCMD ["bash"]\n' >"$folder/Dockerfile"
