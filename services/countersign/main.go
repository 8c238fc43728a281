// Command countersign is for people: it administers tokens and enforcement, asks validators, prepares a
// store, and runs everything at once to try it out.
package main

import (
	"os"

	"github.com/countersign/countersign/services/countersign/internal/cli"
	"github.com/countersign/countersign/services/countersign/internal/dev"
)

func main() { os.Exit(cli.Main(dev.Command())) }
