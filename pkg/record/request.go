package record

import (
	"fmt"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// RequestResult is what is kept of a request_id.
type RequestResult struct {
	// Digest is that of the request's content; it tells a repetition from another request.
	Digest []byte
	// Response is the serialized response, without a secret.
	Response []byte
	// Key is what the result is stored under, CreateMillis when the request was carried out, in
	// milliseconds since the Unix epoch.
	Key          string
	CreateMillis int64
}

// SealRequest signs the result of a request.
func (c *Codec) SealRequest(partition int, r RequestResult) ([]byte, error) {
	return c.seal(kindRequest, partition, &countersignv1.RequestResult{
		RequestDigest: r.Digest, Response: r.Response, Key: r.Key, CreateMillis: r.CreateMillis,
	})
}

// OpenRequest verifies the request result that stands under a key.
func (c *Codec) OpenRequest(partition int, key string, raw []byte) (RequestResult, error) {
	var m countersignv1.RequestResult
	if err := c.open(kindRequest, partition, raw, &m); err != nil {
		return RequestResult{}, err
	}
	if m.GetKey() != key {
		return RequestResult{}, fmt.Errorf("%w request result: stands under another key than its own", ErrMalformed)
	}
	return RequestResult{
		Digest: m.GetRequestDigest(), Response: m.GetResponse(), Key: key, CreateMillis: m.GetCreateMillis(),
	}, nil
}
