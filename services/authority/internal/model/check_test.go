package model

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
)

// watch checks a validator whenever it changes.
func (w *world) watch(ctx context.Context, m *member) {
	for {
		next := m.replica.Changed()
		w.look(m)
		select {
		case <-ctx.Done():
			return
		case <-next:
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// look checks the present data of a validator.
func (w *world) look(m *member) {
	for p := range partitions {
		cursor, sum, loaded := m.replica.State(p)
		if !loaded {
			continue
		}
		w.mu.Lock()
		head, known := w.states[p][cursor]
		w.mu.Unlock()
		if !known || w.codec.SealSum(p, sum) != head.State {
			w.Errorf("seed %d: %s shows a state of partition %d at %v that no master had", w.seed, m.name, p, cursor)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	shown := w.revoked[m.name]
	if shown == nil {
		shown = map[string]bool{}
		w.revoked[m.name] = shown
	}
	now := map[string]policy.State{}
	for _, app := range w.apps {
		entry := m.replica.Table().Find(app).Entry()
		if entry == nil || entry.Policy == nil {
			continue
		}
		for _, t := range entry.Policy.Tokens() {
			now[app+"/"+t.ID] = t.State
			if t.State == policy.Revoked {
				shown[app+"/"+t.ID] = true
			}
		}
		for token := range shown {
			if state, there := now[token]; strings.HasPrefix(token, app+"/") && (!there || state != policy.Revoked) {
				w.Errorf("seed %d: %s showed %s revoked, and now in state %d", w.seed, m.name, token, state)
			}
		}
	}
}

// documents returns the master's documents of all apps.
func (w *world) documents() map[string]*record.Document {
	w.redis.mu.Lock()
	defer w.redis.mu.Unlock()
	all := map[string]*record.Document{}
	for _, p := range w.redis.master.data.partitions {
		for appID, raw := range p.documents {
			d, err := w.codec.OpenDocument(appID, raw)
			if err != nil {
				w.Errorf("seed %d: %v", w.seed, err)
				continue
			}
			all[appID] = d
		}
	}
	return all
}

// difference returns a difference between a process and the store; empty when there is none.
func (w *world) difference() string {
	documents := w.documents()
	for p := range partitions {
		w.redis.mu.Lock()
		raw := w.redis.master.data.partitions[p].head
		w.redis.mu.Unlock()
		head, err := w.codec.OpenHead(p, raw)
		if err != nil {
			return err.Error()
		}
		for _, m := range w.members {
			cursor, sum, loaded := m.replica.State(p)
			age, stale := m.replica.Freshness(p, time.Now())
			switch {
			case !loaded || cursor != head.Cursor:
				return fmt.Sprintf("%s has partition %d at %v, the store at %v", m.name, p, cursor, head.Cursor)
			case w.codec.SealSum(p, sum) != head.State:
				return fmt.Sprintf("%s has another sum of partition %d", m.name, p)
			case m.replica.Forked(p):
				return fmt.Sprintf("%s takes partition %d for forked, and holds %d changes", m.name, p, len(m.replica.Orphans(p)))
			case len(m.replica.Sticky(p)) > 0:
				return fmt.Sprintf("%s holds against the store %+v", m.name, m.replica.Sticky(p))
			case w.lacking(m, p) > 0:
				return fmt.Sprintf("%s lacks %d entries of the log of partition %d", m.name, w.lacking(m, p), p)
			case stale:
				return fmt.Sprintf("%s has partition %d %v old", m.name, p, age)
			}
		}
	}
	for _, m := range w.members {
		for _, app := range w.apps {
			entry := m.replica.Table().Find(app).Entry()
			d := documents[app]
			if entry == nil && d == nil {
				continue
			}
			if entry == nil || d == nil || entry.Revision != d.Revision {
				return fmt.Sprintf("%s has %s as %+v", m.name, app, entry)
			}
			if want, err := d.Policy(); err != nil || !slices.Equal(want.Tokens(), entry.Policy.Tokens()) {
				return fmt.Sprintf("%s has other tokens of %s (%v)", m.name, app, err)
			}
		}
	}
	return ""
}

// check compares the changes that callers know with the data.
func (w *world) check() {
	documents := w.documents()
	state := map[string]policy.State{}
	names := map[string]string{}
	for app, d := range documents {
		for _, t := range d.Tokens {
			state[app+"/"+t.ID], names[app+"/"+t.ID] = t.State, t.Name
		}
	}
	for _, change := range w.written {
		key := change.app + "/" + change.token
		now, there := state[key]
		switch {
		case change.revoke && now != policy.Revoked:
			w.Errorf("seed %d: %s was revoked at %v, and is in state %d", w.seed, key, change.at, now)
		case there && names[key] != change.token && now != policy.Revoked:
			w.Errorf("seed %d: %s lost its name: %q", w.seed, key, names[key])
		case there:
		case !w.lossy || change.acknowledged:
			w.Errorf("seed %d: %s was made at %v, and is gone; the replica had it: %t", w.seed, key, change.at, change.acknowledged)
		default:
			w.tally.superseded++
		}
	}
}
