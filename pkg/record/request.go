package record

import countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"

// RequestResult is what is kept of a request_id.
type RequestResult struct {
	// Digest is that of the request's content; it tells a repetition from another request.
	Digest []byte
	// Response is the serialized response, without a secret.
	Response []byte
}

// SealRequest signs the result of the request that is stored under a key.
func (c *Codec) SealRequest(partition int, r RequestResult) ([]byte, error) {
	return c.seal(kindRequest, partition, &countersignv1.RequestResult{RequestDigest: r.Digest, Response: r.Response})
}

// OpenRequest verifies a request result.
func (c *Codec) OpenRequest(partition int, raw []byte) (RequestResult, error) {
	var m countersignv1.RequestResult
	if err := c.open(kindRequest, partition, raw, &m); err != nil {
		return RequestResult{}, err
	}
	return RequestResult{Digest: m.GetRequestDigest(), Response: m.GetResponse()}, nil
}
