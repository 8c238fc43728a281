package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/services/internal/cmdline"
)

// output says where a result goes: to the standard output in a form, and to files.
type output struct {
	form       *cmdline.Format
	json, plot string
}

func newOutput(form *cmdline.Format, flags *pflag.FlagSet) *output {
	o := &output{form: form}
	flags.StringVar(&o.json, "json", "", "`file` to write all rounds to")
	return o
}

func (o *output) withPlot(flags *pflag.FlagSet) *output {
	flags.StringVar(&o.plot, "plot", "", "`file` to write a picture to, in SVG")
	return o
}

// result is a result that can be written for people.
type result interface{ Write(w io.Writer) error }

// plotted is a result that has a picture.
type plotted interface{ Plot(w io.Writer) error }

// measure runs a measurement until its end or an interrupt, and writes the result.
func measure[R result](cmd *cobra.Command, o *output, run func(ctx context.Context) (R, error)) error {
	ctx, stop := grpcserver.SignalContext(cmd.Context())
	defer stop()
	r, err := run(ctx)
	if ctx.Err() != nil {
		return errors.New("interrupted: there is no result")
	}
	if err != nil {
		return err
	}
	return o.write(cmd.OutOrStdout(), r)
}

func (o *output) write(w io.Writer, r result) error {
	asJSON := func(w io.Writer) error {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	if err := cmdline.WriteFile("--json", o.json, asJSON); err != nil {
		return err
	}
	if picture, has := r.(plotted); has {
		if err := cmdline.WriteFile("--plot", o.plot, picture.Plot); err != nil {
			return err
		}
	}
	if *o.form == cmdline.JSON {
		return asJSON(w)
	}
	return r.Write(w)
}
