#!/usr/bin/env bash
# Tests docker-compose.yml end to end: with a killed validator, without Redis, with a third validator, and
# after everything was taken down and up. Leaves nothing running.
set -euo pipefail
cd "$(dirname "$0")/../.."

if docker compose version >/dev/null 2>&1; then
	compose=(docker compose)
else
	compose=(docker-compose)
fi
# Keep the containers and volumes of this test apart from an ordinary `up`.
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
	[ ! -e "$work/volumes" ] || sort -u "$work/volumes" | xargs -r docker volume rm -f >/dev/null 2>&1 || true
	rm -rf "$work"
	if [ $status -eq 0 ]; then echo "COMPOSE TEST PASSED (${SECONDS} s)"; else echo "COMPOSE TEST FAILED (${SECONDS} s)"; fi
	exit $status
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { echo "==> $*"; }

fail() {
	echo "$*" >&2
	return 1
}

# eventually SECONDS COMMAND... repeats a command until it succeeds, and shows only the last failure.
eventually() {
	local limit=$1 deadline=$((SECONDS + $1))
	shift
	until "$@" 2>"$work/last"; do
		if [ $SECONDS -ge $deadline ]; then
			cat "$work/last" >&2
			fail "failing for $limit s: $*"
			return 1
		fi
		sleep 0.5
	done
}

# containers SERVICE prints the ids of a service's running containers.
containers() { docker ps -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --filter "label=com.docker.compose.service=$1"; }

is_healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$1")" = healthy ] || fail "$1 is not healthy"; }

# healthy SERVICE COUNT checks that a service has COUNT containers, all healthy.
healthy() {
	local ids id
	ids=$(containers "$1")
	[ "$(wc -w <<<"$ids")" -eq "$2" ] || fail "$1 does not have $2 containers" || return
	for id in $ids; do is_healthy "$id" || return; done
}

up() {
	"${compose[@]}" up -d
	eventually 90 healthy redis 1
	eventually 90 healthy authority 1
	eventually 90 healthy validator 2
}

# collect saves the logs of all containers, which are lost with the containers. It also lists the volumes
# without a name, which outlive the containers.
collect() {
	"${compose[@]}" logs --no-color >"$work/latest" 2>&1
	# Otherwise the check of the logs would check nothing.
	grep -q 'store loaded' "$work/latest" || fail "the logs were not collected"
	cat "$work/latest" >>"$work/logs"
	docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" |
		xargs docker inspect -f '{{range .Mounts}}{{println .Name}}{{end}}' | { grep -E '^[0-9a-f]{64}$' || true; } >>"$work/volumes"
}

down() {
	collect
	"${compose[@]}" down
}

# manage ARGUMENT... calls the authority.
manage() { "${compose[@]}" exec -T authority /countersign "$@"; }

# create APP NAME prints the secret of a new token.
create() {
	manage token create --app "$1" --name "$2" --scopes events </dev/null >"$work/created" 2>"$work/error" || {
		cat "$work/error" >&2
		return 1
	}
	grep -o 'cs_[0-9A-Za-z]\{49\}' "$work/created" | head -n 1
}

create_second() { create $app second >"$work/second"; }

# published CONTAINER PORT prints the host address of a container's port.
published() { docker port "$1" "$2/tcp" | head -n 1; }

# on_host ARGUMENT... runs the command line outside the containers' network, like a caller on this machine.
on_host() { docker run --rm -i --network host countersign:local /countersign "$@"; }

# answers CODE CONTAINER SECRET asks a validator through its published port. CODE is the expected exit code: 0
# is ALLOW, 3 is DENY.
answers() {
	local want=$1 id=$2 secret=$3 got=0
	printf '%s\n' "$secret" | on_host authorize --validator "$(published "$id" 7071)" --app $app --scope events --secret-file - >"$work/answer" 2>&1 || got=$?
	[ $got -eq "$want" ] || fail "$id exits with $got, not $want: $(tail -n 2 "$work/answer")"
}

# all checks that each validator allows the first secret, and denies another app's secret and a revoked
# secret.
all() {
	local id
	for id in $(containers validator); do
		eventually 15 answers 0 "$id" "$secret"
		eventually 15 answers 3 "$id" "$foreign"
		[ -z "${revoked-}" ] || eventually 15 answers 3 "$id" "$revoked"
	done
}

# readyz CODE WORDS ADDRESS asks over HTTP whether a service is ready. An open port alone proves nothing,
# because Docker opens it.
readyz() {
	local host=${3%:*} port=${3##*:} page
	page=$(exec 3<>"/dev/tcp/$host/$port" && printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3 && cat <&3) || true
	[[ $page == "HTTP/1."?" $1 "*"$2"* ]] || fail "/readyz of $3, want $1 $2: $page"
}

# receipt COUNT makes a change and expects a receipt with COUNT validators, each under its container's name.
receipt() {
	local id
	manage token create --app $app --name "receipt $1 $RANDOM" --scopes events --wait </dev/null >"$work/receipt" 2>&1 || fail "$(sed 's/cs_[0-9A-Za-z]*/.../' "$work/receipt")" || return
	[ "$(grep -c ' APPLIED ' "$work/receipt")" -eq "$1" ] || fail "$(grep -v Secret "$work/receipt")" || return
	for id in $(containers validator); do
		grep -q "^$(docker inspect -f '{{.Config.Hostname}}' "$id"):7071  *APPLIED" "$work/receipt" || fail "$id is not in the receipt" || return
	done
}

# verify FILE verifies the store with the operator's account, and writes the result to a file.
verify() {
	manage store verify --redis-url redis://operator:${OPERATOR_PASSWORD:-operator}@redis:6379/0 --keyring-file /keys/keyring.json </dev/null >"$1"
}

# Remove the leftovers of a killed run.
"${compose[@]}" down -v --remove-orphans >/dev/null 2>&1

step "base images"
deploy/docker/base-images.sh

step "build and start"
"${compose[@]}" build >"$work/build" 2>&1 || {
	tail -n 40 "$work/build" >&2
	exit 1
}
up
eventually 10 on_host health "$(published "$(containers authority)" 7070)"
eventually 10 readyz 200 ok "$(published "$(containers authority)" 7080)"
for id in $(containers validator); do eventually 10 readyz 200 FRESH "$(published "$id" 7081)"; done

step "mint, authorize, enforce"
secret=$(create $app first)
foreign=$(create composeapp1 first)
for id in $(containers validator); do eventually 15 answers 0 "$id" "$secret"; done
manage app enforce --app $app --scopes events --allow-rejections </dev/null >/dev/null
all

step "a receipt of both validators"
eventually 15 receipt 2

step "revoke"
leaked=$(create $app leaked)
for id in $(containers validator); do eventually 15 answers 0 "$id" "$leaked"; done
printf '%s\n' "$leaked" | manage token revoke --secret-file - --wait >/dev/null
revoked=$leaked
for id in $(containers validator); do answers 3 "$id" "$revoked"; done

step "kill a validator"
killed=$(containers validator | head -n 1)
docker kill "$killed" >/dev/null
all
docker start "$killed" >/dev/null
eventually 60 is_healthy "$killed"
all

step "no Redis"
"${compose[@]}" stop redis
all
# Each validator writes its snapshot at its end at the latest.
for id in $(containers validator); do
	docker restart "$id" >/dev/null
	eventually 60 is_healthy "$id"
done
all
for id in $(containers validator); do eventually 30 readyz 200 STALE "$(published "$id" 7081)"; done
eventually 30 readyz 503 "Redis does not answer" "$(published "$(containers authority)" 7080)"
if on_host health "$(published "$(containers authority)" 7070)" >"$work/answer" 2>&1; then
	fail "the authority's gRPC health is SERVING without Redis"
fi
"${compose[@]}" start redis
eventually 30 healthy redis 1
eventually 30 readyz 200 ok "$(published "$(containers authority)" 7080)"
eventually 30 on_host health "$(published "$(containers authority)" 7070)"
eventually 30 receipt 2

step "one validator more"
"${compose[@]}" up -d --no-recreate --scale validator=3
eventually 90 healthy validator 3
eventually 30 receipt 3
all
collect
"${compose[@]}" up -d --no-recreate --scale validator=2
eventually 30 healthy validator 2
eventually 30 receipt 2

step "restart Redis"
if "${compose[@]}" exec -T redis env -u REDISCLI_AUTH redis-cli -e get cs:meta </dev/null >"$work/anonymous" 2>&1; then
	fail "Redis answers without a password: $(cat "$work/anonymous")"
fi
verify "$work/before"
"${compose[@]}" restart redis
eventually 30 healthy redis 1
verify "$work/after"
cmp "$work/before" "$work/after"
all
eventually 30 create_second
second=$(cat "$work/second")
for id in $(containers validator); do eventually 15 answers 0 "$id" "$second"; done

step "down and up again"
down
up
all
# Validators that were taken down have left the fleet, so no receipt waits for them.
eventually 30 receipt 2

step "no secret in any log"
collect
if grep -F -e "$secret" -e "$foreign" -e "$leaked" -e "$second" "$work/logs" >"$work/leaks"; then
	fail "$(wc -l <"$work/leaks") lines of the logs hold a secret: $(sed 's/cs_[0-9A-Za-z]*/cs_.../g' "$work/leaks" | head -n 3)"
fi
