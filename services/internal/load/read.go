package load

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	xhttp2 "golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errDrained says that a connection was ended because the server wanted it, with no call under way.
var errDrained = errors.New("the server ends the connection")

// reader is the receiving half of a connection.
type reader struct {
	lane    *lane
	buffer  *bufio.Reader
	headers *headers
	// messages are those of calls whose trailers are still to come, decoded.
	messages map[uint32]message
	// received is how many bytes of messages came since the server was last given room for more.
	received uint32
}

type message struct {
	answer Answer
	err    error
}

// read handles what comes on a connection until it ends.
func (l *lane) read(conn net.Conn) error {
	r := &reader{lane: l, buffer: bufio.NewReaderSize(conn, 4*maxFrame), headers: newHeaders(), messages: map[uint32]message{}}
	for {
		head, err := r.peek(frameHeader)
		if err != nil {
			return err
		}
		length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		kind, flags, id := xhttp2.FrameType(head[3]), xhttp2.Flags(head[4]), binary.BigEndian.Uint32(head[5:])&maxWindow
		if length > maxFrame {
			return fmt.Errorf("a frame of %d bytes", length)
		}
		_, _ = r.buffer.Discard(frameHeader)
		payload, err := r.peek(length)
		if err != nil {
			return err
		}
		if err := r.frame(kind, flags, id, payload); err != nil {
			return err
		}
		_, _ = r.buffer.Discard(length)
	}
}

// peek waits for some bytes. Before it does, what the answers so far have started is sent: many calls with
// one write.
func (r *reader) peek(n int) ([]byte, error) {
	if r.buffer.Buffered() < n {
		r.lane.flush()
	}
	return r.buffer.Peek(n)
}

func (r *reader) frame(kind xhttp2.FrameType, flags xhttp2.Flags, id uint32, payload []byte) error {
	switch kind {
	case xhttp2.FrameHeaders:
		if flags.Has(xhttp2.FlagHeadersPadded) || !flags.Has(xhttp2.FlagHeadersEndHeaders) {
			return errors.New("headers in a form that this client does not know")
		}
		if flags.Has(xhttp2.FlagHeadersPriority) {
			payload = payload[min(5, len(payload)):]
		}
		if err := r.headers.decode(payload); err != nil {
			return err
		}
		if flags.Has(xhttp2.FlagHeadersEndStream) {
			return r.end(id, r.headers.err())
		}
		return nil
	case xhttp2.FrameData:
		r.received += uint32(len(payload))
		if flags.Has(xhttp2.FlagDataPadded) {
			return errors.New("padded messages, which this client does not know")
		}
		if len(payload) > 0 {
			r.messages[id] = r.decode(payload)
		}
		if flags.Has(xhttp2.FlagDataEndStream) {
			return r.end(id, status.Error(codes.Internal, "an answer without trailers"))
		}
		return nil
	case xhttp2.FrameRSTStream:
		if len(payload) < 4 {
			return errors.New("a RST_STREAM that says nothing")
		}
		code := xhttp2.ErrCode(binary.BigEndian.Uint32(payload))
		if code == xhttp2.ErrCodeRefusedStream {
			r.lane.again(id)
			return nil
		}
		return r.end(id, status.Error(codes.Unavailable, code.String()))
	}
	return r.control(kind, flags, id, payload)
}

// decode reads a message, which must be whole: answers are far smaller than a frame.
func (r *reader) decode(payload []byte) message {
	if len(payload) < 5 || payload[0] != 0 || int(binary.BigEndian.Uint32(payload[1:])) != len(payload)-5 {
		return message{err: status.Error(codes.Internal, "an answer in a form that this client does not know")}
	}
	answer, err := r.lane.endpoint.Decode(payload[5:])
	return message{answer, err}
}

// end ends a call.
func (r *reader) end(id uint32, err error) error {
	m, there := r.messages[id]
	delete(r.messages, id)
	switch {
	case err != nil:
	case !there:
		err = status.Error(codes.Internal, "an answer without a message")
	default:
		err = m.err
	}
	l := r.lane
	l.mu.Lock()
	call := l.calls[id]
	delete(l.calls, id)
	l.admit()
	drained := l.draining && len(l.calls) == 0
	l.mu.Unlock()
	if call != nil {
		call.Done(m.answer, err)
	}
	if drained {
		return errDrained
	}
	return nil
}

// control handles what is about the connection.
func (r *reader) control(kind xhttp2.FrameType, flags xhttp2.Flags, id uint32, payload []byte) error {
	l := r.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.received > maxWindow/2 {
		l.out, r.received = appendWindow(l.out, r.received), 0
	}
	switch kind {
	case xhttp2.FrameSettings:
		if flags.Has(xhttp2.FlagSettingsAck) {
			return nil
		}
		if err := l.settings(payload); err != nil {
			return err
		}
		l.out = appendFrame(l.out, 0, xhttp2.FrameSettings, xhttp2.FlagSettingsAck, 0)
	case xhttp2.FramePing:
		if !flags.Has(xhttp2.FlagPingAck) {
			l.out = append(appendFrame(l.out, len(payload), xhttp2.FramePing, xhttp2.FlagPingAck, 0), payload...)
		}
	case xhttp2.FrameWindowUpdate:
		if id == 0 && len(payload) == 4 {
			l.window += int64(binary.BigEndian.Uint32(payload) & maxWindow)
		}
	case xhttp2.FrameGoAway:
		if len(payload) < 8 {
			return errors.New("a GOAWAY that says nothing")
		}
		if code := xhttp2.ErrCode(binary.BigEndian.Uint32(payload[4:])); code != xhttp2.ErrCodeNo {
			return fmt.Errorf("the server ends the connection: %s", code)
		}
		l.draining, l.lastID = true, binary.BigEndian.Uint32(payload)&maxWindow
		if len(l.calls) == 0 {
			return errDrained
		}
	}
	l.admit()
	return nil
}
