package wire

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/validator"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

var codec = NewCodec()

// buffers returns a message in each form in which it may arrive: in one buffer that lasts, in one that is
// reused after Free, and in two.
func buffers(raw []byte) []mem.BufferSlice {
	lasting := append([]byte(nil), raw...)
	passing := append(make([]byte, 0, 2<<10), raw...)
	half := len(raw) / 2
	return []mem.BufferSlice{
		{mem.SliceBuffer(lasting)},
		{mem.NewBuffer(&passing, spoiling{})},
		{mem.SliceBuffer(append([]byte(nil), raw[:half]...)), mem.SliceBuffer(append([]byte(nil), raw[half:]...))},
	}
}

// spoiling is a pool that overwrites the buffers that are returned to it.
type spoiling struct{ mem.NopBufferPool }

func (spoiling) Put(b *[]byte) {
	for i := range *b {
		(*b)[i] = '!'
	}
}

func same(r *Request, m *countersignv1.AuthorizeRequest) bool {
	return r.AppID == m.GetAppId() && r.Token == m.GetToken() && r.MinRevision == m.GetMinRevision() &&
		r.Scope == m.GetScope() && r.Source == m.GetSource()
}

func requestSeeds() []*countersignv1.AuthorizeRequest {
	return []*countersignv1.AuthorizeRequest{
		{},
		{AppId: "app", Token: "cs_token", Scope: countersignv1.Scope_SCOPE_EVENTS},
		{AppId: "app", Token: strings.Repeat("x", 5000), Scope: -1, Source: math.MaxInt32, MinRevision: "AAAA"},
		{AppId: "ä", Scope: 200},
	}
}

// broken tells whether package proto rejects a message. Lenient is true when it does so for a string that
// is not UTF-8, which this package may read.
func broken(raw []byte, into proto.Message) (bad, lenient bool) {
	err := proto.Unmarshal(raw, into)
	return err != nil, err != nil && strings.Contains(err.Error(), "UTF-8")
}

// FuzzRequest: for any bytes, a request equals what package proto reads, and is unreadable when proto rejects
// them. It stays so after the memory in which it arrived was reused.
func FuzzRequest(f *testing.F) {
	for _, m := range requestSeeds() {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(append(raw, raw...))      // every field twice
		f.Add(append(raw, 0x38, 1))     // a field that is not known
		f.Add(append(raw, 0x0a, 1, 80)) // a text that is not UTF-8
	}
	f.Add([]byte{0x0a, 1, 0xff})
	f.Add([]byte{0x8a, 0, 1, 'a'})
	f.Add([]byte{0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var want countersignv1.AuthorizeRequest
		bad, lenient := broken(raw, &want)
		for i, data := range buffers(raw) {
			got := &Request{AppID: "before", Scope: 3}
			err := codec.Unmarshal(data, got)
			data.Free()
			if err != nil || got.Unreadable != bad && !lenient {
				t.Fatalf("%d: %v, unreadable %t, protobuf: %t", i, err, got.Unreadable, bad)
			}
			if !bad && !same(got, &want) {
				t.Errorf("%d: %+v, want %v", i, got, &want)
			}
		}
	})
}

// FuzzRequests tests the messages of a stream in the same manner.
func FuzzRequests(f *testing.F) {
	all := requestSeeds()
	for _, m := range []*countersignv1.AuthorizeStreamRequest{
		{},
		{Sequence: 1, Request: all[1]},
		{Sequence: math.MaxUint64, Request: all[2], More: all},
		{More: all},
	} {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(append(raw, raw...))
		f.Add(append(raw, 0x28, 1))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var want countersignv1.AuthorizeStreamRequest
		bad, lenient := broken(raw, &want)
		got := new(Requests)
		for i, data := range buffers(raw) {
			got.Sequence, got.List = 7, append(got.List[:0], Request{AppID: "before"}, Request{})
			err := codec.Unmarshal(data, got)
			data.Free()
			if unreadable := got.List[0].Unreadable; err != nil || unreadable != bad && !lenient {
				t.Fatalf("%d: %v, unreadable %t, protobuf: %t", i, err, unreadable, bad)
			}
			if bad {
				continue
			}
			if got.Sequence != want.GetSequence() || len(got.List) != 1+len(want.GetMore()) ||
				!same(&got.List[0], want.GetRequest()) {
				t.Fatalf("%d: %+v, want %v", i, got, &want)
			}
			var kept []*Request
			for n := range want.GetMore() {
				if !same(&got.List[n+1], want.GetMore()[n]) {
					t.Errorf("%d: %+v, want %v", i, got.List[n+1], want.GetMore()[n])
				}
				kept = append(kept, got.List[n+1].Keep())
			}
			got.Free()
			for n := range kept {
				if !same(kept[n], want.GetMore()[n]) {
					t.Errorf("%d: kept %+v, want %v", i, kept[n], want.GetMore()[n])
				}
			}
		}
	})
}

var anyAnswer = rapid.Custom(func(t *rapid.T) validator.Answer {
	return validator.Answer{
		Decision: policy.Decision{
			Allow: rapid.Bool().Draw(t, "allow"), Reason: policy.Reason(rapid.Uint8Range(0, 127).Draw(t, "reason")),
			Enforced: rapid.Bool().Draw(t, "enforced"), TokenID: rapid.StringN(-1, -1, 300).Draw(t, "token_id"),
		},
		Revision: rapid.Uint64().Draw(t, "revision"),
		DataAge:  time.Duration(rapid.OneOf(rapid.Int64(), rapid.Int64Range(-1, 2e9)).Draw(t, "data_age")),
	}
})

// message returns the protobuf message that says the same as an answer.
func message(a *validator.Answer) *countersignv1.AuthorizeResponse {
	decision := countersignv1.Decision_DECISION_DENY
	if a.Allow {
		decision = countersignv1.Decision_DECISION_ALLOW
	}
	return &countersignv1.AuthorizeResponse{
		Decision: decision, Reason: countersignv1.Reason(a.Reason), Enforced: a.Enforced, TokenId: a.TokenID, Revision: a.Revision,
		DataAge: durationpb.New(a.DataAge),
	}
}

func marshalled(t *rapid.T, v any) []byte {
	data, err := codec.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Free()
	return data.Materialize()
}

// TestAnswersAreEncodedAsByProtobuf: the answer to a call equals the encoding of package proto byte by
// byte. The message of a stream has the same content and size.
func TestAnswersAreEncodedAsByProtobuf(t *testing.T) {
	var answers Answers
	rapid.Check(t, func(t *rapid.T) {
		one := anyAnswer.Draw(t, "answer")
		if got, want := marshalled(t, Encode(&one)), marshalled(t, message(&one)); !bytes.Equal(got, want) {
			t.Fatalf("%x, protobuf: %x", got, want)
		}
		answers.Clear()
		want := new(countersignv1.AuthorizeStreamResponse)
		for n := range rapid.IntRange(1, 60).Draw(t, "answers") {
			result := &countersignv1.AuthorizeStreamResult{Sequence: rapid.Uint64().Draw(t, "sequence")}
			if rapid.IntRange(0, 5).Draw(t, "kind") == 0 {
				failed := &countersignv1.AuthorizeError{Code: 3, Reason: "R", Message: rapid.StringN(-1, -1, 200).Draw(t, "message")}
				result.Result = &countersignv1.AuthorizeStreamResult_Error{Error: failed}
				answers.Fail(result.GetSequence(), failed)
			} else {
				one := anyAnswer.Draw(t, "answer")
				result.Result = &countersignv1.AuthorizeStreamResult_Response{Response: message(&one)}
				answers.Add(result.GetSequence(), &one)
			}
			if n > 0 {
				want.More = append(want.More, result)
				continue
			}
			want.Sequence = result.GetSequence()
			if failed := result.GetError(); failed != nil {
				want.Result = &countersignv1.AuthorizeStreamResponse_Error{Error: failed}
			} else {
				want.Result = &countersignv1.AuthorizeStreamResponse_Response{Response: result.GetResponse()}
			}
		}
		// Package proto writes the first answer after the others, so the bytes differ.
		got, raw := new(countersignv1.AuthorizeStreamResponse), marshalled(t, &answers)
		if err := proto.Unmarshal(raw, got); err != nil || !proto.Equal(got, want) || len(raw) != proto.Size(want) {
			t.Fatalf("%v %v, want %v", got, err, want)
		}
	})
}

// An error whose message cannot be encoded is sent with its code.
func TestAnswersOfBadText(t *testing.T) {
	var answers Answers
	answers.Fail(7, &countersignv1.AuthorizeError{Code: 3, Message: "\xff"})
	data, err := codec.Marshal(&answers)
	if err != nil {
		t.Fatal(err)
	}
	var got countersignv1.AuthorizeStreamResponse
	if err := codec.Unmarshal(data, &got); err != nil || got.GetSequence() != 7 || got.GetError().GetCode() != 3 {
		t.Errorf("%v %v", &got, err)
	}
}

// A field that is added to the contract must be read and written in this package too.
func TestEveryFieldIsKnown(t *testing.T) {
	for _, tt := range []struct {
		message proto.Message
		fields  []protoreflect.Name
	}{
		{&countersignv1.AuthorizeRequest{}, []protoreflect.Name{"app_id", "token", "scope", "source", "min_revision"}},
		{
			&countersignv1.AuthorizeResponse{},
			[]protoreflect.Name{"decision", "reason", "enforced", "token_id", "revision", "data_age"},
		},
		{&countersignv1.AuthorizeStreamRequest{}, []protoreflect.Name{"sequence", "request", "more"}},
		{&countersignv1.AuthorizeStreamResponse{}, []protoreflect.Name{"sequence", "response", "error", "more"}},
		{&countersignv1.AuthorizeStreamResult{}, []protoreflect.Name{"sequence", "response", "error"}},
	} {
		descriptor := tt.message.ProtoReflect().Descriptor()
		for i := range descriptor.Fields().Len() {
			if name := descriptor.Fields().Get(i).Name(); !slices.Contains(tt.fields, name) {
				t.Errorf("%s has a field %s", descriptor.Name(), name)
			}
		}
	}
}

// B03: a token that is not UTF-8 does not break its message; it is a token that nobody has.
func TestB03_TokensOfAnyBytes(t *testing.T) {
	raw := []byte{bytesOf1, 1, 'a', bytesOf2, 2, 0xff, 0xfe, numberOf3, 1}
	got := new(Request)
	err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(raw)}, got)
	if err != nil || got.Token != "\xff\xfe" || got.AppID != "a" || got.Scope != 1 {
		t.Errorf("%v %v", got, err)
	}
}

// B02: no formatting verb prints a token.
func TestB02_RequestsPrintNoToken(t *testing.T) {
	r := Request{AppID: "app", Token: "cs_secret"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		for _, value := range []any{r, &r, &Requests{List: []Request{r}}, []Request{r}} {
			got := fmt.Sprintf(verb, value)
			if strings.Contains(got, "secret") || strings.Contains(got, fmt.Sprintf("%x", "secret")) {
				t.Errorf("%s: %s", verb, got)
			}
		}
	}
}

// Messages that protobuf libraries write are read in place, without package proto.
func TestPlainMessagesAreReadInPlace(t *testing.T) {
	for _, m := range requestSeeds() {
		raw, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if got := new(Request); !got.read(raw) || !same(got, m) {
			t.Errorf("%+v, want %v", got, m)
		}
		stream := &countersignv1.AuthorizeStreamRequest{Sequence: 300, Request: m, More: requestSeeds()}
		if raw, err = proto.Marshal(stream); err != nil {
			t.Fatal(err)
		}
		if got := new(Requests); !got.read(raw) || got.Sequence != 300 || len(got.List) != 1+len(stream.GetMore()) {
			t.Errorf("%+v, want %v", got, stream)
		}
	}
}

// The buffer of a message is freed once: when the next message is read, or by Free.
func TestMemoryIsGivenBack(t *testing.T) {
	raw, err := proto.Marshal(&countersignv1.AuthorizeStreamRequest{Request: requestSeeds()[1]})
	if err != nil {
		t.Fatal(err)
	}
	back, got := 0, new(Requests)
	for n := range 3 {
		passing := append(make([]byte, 0, 2<<10), raw...)
		data := mem.BufferSlice{mem.NewBuffer(&passing, counting{count: &back})}
		if err := codec.Unmarshal(data, got); err != nil {
			t.Fatal(err)
		}
		if data.Free(); back != n {
			t.Errorf("%d buffers freed while message %d is in use", back, n)
		}
	}
	if got.Free(); back != 3 {
		t.Errorf("%d of 3 buffers freed", back)
	}
	if got.Free(); back != 3 {
		t.Errorf("%d of 3 buffers freed, after a second Free", back)
	}
}

// counting is a pool that counts the buffers that are returned to it.
type counting struct {
	mem.NopBufferPool
	count *int
}

func (c counting) Put(*[]byte) { *c.count++ }

func TestAllocations(t *testing.T) {
	answer := &validator.Answer{
		Decision: policy.Decision{Allow: true, Reason: policy.TokenValid, Enforced: true, TokenID: "tok_0123456789abcdef"},
		Revision: 1 << 40, DataAge: time.Millisecond,
	}
	raw, err := proto.Marshal(&countersignv1.AuthorizeRequest{AppId: "app", Token: strings.Repeat("x", 52), Scope: 1})
	if err != nil {
		t.Fatal(err)
	}
	data, request, answers := mem.BufferSlice{mem.SliceBuffer(raw)}, new(Request), new(Answers)
	for _, tt := range []struct {
		name string
		most float64
		do   func()
	}{
		{"a request is read", 0, func() { _ = codec.Unmarshal(data, request) }},
		{"a response is written", 1, func() { _, _ = codec.Marshal(Encode(answer)) }},
		{"an answer of a stream is written", 0, func() { answers.Clear(); answers.Add(1, answer); answers.Add(2, answer) }},
	} {
		if got := testing.AllocsPerRun(1000, tt.do); got > tt.most {
			t.Errorf("%s: %v allocations, want %v", tt.name, got, tt.most)
		}
	}
}
