# Debian packages that a node is made of. Sourced, not run.

# need_packages NAME...: installs what is missing, as root; says what to install otherwise. No service of theirs starts.
need_packages() {
  local package missing=()
  for package; do
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return 0
  command -v apt-get >/dev/null || die "install these packages first: ${missing[*]}"
  [ "$(id -u)" = 0 ] || die "install these packages first: apt-get install ${missing[*]}"
  say "installing ${missing[*]}"
  (
    # Debian's own switch against services that start when they are installed; somebody else's stays.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      trap 'rm -f "$policy"' EXIT
      trap 'exit 1' INT TERM HUP
      printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"
    fi
    # Nothing that is there is removed for it: Docker's own packages conflict with Debian's containerd.
    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --no-remove "${missing[@]}"
  ) >"$CACHE/packages.log" 2>&1 || { tail -5 "$CACHE/packages.log" >&2; die "apt-get could not install ${missing[*]}"; }
}
