// Package policy makes the decision about a request: it knows what an app's policy is, and what it answers
// (rules B13, B14 and B17 to B19). It is pure: it reads no clock, network or file, and depends on its
// arguments alone.
//
// The names that signatures of pkg/client and pkg/validator show are part of the public API. Others may
// change in any release.
package policy

import (
	"fmt"
	"iter"
	"math/bits"
)

// Scope is one ingest endpoint, with the number of countersign.v1.Scope. The package accepts every number
// from 1 to MaxScope. Only the outer layers know which of them exist, so that a new endpoint is one more enum
// value there.
type Scope uint8

const (
	// ScopeGDPR cannot be granted; every ACTIVE token of the app authenticates it (B14).
	ScopeGDPR Scope = 4
	// MaxScope is the largest number that a ScopeSet holds.
	MaxScope Scope = 63
)

// ScopeSet is a set of scopes: bit n stands for the scope with number n. The zero value is the empty set.
type ScopeSet uint64

// ScopesOf returns the set of the given scopes. It panics for 0 and for a number above MaxScope, which
// callers must reject.
func ScopesOf(scopes ...Scope) ScopeSet {
	var set ScopeSet
	for _, s := range scopes {
		if s == 0 || s > MaxScope {
			panic(fmt.Sprintf("policy: scope %d is out of range", s))
		}
		set |= 1 << s
	}
	return set
}

// Has reports whether the set holds a scope.
func (set ScopeSet) Has(s Scope) bool { return set&(1<<s) != 0 }

// Without returns the scopes of the set that are not in other.
func (set ScopeSet) Without(other ScopeSet) ScopeSet { return set &^ other }

// Len returns the number of scopes in the set.
func (set ScopeSet) Len() int { return bits.OnesCount64(uint64(set)) }

// All yields the scopes in ascending order. Bit 0 stands for no scope.
func (set ScopeSet) All() iter.Seq[Scope] {
	return func(yield func(Scope) bool) {
		for rest := uint64(set) &^ 1; rest != 0; rest &= rest - 1 {
			if !yield(Scope(bits.TrailingZeros64(rest))) {
				return
			}
		}
	}
}
