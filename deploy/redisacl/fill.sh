#!/bin/sh
# Prints users.acl with the SHA-256 of each account's password. The passwords come from the environment:
# AUTHORITY_PASSWORD, VALIDATOR_PASSWORD and so on. Accounts without a password are left out.
set -eu
while IFS= read -r line; do
	case $line in
	*'#SHA256_OF_'*)
		name=${line#*'#SHA256_OF_'}
		name=${name%% *}
		eval "password=\${$name:-}"
		[ -n "$password" ] || continue
		hash=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
		printf '%s\n' "${line%%'#'*}#$hash ${line#*"$name "}"
		;;
	*) printf '%s\n' "$line" ;;
	esac
done <"$(dirname "$0")/users.acl"
