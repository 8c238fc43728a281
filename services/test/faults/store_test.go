package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
)

// view is the content of all masters. Each partition was read at some time between begun and ended.
type view struct {
	from, to moment
	// seen marks the partitions that some master had.
	seen      []bool
	heads     map[int]record.Head
	documents map[string]*record.Document
}

var errNotWhole = errors.New("not every partition has a master that answers")

// look reads the heads and documents of all partitions from the masters, without the proxies. It fails when
// one cannot be read; a missing head is no error.
func look(ctx context.Context, o *oracle, masters []*node, codec *record.Codec) (*view, error) {
	v, err := lookAt(ctx, o, masters, codec)
	if err == nil && slices.Contains(v.seen, false) {
		return nil, errNotWhole
	}
	return v, err
}

// lookAt is like look, but reads only the partitions of the given masters.
func lookAt(ctx context.Context, o *oracle, masters []*node, codec *record.Codec) (*view, error) {
	v := &view{
		from: o.now(), seen: make([]bool, codec.Partitions()), heads: map[int]record.Head{},
		documents: map[string]*record.Document{},
	}
	for _, master := range masters {
		var heads []*redis.StringCmd
		var documents []*redis.MapStringStringCmd
		_, _ = master.direct.Pipelined(ctx, func(pipe redis.Pipeliner) error { // each command reports its own error
			for i := range v.seen {
				keys := record.KeysOf(i)
				heads, documents = append(heads, pipe.Get(ctx, keys.Head)), append(documents, pipe.HGetAll(ctx, keys.Policies))
			}
			return nil
		})
		for i := range v.seen {
			if err := heads[i].Err(); err != nil && !errors.Is(err, redis.Nil) {
				if strings.HasPrefix(err.Error(), "MOVED") {
					continue
				}
				return nil, err
			}
			if err := documents[i].Err(); err != nil {
				return nil, err
			}
			v.seen[i] = true
			if err := v.add(codec, i, []byte(heads[i].Val()), documents[i].Val()); err != nil {
				return nil, err
			}
		}
	}
	v.to = o.now()
	return v, nil
}

func (v *view) add(codec *record.Codec, partition int, head []byte, documents map[string]string) error {
	if len(head) > 0 {
		opened, err := codec.OpenHead(partition, head)
		if err != nil {
			return fmt.Errorf("partition %d: %w", partition, err)
		}
		v.heads[partition] = opened
	}
	for appID, raw := range documents {
		d, err := codec.OpenDocument(appID, []byte(raw))
		if err != nil {
			return err
		}
		v.documents[appID] = d
	}
	return nil
}

// addsUp reports whether the documents of every partition match the digest in its head. After a torn file,
// Redis may replay half of a change: then the documents have the change, but a validator that compares heads
// misses it.
func (v *view) addsUp(codec *record.Codec) bool {
	sums := map[int]record.Sum{}
	for partition, head := range v.heads {
		sums[partition] = head.State.EmptySum()
	}
	for appID, d := range v.documents {
		partition := codec.PartitionOf(appID)
		if sum, known := sums[partition]; known {
			sums[partition] = codec.Add(sum, partition, appID, d.Revision)
		}
	}
	for partition, sum := range sums {
		if codec.SealSum(partition, sum) != v.heads[partition].State {
			return false
		}
	}
	return true
}

// gap is an acknowledged change that the store does not have.
type gap struct {
	app     *app
	missing made
	// A missing revocation is never acceptable.
	revocation bool
	what       string
	// holds reports whether the missing change is part of a given state of the app.
	holds func(policy.Enforcement, []policy.Token) bool
	// rival reports whether the same token or setting was or may have been changed after a given time.
	rival func(moment) bool
	// adopt makes the oracle accept the value that the store has instead.
	adopt func(made)
}

// gaps compares a view with the changes that were acknowledged before it was read.
func (o *oracle) gaps(v *view) []gap {
	o.mu.Lock()
	apps := o.apps
	o.mu.Unlock()
	var all []gap
	for _, a := range apps {
		d := v.documents[a.id]
		add(&all, v, a, a.setting, settingOf(d), "app "+a.id, equal, a.setting.changedSince,
			func(e policy.Enforcement, _ []policy.Token, wanted setting) bool {
				return e.Scopes == wanted.scopes
			})
		tokens := tokensOf(d)
		for _, t := range a.list() {
			name, stored := "token "+t.id+" of app "+a.id, credentialOf(tokens[t.id])
			if stored.state == policy.Revoked && t.revoked.Load() != 0 {
				continue // a token may exist once its creation was sent
			}
			add(&all, v, a, t.state, stored.state, name, equal, t.changedSince,
				func(_ policy.Enforcement, tokens []policy.Token, wanted policy.State) bool {
					return t.among(tokens, func(has policy.Token) bool { return has.State == wanted })
				})
			if stored.state == 0 || lastAcked(t.state).value == policy.Revoked {
				continue
			}
			add(&all, v, a, t.scopes, stored.scopes, name, equal, t.changedSince,
				func(_ policy.Enforcement, tokens []policy.Token, wanted policy.ScopeSet) bool {
					return t.among(tokens, func(has policy.Token) bool { return has.Scopes == wanted })
				})
			add(&all, v, a, t.expiry, stored.expiry, name, within, t.changedSince,
				func(_ policy.Enforcement, tokens []policy.Token, wanted expiry) bool {
					return t.among(tokens,
						func(has policy.Token) bool { return within(expiry{has.ExpireMillis, has.ExpireMillis}, wanted) })
				})
		}
	}
	return all
}

// add appends a gap when the store has a value that the register cannot have.
func add[V any](all *[]gap, v *view, a *app, r *register[V], stored V, name string, same func(stored, set V) bool,
	rival func(moment) bool, holds func(policy.Enforcement, []policy.Token, V) bool,
) {
	found := false
	r.possible(nil, span{low: v.from, end: v.to}, func(value V) { found = found || same(stored, value) })
	if found {
		return
	}
	acked := lastAcked(r)
	*all = append(*all, gap{
		app: a, missing: acked.made, revocation: any(acked.value) == policy.Revoked,
		what:  fmt.Sprintf("%s: the store has %v, but %s", name, stored, history(r)),
		rival: rival,
		holds: func(e policy.Enforcement, tokens []policy.Token) bool { return holds(e, tokens, acked.value) },
		adopt: func(m made) { r.set(stored, m) },
	})
}

func equal[V comparable](stored, set V) bool { return stored == set }

// within reports whether an expiry that was read is one that was set. A token that never expires has the
// number 0, which lies in no span, although a span that begins at endedAtOnce contains that number.
func within(stored, set expiry) bool {
	if never := (expiry{}); stored == never || set == never {
		return stored == set
	}
	return set.from <= stored.from && stored.to <= set.to
}

// among finds the token in a list of tokens, and reports whether a condition holds for it.
func (t *token) among(tokens []policy.Token, holds func(policy.Token) bool) bool {
	return slices.ContainsFunc(tokens, func(has policy.Token) bool { return has.ID == t.id && holds(has) })
}

// unknownTokens returns the tokens of a view that no writer can have created.
func (o *oracle) unknownTokens(v *view) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	known := map[string]*app{}
	for _, a := range o.apps {
		known[a.id] = a
	}
	var all []string
	for appID, d := range v.documents {
		a := known[appID]
		if a == nil {
			all = append(all, "app "+appID)
			continue
		}
		a.mu.Lock()
		ids := map[string]bool{}
		for _, t := range a.list() {
			ids[t.id] = true
		}
		for i := range d.Tokens {
			if t := &d.Tokens[i]; !ids[t.ID] && !a.doubtful[t.Name] {
				all = append(all, fmt.Sprintf("token %s (%s) of app %s", t.ID, t.Name, appID))
			}
		}
		a.mu.Unlock()
	}
	return all
}

// changedSince reports whether a value was or may have been set after a given time.
func (r *register[V]) changedSince(at moment) bool {
	return slices.ContainsFunc(r.all(), func(w write[V]) bool { return w.acked == 0 || w.acked > at })
}

// changedSince reports whether any part of a token was or may have been changed after a given time.
func (t *token) changedSince(at moment) bool {
	return t.state.changedSince(at) || t.scopes.changedSince(at) || t.expiry.changedSince(at)
}

// lastAcked returns the last acknowledged value.
func lastAcked[V any](r *register[V]) write[V] {
	all := r.all()
	i := len(all) - 1
	for i > 0 && all[i].acked == 0 {
		i--
	}
	return all[i]
}

func settingOf(d *record.Document) setting {
	if d == nil || d.Deleted {
		return setting{}
	}
	return setting{configured: true, scopes: d.Enforcement.Scopes}
}

func tokensOf(d *record.Document) map[string]*record.Token {
	all := map[string]*record.Token{}
	if d != nil {
		for i := range d.Tokens {
			all[d.Tokens[i].ID] = &d.Tokens[i]
		}
	}
	return all
}

func credentialOf(t *record.Token) credential {
	if t == nil {
		return credential{}
	}
	return credential{t.State, t.Scopes, expiry{t.ExpireMillis, t.ExpireMillis}}
}

// String counts the heads by node, for people.
func (v *view) String() string {
	return fmt.Sprintf("%d heads, %d documents, epochs %v", len(v.heads), len(v.documents),
		slices.Sorted(maps.Keys(v.epochs())))
}

func (v *view) epochs() map[uint64]int {
	all := map[uint64]int{}
	for _, h := range v.heads {
		all[h.Epoch]++
	}
	return all
}
