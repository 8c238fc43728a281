// Package policy holds the pure decision: what an app's policy is, and what it says of one request (rules
// B13, B14 and B17 to B19). Nothing here reads a clock, a network or a file; all that a decision depends on
// is passed in.
package policy

import (
	"fmt"
	"iter"
	"math/bits"
)

// Scope is one ingest endpoint, by its number in countersign.v1.Scope. Numbers from 1 to MaxScope are
// scopes; which of them exist is known at the edge alone, so that a new endpoint is one more enum value
// there.
type Scope uint8

const (
	// ScopeGDPR cannot be granted; every ACTIVE token of the app authenticates it (B14).
	ScopeGDPR Scope = 4
	// MaxScope is the largest number that a ScopeSet holds.
	MaxScope Scope = 63
)

// ScopeSet is a set of scopes: bit n stands for the scope with number n. The zero value is the empty set.
type ScopeSet uint64

// ScopesOf returns the set of the given scopes. It panics on 0 and on a number past MaxScope, which the
// edge must not pass.
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

// Has tells whether the set holds a scope.
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
