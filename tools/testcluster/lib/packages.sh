# Debian packages that a node is made of. Sourced, not run.

# A fresh machine updates its lists, or upgrades, by itself: whoever holds a lock of apt or dpkg is waited for.
APT_SECONDS=${APT_SECONDS:-600}

# apt_get ARGUMENT...: apt-get, which waits for dpkg's locks by itself, and for that of its lists not at all.
apt_get() {
  local until=$((SECONDS + APT_SECONDS)) said
  while ! said=$(apt-get -o "DPkg::Lock::Timeout=$APT_SECONDS" "$@" 2>&1); do
    printf '%s\n' "$said"
    { grep -q 'Could not get lock' <<<"$said" && [ $SECONDS -lt $until ]; } || return 1
    sleep 1
  done
  printf '%s\n' "$said"
}

# need_packages NAME...: installs what is missing, as root; says what to install otherwise. No service of theirs starts.
need_packages() {
  local package missing=()
  for package; do
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return 0
  command -v apt-get >/dev/null || die "install these packages first: ${missing[*]}"
  [ "$(id -u)" = 0 ] || die "install these packages first: apt-get install ${missing[*]}"
  say "installing ${missing[*]} (the log is $CACHE/packages.log)"
  (
    # Debian's own switch against services that start when they are installed; somebody else's stays.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      trap 'rm -f "$policy"' EXIT
      trap 'exit 1' INT TERM HUP
      printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"
    fi
    # Nothing that is there is removed for it: Docker's own packages conflict with Debian's containerd.
    export DEBIAN_FRONTEND=noninteractive
    apt_get update && apt_get install -y --no-install-recommends --no-remove "${missing[@]}"
  ) >"$CACHE/packages.log" 2>&1 || { tail -5 "$CACHE/packages.log" >&2; die "apt-get could not install ${missing[*]}"; }
}
