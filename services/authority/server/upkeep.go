package server

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/services/authority/internal/notify"
	"github.com/countersign/countersign/services/authority/internal/upkeep"
	"github.com/countersign/countersign/services/store"
)

// upkeepParts are what the upkeep needs besides the store. webhook is nil for none.
type upkeepParts struct {
	webhook *notify.Webhook
	metrics *upkeep.Metrics
	sent    *notify.Metrics
}

func (p *upkeepParts) register(registerer prometheus.Registerer) {
	p.metrics, p.sent = upkeep.NewMetrics(registerer), notify.NewMetrics(registerer)
}

// webhookOf returns the webhook of a configuration; nil for none.
func webhookOf(config Config) (*notify.Webhook, error) {
	switch {
	case config.NotifyURL == "" && config.NotifySecretFile == "":
		return nil, nil
	case config.NotifyURL == "" || config.NotifySecretFile == "":
		return nil, errors.New("want both of --notify-url and --notify-secret-file, or neither")
	}
	secret, err := os.ReadFile(config.NotifySecretFile)
	if err != nil {
		return nil, fmt.Errorf("--notify-secret-file: %w", err)
	}
	return notify.NewWebhook(config.NotifyURL, string(secret))
}

// keepUp does the upkeep of the store until ctx ends.
func (s *Server) keepUp(ctx context.Context, opened *store.Store) error {
	errands := store.NewErrands(s.usage, opened.Replica().Codec().StoreID())
	return upkeep.New(upkeep.Config{
		Lease: errands, Store: opened, Evidence: s.evidence, Metrics: s.upkeep.metrics, Log: s.config.Log,
		Outbox: notify.NewOutbox(errands, s.upkeep.webhook, s.upkeep.sent, s.config.Log),
	}).Run(ctx)
}
