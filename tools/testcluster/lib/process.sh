# Processes of a state folder: started once, known by pid and start time, stopped by nobody else. Sourced, not run.
# $STATE/process/NAME.pid holds "pid start-time", NAME.command what was run; $STATE/log/NAME.log what it printed.

# start NAME COMMAND...: in the background, unless it runs already.
start() {
  local name=$1; shift
  running "$name" && return 0
  mkdir -p "$STATE/process" "$STATE/log"
  printf '%q ' "$@" >"$STATE/process/$name.command"
  setsid nohup "$@" >>"$STATE/log/$name.log" 2>&1 </dev/null 9>&- &
  echo "$! $(start_time $!)" >"$STATE/process/$name.pid"
  STARTED+=("$name")
}
# What this command has started, for an end with nothing left behind when it fails.
STARTED=()
stop_what_started() { [ ${#STARTED[@]} = 0 ] || stop "${STARTED[@]}"; }

# The kernel gives a pid to another process in the end; the two together stay one process's own.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '{ print $20 }'; }

running() {
  local pid since
  read -r pid since 2>/dev/null <"$STATE/process/$1.pid" || return 1
  [ -n "$since" ] && [ "$(start_time "$pid")" = "$since" ] && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null
}

pid_of() { cut -d' ' -f1 "$STATE/process/$1.pid"; }

# names: what was started here, running or not.
names() { find "$STATE/process" -name '*.pid' -printf '%f\n' 2>/dev/null | sed 's/\.pid$//' | sort; }

# stop NAME...: SIGTERM to all of them at once, SIGKILL to what is left of one after 5 s: kube-apiserver waits for
# its clients' watches to end, a minute if need be.
stop() {
  local name tries
  for name; do running "$name" && kill "$(pid_of "$name")" 2>/dev/null; done
  for name; do
    for ((tries = 0; tries < 50; tries++)); do
      running "$name" || break
      sleep 0.1
    done
    running "$name" && kill -KILL -- "-$(pid_of "$name")" 2>/dev/null
    rm -f "$STATE/process/$name.pid"
  done
}

# restart NAME: the same command again.
restart() {
  local name=$1 command
  [ -f "$STATE/process/$name.command" ] || die "$name was never started in $STATE; it has: $(names | xargs)"
  eval "command=($(cat "$STATE/process/$name.command"))"
  stop "$name"
  start "$name" "${command[@]}"
}

# await NAME SECONDS COMMAND...: until COMMAND succeeds. Ends the script when NAME died, or when time is up.
await() {
  local name=$1 limit=$2 deadline; shift 2
  deadline=$((SECONDS + limit))
  until "$@" >/dev/null 2>&1; do
    running "$name" || give_up "$name" "ended at its start"
    [ $SECONDS -lt $deadline ] || give_up "$name" "was not ready after $limit s"
    sleep 0.1
  done
}

# give_up NAME WHAT: ends the script with the last lines that NAME printed.
give_up() {
  local log=$STATE/log/$1.log
  [ ! -f "$log" ] || { echo "--- the last lines of $log" >&2; tail -15 "$log" >&2; }
  die "$1 $2"
}
