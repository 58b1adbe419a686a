# Free ports of 127.0.0.1. Sourced, not run.

# free_ports COUNT: below those that the kernel gives to outgoing connections, so that none is lost before it is used.
free_ports() {
  python3 - "$1" <<'PYTHON'
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    candidate = socket.socket()
    try:
        candidate.bind(("127.0.0.1", random.randint(20000, 32000)))
        held.append(candidate)
    except OSError:
        candidate.close()
print(*(candidate.getsockname()[1] for candidate in held))
PYTHON
}

# fresh COUNT: $STATE/ports with as many, and no log of what was there before: its audit log would be counted too.
fresh() {
  mkdir -p "$STATE/log"
  rm -f "$STATE"/log/*.log "$STATE"/log/*.jsonl
  free_ports "$1" >"$STATE/ports"
}
