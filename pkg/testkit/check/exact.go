//go:build campaign

package check

// exact says that the bounds of Within are those of a quiet machine.
const exact = true
