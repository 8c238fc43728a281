package ledger

import (
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/countersign/countersign/pkg/policy"
)

// A packed block is, with numbers as unsigned varints (encoding/binary):
//
//	version (1 byte)
//	number of tokens, then each token in order
//	number of series, then each series in order:
//	  token: its place among the tokens from 1, less the place of the series before; place 0 is no token
//	  scope and enforced (1 byte): scope * 2, + 1 if enforced
//	  reason (1 byte)
//	  number of points, then each point: the period, less that of the point before; the count
//	  last use: minutes since the Unix epoch, less the start of the last point's period
//
// A token with the usual form is a 0 byte and the 10 bytes that its text encodes. Another one is its length
// and its text. The first period of a block is whole, and the first point of each later series is written as
// the difference to it, with the sign in the lowest bit.
const packVersion = 1

var errDamaged = errors.New("the record of counts is damaged")

const usualPrefix = "tok_"

// usual is the encoding of the usual form of a token id.
var usual = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

const (
	usualText  = 16
	usualBytes = 10
)

// pack encodes a block whose periods have a number of minutes. An empty block is nil.
func (b block) pack(minutes int64) []byte {
	if len(b) == 0 {
		return nil
	}
	tokens := 0
	for i, s := range b {
		if s.TokenID != "" && (i == 0 || b[i-1].TokenID != s.TokenID) {
			tokens++
		}
	}
	out := append(make([]byte, 0, 16+12*tokens+8*len(b)), packVersion)
	out = binary.AppendUvarint(out, uint64(tokens))
	for i, s := range b {
		if s.TokenID != "" && (i == 0 || b[i-1].TokenID != s.TokenID) {
			out = appendToken(out, s.TokenID)
		}
	}
	out = binary.AppendUvarint(out, uint64(len(b)))
	first := int64(0)
	for i, s := range b {
		step := uint64(0)
		if s.TokenID != "" && (i == 0 || b[i-1].TokenID != s.TokenID) {
			step = 1
		}
		enforced := byte(0)
		if s.Enforced {
			enforced = 1
		}
		out = append(binary.AppendUvarint(out, step), byte(s.Scope)<<1|enforced, byte(s.Reason))
		out = binary.AppendUvarint(out, uint64(len(s.points)))
		period := first
		for j, p := range s.points {
			if j == 0 {
				out = binary.AppendVarint(out, p.period-first)
				if first == 0 {
					first = p.period
				}
			} else {
				out = binary.AppendUvarint(out, uint64(p.period-period))
			}
			out = binary.AppendUvarint(out, p.n)
			period = p.period
		}
		start := int64(0)
		if len(s.points) > 0 {
			start = period * minutes
		}
		out = binary.AppendVarint(out, s.last-start)
	}
	return out
}

func appendToken(out []byte, id string) []byte {
	if text, is := strings.CutPrefix(id, usualPrefix); is && len(text) == usualText {
		if raw, err := usual.DecodeString(text); err == nil && len(raw) == usualBytes {
			return append(append(out, 0), raw...)
		}
	}
	return append(binary.AppendUvarint(out, uint64(len(id))), id...)
}

// unpack decodes a block. It returns an error for bytes that pack does not make.
func unpack(raw []byte, minutes int64) (block, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	if raw[0] != packVersion {
		return nil, fmt.Errorf("%w: it has version %d, want %d", errDamaged, raw[0], packVersion)
	}
	r := reader{raw: raw[1:]}
	tokens := make([]string, 1, 1+r.most(2))
	for range cap(tokens) - 1 {
		tokens = append(tokens, r.token())
	}
	b := make(block, 0, r.most(5))
	first, token := int64(0), uint64(0)
	for range cap(b) {
		token += r.number()
		scope, reason := r.byte(), r.byte()
		if token >= uint64(len(tokens)) {
			r.bad = true
		}
		if r.bad {
			break
		}
		s := series{Kind: Kind{tokens[token], policy.Scope(scope >> 1), policy.Reason(reason), scope&1 == 1}}
		s.points = r.points(&first)
		start := int64(0)
		if n := len(s.points); n > 0 {
			start = s.points[n-1].period * minutes
		}
		s.last = start + r.signed()
		b = append(b, s)
	}
	if r.bad || len(r.raw) > 0 {
		return nil, errDamaged
	}
	if !slices.IsSortedFunc(b, func(a, c series) int { return cmpStrict(a.Kind, c.Kind) }) {
		return nil, errDamaged
	}
	return b, nil
}

// cmpStrict makes two equal kinds out of order.
func cmpStrict(a, b Kind) int {
	if c := compareKinds(a, b); c != 0 {
		return c
	}
	return -1
}

// reader reads a packed block. bad is set at the first thing that cannot be.
type reader struct {
	raw []byte
	bad bool
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.raw)
	if size <= 0 {
		r.bad, r.raw = true, nil
		return 0
	}
	r.raw = r.raw[size:]
	return n
}

func (r *reader) signed() int64 {
	n, size := binary.Varint(r.raw)
	if size <= 0 {
		r.bad, r.raw = true, nil
		return 0
	}
	r.raw = r.raw[size:]
	return n
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.raw)) {
		r.bad, r.raw = true, nil
		return nil
	}
	b := r.raw[:n]
	r.raw = r.raw[n:]
	return b
}

// most reads how many things follow, each of at least some bytes.
func (r *reader) most(least int) int {
	n := r.number()
	if n > uint64(len(r.raw)/least) {
		r.bad, r.raw = true, nil
		return 0
	}
	return int(n)
}

func (r *reader) token() string {
	if n := r.number(); n > 0 {
		return string(r.bytes(n))
	}
	raw := r.bytes(usualBytes)
	if raw == nil {
		return ""
	}
	text := append(make([]byte, 0, len(usualPrefix)+usualText), usualPrefix...)
	return string(usual.AppendEncode(text, raw))
}

// points reads the points of a series. First is the first period of the block; 0 before it is known.
func (r *reader) points(first *int64) []point {
	n := r.most(2)
	if n == 0 {
		return nil
	}
	all := make([]point, 0, n)
	period := *first
	for i := range n {
		if i == 0 {
			period += r.signed()
			if *first == 0 {
				*first = period
			}
		} else {
			step := r.number()
			r.bad = r.bad || step == 0 || step > math.MaxInt32
			period += int64(step)
		}
		p := point{period, r.number()}
		r.bad = r.bad || p.n == 0 || period > math.MaxInt32 || period < math.MinInt32
		all = append(all, p)
	}
	return all
}
