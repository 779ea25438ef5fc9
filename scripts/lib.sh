# What the scripts of the local stack share; sourced from the top folder.
STATE=${STATE:-.local} # where process ids, logs and the build of this stack are
PORT=${PORT:-$(cat "$STATE/port" 2>/dev/null || echo 4566)} # of the stack that is up, until make down
STACK_NAME=${STACK_NAME:-download}
export AWS_ENDPOINT_URL=http://127.0.0.1:$PORT
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1
export SAM_CLI_TELEMETRY=0 AWS_PAGER=''
unset AWS_PROFILE AWS_SESSION_TOKEN

say() { echo "$(basename "$0" .sh): $*"; }
die() { echo "$(basename "$0" .sh): $*" >&2; exit 1; }

# start NAME COMMAND… runs it in the background in a process group of its own.
start() {
  local name=$1
  shift
  set -m # which gives it the group
  "$@" >"$STATE/$name.log" 2>&1 </dev/null &
  set +m
  echo "$! $(boot) $(began $!)" >"$STATE/$name.pid"
}

# began PID prints when a process began, nothing if there is none.
began() {
  if [ -e /proc/self/stat ]; then
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20 # the name before it may hold spaces and brackets
  else
    ps -o lstart= -p "$1" | tr ' ' _
  fi
}

# boot names what process ids are of: this start of the machine or container.
boot() { echo "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null):$(began 1)"; }

# ours NAME says whether its id, which it sets as pid, is of what start has started, or of its group alone where that
# has ended. After a reboot the same number is anybody's.
ours() {
  local booted born now
  read -r pid booted born 2>/dev/null <"$STATE/$1.pid" || return
  now=$(began "$pid") || true
  [ "$booted" = "$(boot)" ] && { [ -z "$now" ] || [ "$now" = "$born" ]; }
}

running() {
  local pid
  ours "$1" && kill -0 "$pid" 2>/dev/null
}

# gone SECONDS ID waits until no process of the group is left.
gone() {
  for _ in $(seq $(($1 * 10))); do
    kill -0 -- "-$2" 2>/dev/null || return 0
    sleep 0.1
  done
  return 1
}

# stop NAME ends the process and all it started, politely first.
stop() {
  local pid
  if ours "$1"; then
    kill -TERM -- "-$pid" 2>/dev/null || true
    gone 15 "$pid" || kill -KILL -- "-$pid" 2>/dev/null || true
    gone 5 "$pid" || true # what was killed holds its port a moment longer
  fi
  rm -f "$STATE/$1.pid"
}

# get URL prints what is there; for this machine's own servers, so past any proxy.
get() {
  python3 -c 'import sys, urllib.request as u; sys.stdout.buffer.write(u.build_opener(u.ProxyHandler({})).open(sys.argv[1], timeout=10).read())' "$1"
}

# wait_for NAME COMMAND… until the command succeeds, for half a minute or until NAME dies.
wait_for() {
  local name=$1
  shift
  for _ in $(seq 300); do
    "$@" >/dev/null 2>&1 && return
    running "$name" || die "$name did not start: $(tail -n 1 "$STATE/$name.log")"
    sleep 0.1
  done
  die "$name was not ready in 30 s; see $STATE/$name.log"
}

free_port() {
  if python3 -c 'import socket, sys; sys.exit(socket.socket().connect_ex(("127.0.0.1", int(sys.argv[1]))))' "$1"; then
    die "port $1 is taken, and $2 needs it; stop what uses it or choose another with PORT=…"
  fi
}

# quietly NAME COMMAND… shows the output only when the command fails.
quietly() {
  local name=$1
  shift
  "$@" >"$STATE/$name.log" 2>&1 || { grep -v 'File with same data already exists' "$STATE/$name.log" >&2 || true; die "$name failed"; }
}
