package settings

import (
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/grpcserver"
)

// TLS defines --tls-cert-file and --tls-key-file, of which both or none must be given, and
// --tls-client-ca-file. The result is filled when the flags have been read; whether client certificates are
// required is for the command to say.
func TLS(command *cobra.Command) *grpcserver.TLS {
	files := new(grpcserver.TLS)
	flags := command.Flags()
	flags.StringVar(&files.CertFile, "tls-cert-file", "", "PEM `file` of the server's certificate chain; none: plain text")
	flags.StringVar(&files.KeyFile, "tls-key-file", "", "PEM `file` of the server's key")
	flags.StringVar(&files.ClientCAFile, "tls-client-ca-file", "",
		"PEM `file` of the authorities whose client certificates are accepted")
	command.MarkFlagsRequiredTogether("tls-cert-file", "tls-key-file")
	return files
}
