package grpcserver

import (
	"strings"
	"testing"
)

func TestBadConfig(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(t)
	_, otherKey := ca.issue(t)
	for name, tt := range map[string]struct {
		config Config
		text   string
	}{
		"cert without key":     {Config{TLS: TLS{CertFile: cert}}, "both a certificate file and a key file"},
		"key without cert":     {Config{TLS: TLS{KeyFile: key}}, "both a certificate file and a key file"},
		"other key":            {Config{TLS: TLS{CertFile: cert, KeyFile: otherKey}}, "does not match"},
		"missing file":         {Config{TLS: TLS{CertFile: cert, KeyFile: key + "x"}}, "key.pemx"},
		"client CA only":       {Config{TLS: TLS{ClientCAFile: ca.file}}, "need a certificate file and a key file"},
		"missing client CA":    {Config{TLS: TLS{CertFile: cert, KeyFile: key, ClientCAFile: "none.pem"}}, "none.pem"},
		"client CA is no cert": {Config{TLS: TLS{CertFile: cert, KeyFile: key, ClientCAFile: key}}, "no certificate in"},
		"required without CA": {
			Config{TLS: TLS{CertFile: cert, KeyFile: key, RequireClientCert: true}}, "need a file of client authorities",
		},
		"negative message": {Config{MaxReceive: -1}, "largest message of -1 bytes"},
		"negative delay":   {Config{Drain: Drain{Delay: -1}}, "must not be negative"},
		"negative timeout": {Config{Drain: Drain{Timeout: -1}}, "must not be negative"},
		"no address":       {Config{Listen: "-"}, "no address to listen on"},
		"bad address":      {Config{Listen: "127.0.0.1:port"}, "unknown port"},
	} {
		t.Run(name, func(t *testing.T) {
			switch tt.config.Listen {
			case "":
				tt.config.Listen = loopback(t)
			case "-":
				tt.config.Listen = ""
			}
			_, err := New(tt.config, new(logs).logger())
			if err == nil || !strings.Contains(err.Error(), tt.text) || !strings.HasPrefix(err.Error(), "gRPC server: ") {
				t.Errorf("New = %v, want text %q", err, tt.text)
			}
			if tt.config.MaxReceive != 0 {
				return
			}
			web := HTTPConfig{Listen: tt.config.Listen, TLS: tt.config.TLS, Drain: tt.config.Drain}
			_, err = NewHTTP(web, new(logs).logger())
			if err == nil || !strings.Contains(err.Error(), tt.text) || !strings.HasPrefix(err.Error(), "HTTP server: ") {
				t.Errorf("NewHTTP = %v, want text %q", err, tt.text)
			}
		})
	}
}

// TestPortTaken: a port in use is an error of New and NewHTTP, before anything runs.
func TestPortTaken(t *testing.T) {
	server := start(t, Config{}, &echo{call: repeat})
	address := server.Addr().String()
	if _, err := New(Config{Listen: address, StreamWorkers: 2}, new(logs).logger()); err == nil {
		t.Error("New = nil on a port in use")
	}
	if _, err := NewHTTP(HTTPConfig{Listen: address}, new(logs).logger()); err == nil {
		t.Error("NewHTTP = nil on a port in use")
	}
}
