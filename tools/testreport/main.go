// Command testreport turns the events of `go test -json` on standard input into the output of a plain `go
// test`: one line for every package, everything a failing test printed, and a closing line with counts.
//
// It exits with 1 when anything failed, when the events end early, and, with -no-skips, when a test was
// skipped: a skipped test proves nothing, and in a plain run it is not seen.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	noSkips := flag.Bool("no-skips", false, "fail when a test was skipped")
	flag.Parse()

	r := newReport(os.Stdout)
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if !r.finish(*noSkips) {
		os.Exit(1)
	}
}
