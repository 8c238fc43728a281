// Command benchmark measures the product: what a decision costs beside other servers, how that cost grows,
// and what callers get while a validator is flooded or in trouble. It starts everything that it needs itself.
//
// It is for developers. No image has it, and no other package may import what is below internal.
package main

import (
	"os"

	"github.com/countersign/countersign/services/benchmark/internal/cli"
)

func main() { os.Exit(cli.Main()) }
