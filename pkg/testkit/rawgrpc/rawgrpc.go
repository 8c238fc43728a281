// Package rawgrpc speaks gRPC frame by frame, as a broken or hostile client does: headers without a message,
// or a message that is announced and never sent. This package is not part of the public API and may change in
// any release.
package rawgrpc

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// patience bounds how long a test waits for the server. A passing test never reaches it.
const patience = 30 * time.Second

// Conn is a plain-text connection to a gRPC server. One goroutine at a time may use it.
type Conn struct {
	t       testing.TB
	raw     net.Conn
	framer  *http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
	next    uint32
	// ended has the trailers of ended streams, by stream.
	ended map[uint32]map[string]string
	// sent has the streams on which the server has sent a message or a part of one.
	sent map[uint32]bool
}

// New starts HTTP/2 on a connection, and closes it when the test ends.
func New(t testing.TB, raw net.Conn) *Conn {
	t.Helper()
	t.Cleanup(func() { _ = raw.Close() })
	c := &Conn{
		t: t, raw: raw, framer: http2.NewFramer(raw, raw), next: 1, ended: map[uint32]map[string]string{},
		sent: map[uint32]bool{},
	}
	c.encoder = hpack.NewEncoder(&c.block)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := raw.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	if err := c.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return c
}

// Dial connects to an address.
func Dial(t testing.TB, address string) *Conn {
	t.Helper()
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return New(t, raw)
}

// Open sends the headers of a call, with metadata as pairs of name and value, and no part of a message. It
// returns the number of the call.
func (c *Conn) Open(method string, metadata ...string) uint32 {
	c.t.Helper()
	c.block.Reset()
	fields := append([]string{
		":method", "POST", ":scheme", "http", ":path", method, ":authority", "test",
		"content-type", "application/grpc", "te", "trailers",
	}, metadata...)
	for i := 0; i < len(fields); i += 2 {
		if err := c.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			c.t.Fatal(err)
		}
	}
	call := c.next
	c.next += 2
	if err := c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: call, BlockFragment: c.block.Bytes(),
		EndHeaders: true,
	}); err != nil {
		c.t.Fatal(err)
	}
	return call
}

// Announce sends the five bytes that precede a message of a size, and no part of the message.
func (c *Conn) Announce(call, size uint32) {
	c.t.Helper()
	var prefix [5]byte
	binary.BigEndian.PutUint32(prefix[1:], size)
	c.Send(call, prefix[:])
}

// Send sends bytes of the body of a call.
func (c *Conn) Send(call uint32, data []byte) {
	c.t.Helper()
	if err := c.framer.WriteData(call, false, data); err != nil {
		c.t.Fatal(err)
	}
}

// End ends the body of a call.
func (c *Conn) End(call uint32) {
	c.t.Helper()
	if err := c.framer.WriteData(call, true, nil); err != nil {
		c.t.Fatal(err)
	}
}

// Cancel resets a call.
func (c *Conn) Cancel(call uint32) {
	c.t.Helper()
	if err := c.framer.WriteRSTStream(call, http2.ErrCodeCancel); err != nil {
		c.t.Fatal(err)
	}
}

// Status waits for the end of a call, and returns grpc-status and grpc-message.
func (c *Conn) Status(call uint32) (code, message string) {
	c.t.Helper()
	for c.ended[call] == nil {
		c.read()
	}
	return c.ended[call]["grpc-status"], c.ended[call]["grpc-message"]
}

// FirstToEnd waits until one of some calls has ended, and returns it.
func (c *Conn) FirstToEnd(calls ...uint32) uint32 {
	c.t.Helper()
	for {
		for _, call := range calls {
			if c.ended[call] != nil {
				return call
			}
		}
		c.read()
	}
}

// Message waits until the server has sent a message of a call, or a part of one. It fails the test when the
// call ends first.
func (c *Conn) Message(call uint32) {
	c.t.Helper()
	if !c.Answered(call) {
		c.t.Fatalf("the call has ended without a message: %v", c.ended[call])
	}
}

// NextMessage waits until the server has sent something on a call since the last NextMessage.
func (c *Conn) NextMessage(call uint32) {
	c.t.Helper()
	c.Message(call)
	c.sent[call] = false
}

// Answered waits until the server has sent a message of a call, or a part of one. It returns false when the
// call ends first.
func (c *Conn) Answered(call uint32) bool {
	c.t.Helper()
	for !c.sent[call] && c.ended[call] == nil {
		c.read()
	}
	return c.sent[call]
}

// read reads and records one frame.
func (c *Conn) read() {
	c.t.Helper()
	frame, err := c.framer.ReadFrame()
	if err != nil {
		c.t.Fatalf("the call was not answered: %v", err)
	}
	switch frame := frame.(type) {
	case *http2.MetaHeadersFrame:
		if !frame.StreamEnded() {
			return
		}
		trailers := map[string]string{}
		for _, field := range frame.Fields {
			trailers[field.Name] = field.Value
		}
		c.ended[frame.StreamID] = trailers
	case *http2.DataFrame:
		c.sent[frame.StreamID] = true
	case *http2.RSTStreamFrame:
		if c.ended[frame.StreamID] == nil {
			c.ended[frame.StreamID] = map[string]string{"grpc-message": "reset: " + frame.ErrCode.String()}
		}
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			_ = c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !frame.IsAck() {
			_ = c.framer.WritePing(true, frame.Data)
		}
	}
}
