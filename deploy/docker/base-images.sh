#!/usr/bin/env bash
# Provides the base images of Dockerfile and docker-compose.yml. Images that are present stay; others are
# pulled. When no registry can be reached, the script builds them from Debian's packages and this machine's Go
# (as root, on Debian). Such images are for tests only; the label countersign.base=local marks them.
set -euo pipefail

golang=golang:1.26-bookworm
redis=redis:7.0.15-bookworm

have() {
	docker image inspect "$1" >/dev/null 2>&1 || timeout 120 docker pull -q "$1" >/dev/null 2>&1
}

# debian DIR PACKAGE... installs a minimal Debian into DIR.
debian() {
	local dir=$1
	shift
	if ! command -v debootstrap >/dev/null; then
		apt-get -qq update
		DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends debootstrap
	fi
	local packages
	packages=$(IFS=,; echo "$*")
	debootstrap --variant=minbase --include="$packages" bookworm "$dir" >"$dir.log" 2>&1 || {
		tail -n 20 "$dir.log" >&2
		return 1
	}
	rm -rf "$dir"/var/cache/apt/archives/*.deb "$dir"/var/lib/apt/lists/*
}

# image NAME DIR CHANGE... builds an image from DIR.
image() {
	local name=$1 dir=$2 changes=(--change 'LABEL countersign.base=local')
	shift 2
	for change in "$@"; do changes+=(--change "$change"); done
	tar -C "$dir" --one-file-system --exclude='./proc/*' --exclude='./sys/*' -c . | docker import "${changes[@]}" - "$name" >/dev/null
	echo "built $name here, because no registry can be reached"
}

missing=()
for name in $golang $redis; do
	have $name || missing+=($name)
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || [ ! -e /etc/debian_version ]; then
	echo "cannot pull these images, and building them here needs root on Debian: ${missing[*]}" >&2
	exit 1
fi
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT

for name in "${missing[@]}"; do
	case $name in
	"$golang")
		case $(go env GOVERSION) in
		go1.26 | go1.26.*) ;;
		*) echo "$golang cannot be built from $(go env GOVERSION)" >&2 && exit 1 ;;
		esac
		debian "$work/golang" ca-certificates
		# A proxy for modules may have a certificate that only this machine trusts.
		cp /etc/ssl/certs/ca-certificates.crt "$work/golang/etc/ssl/certs/"
		cp -rL "$(go env GOROOT)" "$work/golang/usr/local/go"
		mkdir "$work/golang/go"
		image $golang "$work/golang" 'ENV GOPATH=/go GOTOOLCHAIN=local' 'WORKDIR /go' \
			'ENV PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
		;;
	"$redis")
		debian "$work/redis" redis-server
		version=$(chroot "$work/redis" redis-server --version)
		case $version in
		*v=7.0.15*) ;;
		*) echo "$redis cannot be built from: $version" >&2 && exit 1 ;;
		esac
		install -d -m 0750 "$work/redis/data"
		chroot "$work/redis" chown redis:redis /data
		# As in the official image, a container without published ports accepts clients without a password.
		cat >"$work/redis/usr/local/bin/entrypoint" <<'EOF'
#!/bin/sh
[ "$1" != redis-server ] || set -- "$@" --protected-mode no
exec "$@"
EOF
		chmod 755 "$work/redis/usr/local/bin/entrypoint"
		image $redis "$work/redis" 'WORKDIR /data' 'VOLUME /data' 'EXPOSE 6379' 'USER redis' \
			'ENTRYPOINT ["/usr/local/bin/entrypoint"]' 'CMD ["redis-server"]'
		;;
	esac
done
