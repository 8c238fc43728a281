package record

import (
	"google.golang.org/protobuf/proto"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Kinds are the kinds of records that are sealed as such.
var Kinds = []string{
	string(kindMeta), string(kindHead), string(kindPolicy), string(kindLink), string(kindAudit),
	string(kindRequest),
}

// SealRaw signs any payload as a record of a kind.
func (c *Codec) SealRaw(k string, partition int, payload []byte) []byte {
	kindPart, storePart, partitionPart := c.scope(kind(k), partition)
	id, mac := c.ring.Sign(kindPart, storePart, partitionPart, payload)
	raw, err := proto.Marshal(&countersignv1.SealedRecord{KeyId: id, Mac: mac[:], Payload: payload})
	if err != nil {
		panic(err)
	}
	return raw
}

// SumOf returns a sum of some words, under the current key.
func SumOf(words [4]uint64) Sum { return Sum{words: words} }

// Words returns what a sum adds up to.
func (s Sum) Words() [4]uint64 { return s.words }
