package load

import (
	"bytes"
	"errors"
	"math"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Sizes of HTTP/2 (RFC 9113), in bytes.
const (
	maxFrame      = 16 << 10 // the largest frame that a peer may send by default
	initialWindow = 1<<16 - 1
	maxWindow     = math.MaxInt32
	lastStream    = math.MaxInt32 // the largest stream number; it is not used
)

// frames are frames that wait to be sent.
type frames []byte

// Write implements io.Writer. It never fails, so the errors of a Framer that writes into frames are ignored.
func (f *frames) Write(p []byte) (int, error) {
	*f = append(*f, p...)
	return len(p), nil
}

// http2 is the sending half of a connection.
type http2 struct {
	framer *xhttp2.Framer
	// first are the headers of the first call, which the server remembers. rest are the headers of the
	// others, which name them by number (RFC 7541).
	first, rest []byte
	nextID      uint32
	// window is the number of bytes of messages that the server accepts now. maxCalls is the number of calls
	// in flight that it accepts; 0 until it has sent its settings.
	window   int64
	maxCalls int
	// draining tells that the server accepts no more calls here. It has not begun the calls above lastID.
	draining bool
	lastID   uint32
}

func newHTTP2(endpoint Endpoint, encrypted bool, out *frames) http2 {
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
			_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}) // a bytes.Buffer never fails
		}
		return bytes.Clone(block.Bytes())
	}
	return http2{framer: xhttp2.NewFramer(out, nil), first: encode(), rest: encode(), nextID: 1, window: initialWindow}
}

// preface begins a connection, without server pushes and with the largest window for answers.
func (h *http2) preface(out *frames) {
	*out = append((*out)[:0], xhttp2.ClientPreface...)
	_ = h.framer.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingEnablePush, Val: 0})
	_ = h.framer.WriteWindowUpdate(0, maxWindow-initialWindow)
}

// accepts tells whether a call may be sent now, beside a number of calls in flight.
func (h *http2) accepts(call *Call, inFlight int) bool {
	if h.nextID == lastStream {
		h.draining, h.lastID = true, lastStream // there are no numbers left
	}
	return !h.draining && inFlight < h.maxCalls && int64(len(call.Question.message)) <= h.window
}

// call writes a call like grpc-go: a frame with the headers, and one with the message, which ends the
// request.
func (h *http2) call(message []byte) uint32 {
	id := h.nextID
	h.nextID += 2
	h.window -= int64(len(message))
	block := h.rest
	if id == 1 {
		block = h.first
	}
	_ = h.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true})
	_ = h.framer.WriteData(id, true, message)
	return id
}

// settings applies the server's settings. mu of the lane is held.
func (h *http2) settings(f *xhttp2.SettingsFrame) error {
	if h.maxCalls == 0 {
		h.maxCalls = math.MaxInt // the default is no limit
	}
	return f.ForeachSetting(func(s xhttp2.Setting) error {
		switch {
		case s.ID == xhttp2.SettingMaxConcurrentStreams:
			h.maxCalls = int(s.Val)
		case s.ID == xhttp2.SettingInitialWindowSize && s.Val < maxMessage:
			return errors.New("the server's window for a request is too small")
		case s.ID == xhttp2.SettingHeaderTableSize && s.Val < 4096:
			return errors.New("the server's table of headers is too small") // the numbers in rest would be wrong
		}
		return nil
	})
}
