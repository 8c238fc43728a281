//go:build !campaign

package check

// slack is added to the bounds of Within.
const slack = patience
