package settings

import (
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/grpcserver"
)

// TLS defines --tls-cert-file and --tls-key-file, which must be given together, and --tls-client-ca-file. The
// result is filled when the flags have been parsed. The command itself decides whether client certificates
// are required.
func TLS(command *cobra.Command) *grpcserver.TLS {
	files := new(grpcserver.TLS)
	flags := command.Flags()
	flags.StringVar(&files.CertFile, "tls-cert-file", "",
		"PEM `file` of the server's certificate chain; without it the server uses plain text")
	flags.StringVar(&files.KeyFile, "tls-key-file", "", "PEM `file` of the server's key")
	flags.StringVar(&files.ClientCAFile, "tls-client-ca-file", "",
		"PEM `file` of the certificate authorities for client certificates")
	command.MarkFlagsRequiredTogether("tls-cert-file", "tls-key-file")
	return files
}
