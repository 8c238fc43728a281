// Command countersign is the command line for people. It manages tokens and enforcement, asks validators,
// prepares and repairs a store, and runs everything in one process to try it out.
package main

import (
	"os"

	"github.com/countersign/countersign/services/countersign/internal/cli"
	"github.com/countersign/countersign/services/countersign/internal/dev"
)

func main() { os.Exit(cli.Main(dev.Command())) }
