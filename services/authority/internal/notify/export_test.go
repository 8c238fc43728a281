package notify

import "net/http"

// SetTransport replaces what carries a webhook's requests.
func (w *Webhook) SetTransport(t http.RoundTripper) { w.client.Transport = t }
