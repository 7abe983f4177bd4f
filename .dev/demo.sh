# shellcheck shell=bash
# ./dev run: the service, and its main job done once in front of the user. Sourced by ./dev.

readonly DEMO_EVENT=E_PIKE_BLOCKED
# What stop_demo ends and removes, whenever the script exits.
server=""
listeners=()
work=""
address=""

# demo [--once] [FLAG…]
demo() {
  local flags=() once=false flag
  for flag in "$@"; do
    if [[ "$flag" == --once ]]; then once=true; else flags+=("$flag"); fi
  done
  address=$(client_address "$(listen_flag "${flags[@]}")")
  refuse_taken_port "$address"
  work=$(mktemp -d /tmp/ev-demo-XXXXXX)
  trap 'stop_demo' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM

  bazel-bin/server/eventvirtuald --http="$(free_http)" --allow_directory=/tmp,/var/log "${flags[@]}" &
  server=$!
  wait_for_server
  if $once; then
    show_one_event
  else
    show_one_event || true
    print_what_next
    wait "$server"
  fi
}

evctl() { bazel-bin/client/evctl --server "$address" "$@"; }

# The value of the last --listen among the flags, else eventvirtuald's default.
listen_flag() {
  local listen=127.0.0.1:7060
  while (($# > 0)); do
    case "$1" in
      --listen=* | -listen=*) listen="${1#*=}" ;;
      --listen | -listen) listen="${2:-}" ;;
    esac
    shift
  done
  echo "$listen"
}

# The first of a comma list, as a client on this machine reaches it.
client_address() {
  local first="${1%%,*}"
  first="${first/#0.0.0.0:/127.0.0.1:}"
  echo "${first/#\[::\]:/127.0.0.1:}"
}

is_taken() { (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null; }

refuse_taken_port() {
  [[ "$1" == unix:* ]] && return
  if is_taken "$1"; then
    die "$1 is taken by another program; choose another: ./dev run --listen=127.0.0.1:$((${1##*:} + 1))"
  fi
}

# Where operators look. It is off unless it is asked for; here any port will do, a --http among the flags wins.
free_http() { if is_taken 127.0.0.1:7063; then echo 127.0.0.1:0; else echo 127.0.0.1:7063; fi; }

stop_demo() {
  trap - INT TERM
  ((${#listeners[@]} == 0)) || kill "${listeners[@]}" 2>/dev/null || true
  if [[ -n "$server" ]]; then
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$work"
}

# until_true SECONDS COMMAND…
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.1
  done
}

server_answers() {
  kill -0 "$server" 2>/dev/null || die "eventvirtuald ended at its start; its own words are above"
  evctl transports >/dev/null 2>&1
}

wait_for_server() { until_true 10 server_answers || die "eventvirtuald does not answer at $address"; }

free_ports() {
  python3 - <<'PY'
import socket
held = [socket.socket() for _ in range(2)]
for s in held:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in held))
PY
}

# Applications as OpenSIPS knows them: one on a UDP port, one on a Unix socket; each writes down what it gets.
start_applications() {
  bazel-bin/client/evctl listen-udp "127.0.0.1:$udp_port" >"$work/udp" &
  listeners+=($!)
  python3 - "$work/app.sock" >"$work/unix" <<'PY' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True:
    print(s.recv(65536).decode(), flush=True)
PY
  listeners+=($!)
  until_true 10 applications_listen || die "the demo's own listeners did not start"
}

applications_listen() { [[ -S "$work/app.sock" ]] && grep -qi ":$(printf '%04x' "$udp_port") " /proc/net/udp; }

# A subscriber received the event when its name stands in what the subscriber wrote.
received() { grep -qs "$DEMO_EVENT" "$work/$1"; }

all_received() {
  local subscriber
  for subscriber in udp unix all.log failover.log; do received "$subscriber" || return; done
}

# show SUBSCRIBER TEXT
show() {
  if received "$1"; then
    printf '   %-38s %s\n' "$2" "$(grep -m 1 "$DEMO_EVENT" "$work/$1")"
  else
    printf '   %-38s RECEIVED NOTHING\n' "$2"
  fi
}

show_one_event() {
  local udp_port closed_port parallel failover status=0
  read -r udp_port closed_port < <(free_ports)
  start_applications
  parallel="virtual:PARALLEL udp:127.0.0.1:$udp_port unix:$work/app.sock flatstore:$work/all.log"
  failover="virtual:FAILOVER tcp:127.0.0.1:$closed_port flatstore:$work/failover.log"

  printf '\n== 1. Several applications subscribe as one, with one expiry\n'
  step subscribe "$DEMO_EVENT" "$parallel" --ttl 1h
  printf '\n== 2. Another tries TCP first (nobody listens there), and has a file to fall back on\n'
  step subscribe "$DEMO_EVENT" "$failover" --ttl 1h
  printf '\n== 3. An event is raised\n'
  step raise "$DEMO_EVENT" ip=192.0.2.11 count:=42 --wait delivered

  until_true 10 all_received || status=1
  printf '\n== 4. What each subscriber received\n'
  show udp "PARALLEL  udp:127.0.0.1:$udp_port"
  show unix "PARALLEL  unix:.../app.sock"
  show all.log "PARALLEL  flatstore:.../all.log"
  show failover.log "FAILOVER  flatstore:.../failover.log"
  printf '\n'

  evctl unsubscribe "$DEMO_EVENT" "$parallel" >/dev/null
  evctl unsubscribe "$DEMO_EVENT" "$failover" >/dev/null
  return "$status"
}

# step ARG…: shows the command, then does it. What it could not do, step 4 shows.
step() {
  local words=() word
  for word in "$@"; do
    if [[ "$word" == *" "* ]]; then words+=("'$word'"); else words+=("$word"); fi
  done
  printf '   $ evctl %s\n' "${words[*]}"
  evctl "$@" 2>&1 | sed 's/^/   /' || true
}

print_what_next() {
  local evctl="bazel-bin/client/evctl" call="grpcurl"
  [[ "$address" == 127.0.0.1:7060 ]] || evctl+=" --server $address"
  [[ -x "$GRPCURL" ]] && call="$GRPCURL"
  cat <<TEXT
== Serving on $address until Ctrl-C. In other terminals:
   bazel-bin/client/evctl listen-udp 127.0.0.1:9000
   $evctl subscribe E_TEST 'virtual:FAILOVER udp:127.0.0.1:9000 flatstore:/tmp/events.log' --ttl 1h
   $evctl raise E_TEST caller=alice count:=1
   $evctl watch
   $evctl endpoints
   curl http://127.0.0.1:7063/healthz    # or where the line above with msg=ready says http=; at / is the status page
   $call -plaintext $address list
   $call -plaintext -d '{"event":{"name":"E_TEST"}}' $address eventvirtual.v1.EventService/Raise
TEXT
}
