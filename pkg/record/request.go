package record

import (
	"fmt"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// RequestResult is what the store keeps of a request with a request_id.
type RequestResult struct {
	// Digest is the digest of the request's content. It tells a repetition from another request with the same
	// id.
	Digest []byte
	// Response is the serialized response without a secret.
	Response []byte
	// Key is the key of the result in Redis. CreateMillis is the time of the request in milliseconds since
	// the Unix epoch.
	Key          string
	CreateMillis int64
}

// SealRequest signs the result of a request.
func (c *Codec) SealRequest(partition int, r RequestResult) ([]byte, error) {
	return c.seal(kindRequest, partition, &countersignv1.RequestResult{
		RequestDigest: r.Digest, Response: r.Response, Key: r.Key, CreateMillis: r.CreateMillis,
	})
}

// OpenRequest verifies the request result that the store holds under a key.
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
