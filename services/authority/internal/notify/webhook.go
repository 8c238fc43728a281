package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	// sendTimeout bounds one delivery.
	sendTimeout = 10 * time.Second
	// maxAnswer is how much of a receiver's answer is read.
	maxAnswer = 4 << 10
	// secretPrefix is the form of a secret in the Standard Webhooks specification.
	secretPrefix = "whsec_"
)

// Webhook sends messages to one receiver, signed as the Standard Webhooks specification says. It is safe for
// concurrent use.
type Webhook struct {
	url    string
	signer *standardwebhooks.Webhook
	client *http.Client
}

// NewWebhook returns a webhook. The URL must be https, unless its host is a loopback address. The secret is
// whsec_ and at least 24 bytes in base64; an error does not repeat it.
func NewWebhook(address, secret string) (*Webhook, error) {
	parsed, err := url.Parse(address)
	switch {
	case err != nil || parsed.Host == "" || parsed.Scheme != "https" && parsed.Scheme != "http":
		return nil, errors.New("the URL of the webhook: want https://host/path")
	case parsed.User != nil:
		return nil, errors.New("the URL of the webhook: want no user and no password in it; the signature authenticates")
	case parsed.Scheme == "http" && !loopback(parsed.Hostname()):
		return nil, errors.New("the URL of the webhook: want https, except for a loopback address")
	}
	encoded, prefixed := strings.CutPrefix(strings.TrimSpace(secret), secretPrefix)
	signer, err := standardwebhooks.NewWebhook(encoded)
	if err != nil || !prefixed || len(encoded) < 32 {
		return nil, errors.New("the secret of the webhook: want whsec_ and at least 24 bytes in base64")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // notices are rare
	return &Webhook{url: parsed.String(), signer: signer, client: &http.Client{
		Transport: transport, Timeout: sendTimeout,
		// A redirect could lead the message to a host that nobody has configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Send delivers a message. Every delivery of one message has the same id. An error does not have the URL,
// which may hold a secret.
func (w *Webhook) Send(ctx context.Context, id string, payload []byte, now time.Time) error {
	signature, err := w.signer.Sign(id, now, payload)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(payload))
	if err != nil {
		return errors.New("the request could not be made")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "countersign")
	request.Header.Set(standardwebhooks.HeaderWebhookID, id)
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, fmt.Sprint(now.Unix()))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	answer, err := w.client.Do(request)
	if failed := (*url.Error)(nil); errors.As(err, &failed) {
		return failed.Err
	}
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, maxAnswer)
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the receiver answered with status %d", answer.StatusCode)
	}
	return nil
}
