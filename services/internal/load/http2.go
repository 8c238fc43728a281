package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Sizes of HTTP/2 (RFC 9113), in bytes.
const (
	frameHeader   = 9
	maxFrame      = 16 << 10 // what a peer that was told nothing else may send
	initialWindow = 1<<16 - 1
	maxWindow     = math.MaxInt32
	lastStream    = math.MaxInt32 // the largest number of a call, which is given to none
)

// http2 is the sending half of a connection.
type http2 struct {
	// first are the headers of the first call, which the server remembers; rest name them by number (RFC
	// 7541).
	first, rest []byte
	nextID      uint32
	// window is how many bytes of messages the server takes now, maxCalls how many calls at once: none
	// until it has said so.
	window   int64
	maxCalls int
	// draining says that the server wants no more calls here; those above lastID it has not begun.
	draining bool
	lastID   uint32
}

func newHTTP2(endpoint Endpoint, encrypted bool) http2 {
	scheme := "http"
	if encrypted {
		scheme = "https"
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	encode := func() []byte {
		block.Reset()
		for _, field := range [][2]string{
			{":method", "POST"},
			{":scheme", scheme},
			{":path", endpoint.Method},
			{":authority", endpoint.Address},
			{"content-type", "application/grpc"},
			{"user-agent", "countersign-bench"},
			{"te", "trailers"},
		} {
			_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}) // a bytes.Buffer takes everything
		}
		return bytes.Clone(block.Bytes())
	}
	return http2{first: encode(), rest: encode(), nextID: 1, window: initialWindow}
}

// appendPreface begins a connection: no pushes, and room for all the answers that may come.
func appendPreface(out []byte) []byte {
	out = append(out, xhttp2.ClientPreface...)
	out = appendFrame(out, 6, xhttp2.FrameSettings, 0, 0)
	out = binary.BigEndian.AppendUint16(out, uint16(xhttp2.SettingEnablePush))
	out = binary.BigEndian.AppendUint32(out, 0)
	return appendWindow(out, maxWindow-initialWindow)
}

func appendWindow(out []byte, more uint32) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(out, 4, xhttp2.FrameWindowUpdate, 0, 0), more)
}

// appendFrame begins a frame.
func appendFrame(out []byte, length int, kind xhttp2.FrameType, flags xhttp2.Flags, stream uint32) []byte {
	out = append(out, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags))
	return binary.BigEndian.AppendUint32(out, stream)
}

// takes tells whether a call may be sent now, beside so many that are under way.
func (h *http2) takes(call *Call, underWay int) bool {
	if h.nextID == lastStream {
		h.draining, h.lastID = true, lastStream // there are no numbers left
	}
	return !h.draining && underWay < h.maxCalls && int64(len(call.Question.message)) <= h.window
}

// appendCall sends a call as grpc-go does: a frame of headers, and one with the message, which ends the
// request.
func (h *http2) appendCall(out, message []byte) ([]byte, uint32) {
	id := h.nextID
	h.nextID += 2
	h.window -= int64(len(message))
	block := h.rest
	if id == 1 {
		block = h.first
	}
	out = append(appendFrame(out, len(block), xhttp2.FrameHeaders, xhttp2.FlagHeadersEndHeaders, id), block...)
	return append(appendFrame(out, len(message), xhttp2.FrameData, xhttp2.FlagDataEndStream, id), message...), id
}

// settings takes what the server says of itself. mu of the lane is held.
func (h *http2) settings(payload []byte) error {
	if h.maxCalls == 0 {
		h.maxCalls = math.MaxInt // when it says nothing of it
	}
	for ; len(payload) >= 6; payload = payload[6:] {
		value := binary.BigEndian.Uint32(payload[2:])
		switch xhttp2.SettingID(binary.BigEndian.Uint16(payload)) {
		case xhttp2.SettingMaxConcurrentStreams:
			h.maxCalls = int(value)
		case xhttp2.SettingInitialWindowSize:
			if value < maxMessage {
				return errors.New("the server takes too little of a request at once")
			}
		case xhttp2.SettingHeaderTableSize:
			if value < 4096 {
				return errors.New("the server remembers too few headers") // their numbers would be others
			}
		}
	}
	return nil
}
