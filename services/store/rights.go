package store

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/redisfeed"
)

//go:embed rights.lua
var rightsScript string

// CheckRights fails when the Redis account may not run some commands, written as "SET cs:meta x". It runs
// none of them. Call it before work of several commands, so that the work does not stop halfway for lack of a
// right. It asks the master that holds the key.
func CheckRights(ctx context.Context, client *redisfeed.Client, key string, commands ...string) error {
	args := make([]any, len(commands))
	for i, command := range commands {
		args[i] = command
	}
	var refused string
	err := client.OnMaster(ctx, key, func(conn *redis.Conn) (err error) {
		refused, err = conn.Eval(ctx, checks+rightsScript, []string{key}, args...).Text()
		return err
	})
	if err != nil && strings.HasPrefix(err.Error(), "NOPERM") {
		return fmt.Errorf("the account of Redis may not do that; nothing was changed; use the operator's account "+
			"(deploy/redisacl/users.acl): %w", err)
	}
	if err != nil || refused == "" {
		return err
	}
	words := strings.Fields(refused)
	return fmt.Errorf("the account of Redis may not do %s; nothing was changed; use the operator's account "+
		"(deploy/redisacl/users.acl)",
		strings.Join(words[:min(len(words), 2)], " "))
}
