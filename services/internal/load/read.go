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

// errDrained ends a connection that the server wants to end, when no call is in flight.
var errDrained = errors.New("the server ends the connection")

// reader is the receiving half of a connection.
type reader struct {
	lane    *lane
	buffer  *bufio.Reader
	headers *headers
	// messages are the decoded messages of calls whose trailers have not come yet.
	messages map[uint32]message
	// received is the number of bytes of messages since the last window update for the server.
	received uint32
}

type message struct {
	answer Answer
	err    error
}

// read handles a connection's frames until the connection ends.
func (l *lane) read(conn net.Conn) error {
	r := &reader{lane: l, buffer: bufio.NewReaderSize(conn, 4*maxFrame), headers: newHeaders(), messages: map[uint32]message{}}
	framer := xhttp2.NewFramer(nil, r)
	framer.SetReuseFrames()
	framer.SetMaxReadFrameSize(maxFrame)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		if err := r.frame(frame); err != nil {
			return err
		}
	}
}

// Read implements io.Reader. Before it waits for bytes, it sends the calls that follow the answers so far:
// many calls with one write.
func (r *reader) Read(p []byte) (int, error) {
	if r.buffer.Buffered() == 0 {
		r.lane.flush()
	}
	return r.buffer.Read(p)
}

func (r *reader) frame(frame xhttp2.Frame) error {
	id := frame.Header().StreamID
	switch f := frame.(type) {
	case *xhttp2.HeadersFrame:
		if !f.HeadersEnded() {
			return errors.New("headers in several frames, which this client does not support")
		}
		if err := r.headers.decode(f.HeaderBlockFragment()); err != nil {
			return err
		}
		if f.StreamEnded() {
			return r.end(id, r.headers.err())
		}
		return nil
	case *xhttp2.DataFrame:
		r.received += f.Length
		if len(f.Data()) > 0 {
			r.messages[id] = r.decode(f.Data())
		}
		if f.StreamEnded() {
			return r.end(id, status.Error(codes.Internal, "an answer without trailers"))
		}
		return nil
	case *xhttp2.RSTStreamFrame:
		if f.ErrCode == xhttp2.ErrCodeRefusedStream {
			r.lane.again(id)
			return nil
		}
		return r.end(id, status.Error(codes.Unavailable, f.ErrCode.String()))
	}
	return r.control(frame)
}

// decode decodes a message, which must be whole: answers are far smaller than a frame.
func (r *reader) decode(payload []byte) message {
	if len(payload) < 5 || payload[0] != 0 || int(binary.BigEndian.Uint32(payload[1:])) != len(payload)-5 {
		return message{err: status.Error(codes.Internal, "a compressed or divided answer, which this client does not support")}
	}
	answer, err := r.lane.endpoint.Decode(payload[5:])
	return message{answer, err}
}

// end ends a call.
func (r *reader) end(id uint32, err error) error {
	m, has := r.messages[id]
	delete(r.messages, id)
	switch {
	case err != nil:
	case !has:
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

// control handles frames about the whole connection.
func (r *reader) control(frame xhttp2.Frame) error {
	l := r.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.received > maxWindow/2 {
		_ = l.framer.WriteWindowUpdate(0, r.received)
		r.received = 0
	}
	switch f := frame.(type) {
	case *xhttp2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		if err := l.settings(f); err != nil {
			return err
		}
		_ = l.framer.WriteSettingsAck()
	case *xhttp2.PingFrame:
		if !f.IsAck() {
			_ = l.framer.WritePing(true, f.Data)
		}
	case *xhttp2.WindowUpdateFrame:
		if f.StreamID == 0 {
			l.window += int64(f.Increment)
		}
	case *xhttp2.GoAwayFrame:
		if f.ErrCode != xhttp2.ErrCodeNo {
			return fmt.Errorf("the server ends the connection: %s", f.ErrCode)
		}
		l.draining, l.lastID = true, f.LastStreamID
		if len(l.calls) == 0 {
			return errDrained
		}
	}
	l.admit()
	return nil
}
