# shellcheck shell=bash disable=SC2034 # the lists are used by ./dev
# What this project needs of Debian 12, and how it gets there. Sourced by ./dev.

readonly BUILD_PACKAGES=(
  bazel-bootstrap bazel-rules-java g++ libabsl-dev libc-ares-dev libcurl4-openssl-dev libevent-dev libgmock-dev
  libgrpc++-dev libgtest-dev libhiredis-dev libjemalloc-dev libmicrohttpd-dev libmosquitto-dev libnats-dev
  libnghttp2-dev libprotobuf-dev librabbitmq-dev librdkafka-dev libseccomp-dev libsimdjson-dev libsqlite3-dev libssl-dev
  prometheus-cpp-dev protobuf-compiler protobuf-compiler-grpc python3-protobuf zlib1g-dev
)
readonly TEST_PACKAGES=(
  bash-completion ca-certificates chromium chromium-driver golang-go iproute2 kcat mandoc maven mosquitto nats-server nftables
  nginx-light nodejs openjdk-17-jre-headless openssl prometheus protoc-gen-go protoc-gen-go-grpc python3-grpcio python3-pika
  python3-selenium python3-venv rabbitmq-server redis-server systemd util-linux
)
readonly LINT_PACKAGES=(clang-format git shellcheck)
readonly FUZZ_PACKAGES=(clang libclang-rt-14-dev)
readonly BENCH_PACKAGES=(
  libbenchmark-dev mosquitto nats-server python3-pika rabbitmq-server redis-server rsyslog util-linux valgrind
)
readonly PACKAGE_PACKAGES=(debhelper git lintian)
readonly BARE_PACKAGES=(debootstrap git util-linux)

# Of a package that starts a service when it is installed: its units.
declare -rA SERVICES=(
  [mosquitto]=mosquitto.service
  [nats-server]=nats-server.service
  [nginx-light]=nginx.service
  [prometheus]=prometheus.service
  [rabbitmq-server]="rabbitmq-server.service epmd.service epmd.socket"
  [redis-server]=redis-server.service
  [rsyslog]=rsyslog.service
)

readonly GRPCURL_VERSION=v1.9.1 # the newest that Debian 12's Go 1.19 was seen to build
declare -rx GRPCURL="$CACHE/grpcurl-$GRPCURL_VERSION/grpcurl"
readonly KAFKA_VERSION=4.1.1
declare -rx KAFKA_JARS="$CACHE/kafka-$KAFKA_VERSION"
# moto, an emulator of AWS: what its server needs for SQS, and no more (its extra "server" would be twice as much); and
# opensips-cli, OpenSIPS' own client of the management interface.
readonly PYTHON_TOOLS_PACKAGES=(
  moto==5.2.1 blinker==1.9.0 boto3==1.44.8 botocore==1.44.8 cffi==2.1.1 certifi==2026.10.19.post1
  charset-normalizer==3.5.3 click==8.5.1 cryptography==50.0.2 flask==3.1.3 flask-cors==6.0.5 idna==3.20 itsdangerous==2.2.0
  jinja2==3.1.6 jmespath==1.1.0 markupsafe==3.0.4 pycparser==3.12 python-dateutil==2.9.0.post0 pyyaml==6.0.4
  requests==2.34.2 responses==0.26.3 s3transfer==0.19.3 six==1.17.0 urllib3==2.8.0 werkzeug==3.1.9 xmltodict==1.0.4
  opensipscli==0.4.1 opensips==0.1.11 PyMySQL==1.2.4 SQLAlchemy==2.1.9 typing-extensions==4.16.0
)
# What the example clients need, by their own lock files.
GO_MODULES="$CACHE/go-modules-$(cksum <client/examples/go/go.sum | cut -d' ' -f1)"
NODE_MODULES="$CACHE/node-modules-$(cksum <client/examples/node/package-lock.json | cut -d' ' -f1)"
declare -rx GO_MODULES NODE_MODULES
# Another list is another environment.
PYTHON_TOOLS="$CACHE/python-tools-$(cksum <<<"${PYTHON_TOOLS_PACKAGES[*]}" | cut -d' ' -f1)"
declare -rx PYTHON_TOOLS

missing_packages() {
  local package
  for package in "$@"; do
    [[ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" == installed* ]] || echo "$package"
  done
}

# install_packages PACKAGE…: asks dpkg only, and returns at once when all are there.
install_packages() {
  local missing package units=() as_root=()
  command -v dpkg-query >/dev/null || die "not a Debian system; the build needs these packages of Debian 12: $*"
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]} > 0)) || return 0
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "packages are missing; as root: apt-get install --no-install-recommends ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  without_starting_services apt_install "${missing[@]}"
  # Nor at the next boot: tests and benchmarks start servers of their own, on free ports.
  for package in "${missing[@]}"; do
    # shellcheck disable=SC2206 # one word per unit
    units+=(${SERVICES[$package]:-})
  done
  if ((${#units[@]} > 0)) && command -v systemctl >/dev/null; then
    "${as_root[@]}" systemctl disable --quiet "${units[@]}" || true
  fi
}

apt_install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" \
    </dev/null >/dev/null # a line for each step of each package; what goes wrong is on stderr
}

# Debian's packages start their service when installed. A developer who runs our tests did not ask for a server on
# this machine, so policy-rc.d forbids it meanwhile; where the machine has a policy of its own, that one decides.
without_starting_services() {
  local policy=/usr/sbin/policy-rc.d status=0
  if [[ -e "$policy" ]]; then
    "$@"
    return
  fi
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod +x "$policy"
  "$@" || status=$?
  "${as_root[@]}" rm -f "$policy"
  return "$status"
}

# grpcurl is not in Debian 12. Built once, in a directory of its own so that nothing else stays behind.
install_grpcurl() {
  [[ -x "$GRPCURL" ]] && return
  local work
  work=$(mktemp -d)
  say "building grpcurl $GRPCURL_VERSION (once; into ${GRPCURL%/*})"
  env GOPATH="$work/path" GOCACHE="$work/cache" GOBIN="$work" GOFLAGS="-modcacherw -buildvcs=false" \
    /usr/bin/go install -ldflags='-s -w' "github.com/fullstorydev/grpcurl/cmd/grpcurl@$GRPCURL_VERSION" ||
    { rm -rf "$work" && die "grpcurl could not be built: is the Go module proxy reachable from here?"; }
  mkdir -p "${GRPCURL%/*}"
  mv "$work/grpcurl" "$GRPCURL"
  rm -rf "$work"
}

# Apache Kafka is not in Debian 12. The broker and what it needs, 45 files, from Maven Central, once.
install_kafka() {
  [[ -d "$KAFKA_JARS" ]] && return
  local work
  work=$(mktemp -d)
  say "fetching Apache Kafka $KAFKA_VERSION (once; into $KAFKA_JARS)"
  cat >"$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>eventvirtual</groupId><artifactId>kafka-broker</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA_VERSION</version>
    </dependency>
  </dependencies>
</project>
POM
  mvn --quiet --batch-mode --file "$work/pom.xml" -Dmaven.repo.local="$work/repository" \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/jars" >&2 ||
    { rm -rf "$work" && die "Apache Kafka could not be fetched: is Maven Central reachable from here?"; }
  mkdir -p "${KAFKA_JARS%/*}"
  mv "$work/jars" "$KAFKA_JARS"
  rm -rf "$work"
}

# Programs in Python that the tests drive and Debian 12 has not: an environment of their own, once. They know its path, so
# it is made in its place; the last file says that it is whole.
install_python_tools() {
  [[ -e "$PYTHON_TOOLS/complete" ]] && return
  say "fetching ${#PYTHON_TOOLS_PACKAGES[@]} Python packages (once; into $PYTHON_TOOLS)"
  /usr/bin/python3 -m venv --clear "$PYTHON_TOOLS"
  "$PYTHON_TOOLS/bin/pip" --quiet --disable-pip-version-check install --no-deps "${PYTHON_TOOLS_PACKAGES[@]}" >&2 ||
    die "the Python packages could not be fetched: is the Python Package Index reachable from here?"
  touch "$PYTHON_TOOLS/complete"
}

# What the example client in Go is made of: the modules, and what the compiler has made of them, so that a test compiles
# the example alone.
install_go_modules() {
  [[ -d "$GO_MODULES" ]] && return
  local work
  work=$(mktemp -d)
  say "fetching the modules of the example client in Go (once; into $GO_MODULES)"
  cp -r client/examples/go proto "$work/"
  (
    cd "$work/go"
    EVENTVIRTUAL_PROTO="$work/proto" ./generate.sh
    env GOMODCACHE="$work/cache/modules" GOCACHE="$work/cache/build" GOFLAGS="-modcacherw -buildvcs=false" \
      /usr/bin/go build -o "$work/client" .
  ) || { rm -rf "$work" && die "the modules could not be fetched: is the Go module proxy reachable from here?"; }
  mkdir -p "${GO_MODULES%/*}"
  mv "$work/cache" "$GO_MODULES"
  rm -rf "$work"
}

# What the example client in Node.js needs. npm comes with some packages of nodejs, and is one of its own in Debian.
install_node_modules() {
  [[ -d "$NODE_MODULES" ]] && return
  command -v npm >/dev/null || install_packages npm
  local work
  work=$(mktemp -d)
  say "fetching the modules of the example client in Node.js (once; into $NODE_MODULES)"
  cp client/examples/node/package.json client/examples/node/package-lock.json client/examples/node/.npmrc "$work/"
  (cd "$work" && npm ci --silent --no-audit --no-fund) ||
    { rm -rf "$work" && die "the modules could not be fetched: is the npm registry reachable from here?"; }
  mkdir -p "${NODE_MODULES%/*}"
  mv "$work" "$NODE_MODULES"
}
