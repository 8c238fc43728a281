// Command authority owns the tokens and the enforcement of all apps. It serves management over gRPC, and is
// the only writer of the store.
package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/authority/server"
	"github.com/countersign/countersign/services/internal/daemon"
	"github.com/countersign/countersign/services/internal/settings"
)

func main() {
	var adminKeys, floorFile, notifyURL, notifySecret string
	var insecure bool
	var verifyInterval *time.Duration
	var usageRedis *string
	os.Exit(daemon.Main(daemon.Service{
		Name:       "authority",
		Short:      "Own tokens and enforcement: serve management over gRPC and write the store",
		Listen:     ":7070",
		HTTPListen: ":7080",
		Flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&adminKeys, "admin-keys-file", "", "`file` of the admin keys that may call")
			cmd.Flags().StringVar(&floorFile, "floor-file", "", "`file` of this authority alone in which it keeps how far it has "+
				"seen the store: "+
				"one that comes back empty, or older, is then refused also when everything was started again")
			verifyInterval = settings.Duration(cmd.Flags(), "verify-interval", server.DefaultVerifyInterval, 0, 24*time.Hour,
				"`pause` between two partitions of the store that are proven in the background; 0 proves none")
			usageRedis = settings.RedisURL(cmd.Flags(), "usage-redis-url", "",
				"another Redis for usage counts, so that they take no memory from the store's; give every authority the same "+
					"(default: the Redis of the store)")
			cmd.Flags().StringVar(&notifyURL, "notify-url", "", "`URL` to which notices are sent, https except on loopback")
			cmd.Flags().StringVar(&notifySecret, "notify-secret-file", "",
				"`file` with the secret that signs notices, as whsec_ and base64 (Standard Webhooks)")
			cmd.Flags().BoolVar(&insecure, "insecure-dev", false, "let anyone call, on a loopback address only")
		},
		New: func(c daemon.Config) (daemon.Runner, error) {
			return server.New(server.Config{
				Config: c, AdminKeysFile: adminKeys, InsecureDev: insecure, FloorFile: floorFile, VerifyInterval: *verifyInterval,
				UsageRedisURL: *usageRedis,
				NotifyURL:     notifyURL, NotifySecretFile: notifySecret,
			})
		},
	}))
}
