package storetest

import (
	"crypto/rand"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// forge signs a document that is no valid policy, since two of its tokens have one digest. The codec refuses
// to sign it. Another program with the key ring could.
func (s *Store) forge(d *record.Document) []byte {
	sound := *d
	sound.Tokens = slices.Clone(d.Tokens)
	for i := range sound.Tokens {
		_, _ = rand.Read(sound.Tokens[i].Digest[:]) // never fails since Go 1.24
	}
	var sealed countersignv1.SealedRecord
	var m countersignv1.PolicyDocument
	s.mustNil(proto.Unmarshal(s.must(s.codec.SealDocument(&sound)), &sealed))
	s.mustNil(proto.Unmarshal(sealed.GetPayload(), &m))
	for i, t := range m.GetPolicy().GetTokens() {
		t.Digest = d.Tokens[i].Digest[:]
	}
	var err error
	sealed.Payload, err = proto.Marshal(&m)
	s.mustNil(err)
	partition := s.codec.PartitionOf(d.AppID)
	id, mac := s.ring.Sign([]byte("countersign/v1/policy"), []byte(s.meta.StoreID),
		[]byte{byte(partition >> 8), byte(partition)}, sealed.GetPayload())
	sealed.KeyId, sealed.Mac = id, mac[:]
	return s.must(proto.Marshal(&sealed))
}

func (s *Store) mustNil(err error) { s.must(nil, err) }
