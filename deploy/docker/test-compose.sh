#!/usr/bin/env bash
# Tests docker-compose.yml end to end: a token is minted, authorized and enforced on both validators, and all of it is
# still there after Redis has restarted and after everything was taken down and up. Leaves nothing running.
set -euo pipefail
cd "$(dirname "$0")/../.."

if docker compose version >/dev/null 2>&1; then
	compose=(docker compose)
else
	compose=(docker-compose)
fi
# Containers and volumes of this test are not those of somebody's own `up`.
export COMPOSE_PROJECT_NAME=countersign-test
app=composeapp0
work=$(mktemp -d)

cleanup() {
	local status=$?
	trap - EXIT INT TERM
	if [ $status -ne 0 ]; then
		"${compose[@]}" ps || true
		"${compose[@]}" logs --no-color --tail=40 || true
	fi
	"${compose[@]}" down -v --remove-orphans >"$work/down" 2>&1 || cat "$work/down"
	rm -rf "$work"
	if [ $status -eq 0 ]; then echo "COMPOSE TEST PASSED (${SECONDS} s)"; else echo "COMPOSE TEST FAILED (${SECONDS} s)"; fi
	exit $status
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { echo "==> $*"; }

# eventually SECONDS COMMAND... repeats a command until it succeeds; only the last failure is shown.
eventually() {
	local limit=$1 deadline=$((SECONDS + $1))
	shift
	until "$@" 2>"$work/last"; do
		if [ $SECONDS -ge $deadline ]; then
			cat "$work/last" >&2
			echo "failing for $limit s: $1 $2" >&2
			return 1
		fi
		sleep 0.5
	done
}

healthy() {
	local id
	id=$("${compose[@]}" ps -q "$1")
	[ -n "$id" ] && [ "$(docker inspect -f '{{.State.Health.Status}}' "$id")" = healthy ]
}

up() {
	"${compose[@]}" up -d
	for service in redis authority validator-1 validator-2; do eventually 90 healthy $service; done
}

# create APP NAME prints the secret of a new token.
create() {
	"${compose[@]}" exec -T authority /countersign token create --app "$1" --name "$2" --scopes events </dev/null >"$work/created" 2>"$work/error" || {
		cat "$work/error" >&2
		return 1
	}
	grep -o 'cs_[0-9A-Za-z]\{49\}' "$work/created" | head -n 1
}

create_second() { create $app second >"$work/second"; }

# answers CODE SERVICE SECRET asks a validator; 0 is ALLOW, 3 is DENY.
answers() {
	local want=$1 service=$2 secret=$3 got=0
	printf '%s\n' "$secret" | "${compose[@]}" exec -T "$service" /countersign authorize \
		--validator localhost:7071 --app $app --scope events --secret-file - >"$work/answer" 2>&1 || got=$?
	[ $got -eq "$want" ] || {
		echo "$service exits with $got, not $want: $(tail -n 2 "$work/answer")" >&2
		return 1
	}
}

# both checks that each validator allows the first secret, and denies that of another app.
both() {
	for service in validator-1 validator-2; do
		eventually 15 answers 0 $service "$secret"
		eventually 15 answers 3 $service "$foreign"
	done
}

# verify FILE proves the store with the operator's account, and writes to a file what is in it.
verify() {
	"${compose[@]}" exec -T authority /countersign store verify --redis-url redis://operator:${OPERATOR_PASSWORD:-operator}@redis:6379/0 \
		--keyring-file /keys/keyring.json </dev/null >"$1"
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# What a killed run left behind.
"${compose[@]}" down -v --remove-orphans >/dev/null 2>&1

step "base images"
deploy/docker/base-images.sh

step "build and start"
"${compose[@]}" build >"$work/build" 2>&1 || {
	tail -n 40 "$work/build" >&2
	exit 1
}
up
for port in 7070 7080 7071 7081 7072 7082; do eventually 10 listens $port; done

step "mint, authorize, enforce"
secret=$(create $app first)
foreign=$(create composeapp1 first)
for service in validator-1 validator-2; do eventually 15 answers 0 $service "$secret"; done
"${compose[@]}" exec -T authority /countersign app enforce --app $app --scopes events </dev/null >/dev/null
both

step "a receipt of both validators"
"${compose[@]}" exec -T authority /countersign token create --app $app --name receipt --scopes events --wait </dev/null >"$work/receipt"
for service in validator-1 validator-2; do grep -q "^$service  *APPLIED" "$work/receipt"; done

step "restart Redis"
if "${compose[@]}" exec -T redis env -u REDISCLI_AUTH redis-cli -e get cs:meta </dev/null >"$work/anonymous" 2>&1; then
	echo "Redis answers without a password: $(cat "$work/anonymous")" >&2
	exit 1
fi
verify "$work/before"
"${compose[@]}" restart redis
eventually 30 healthy redis
verify "$work/after"
cmp "$work/before" "$work/after"
both
eventually 30 create_second
second=$(cat "$work/second")
for service in validator-1 validator-2; do eventually 15 answers 0 $service "$second"; done

step "down and up again"
"${compose[@]}" down
up
both

step "no secret in any log"
"${compose[@]}" logs --no-color >"$work/logs" 2>&1
if grep -F -e "$secret" -e "$foreign" -e "$second" "$work/logs" >/dev/null; then
	echo "a secret is in the logs" >&2
	exit 1
fi
