package grpcserver

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

const (
	// maxStreams is the largest number of calls in flight on one connection. grpc-go sets no bound of its
	// own, so that one client could take all memory. More than a thousand calls in flight only add latency,
	// because each call takes microseconds.
	maxStreams = 1024

	// maxHeaderList is the size in bytes of a call's metadata, counted as in RFC 9113, section 6.5.2. It is
	// enough for a bearer JWT with many group claims. The default of grpc-go, 16 MiB, would let a client
	// send as metadata what it may not send as a message.
	maxHeaderList = 16 << 10

	// maxSend is the size in bytes of the largest message sent. gRPC clients by default reject messages
	// above 4 MiB. This bound makes the server see that error.
	maxSend = 4 << 20

	// streamWindow and connectionWindow are how many bytes a client may send on a call, and on a connection,
	// before the server has read them. With fixed windows grpc-go sends no pings to measure the connection;
	// for messages of a hundred bytes those pings cost noticeably. Unread bytes stay in memory, so the
	// window of a stream is the smallest that grpc-go allows. grpc-go extends it for a message that is being
	// read.
	streamWindow     = 64 << 10
	connectionWindow = 1 << 20

	// connectionTimeout bounds TLS and HTTP/2 handshakes. A drain waits for handshakes, so it must be well
	// below DefaultDrainTimeout.
	connectionTimeout = 5 * time.Second

	// minPing is the shortest interval between a client's keepalive pings. grpc-go by default disconnects a
	// client that pings more often than every 5 minutes, which is too long to find a dead path. Clients of
	// grpc-go cannot ask for less than 10 s, and client.Dial asks for that.
	minPing = 10 * time.Second

	// maxIdle is when a connection without calls is closed: its client may have vanished or scaled down.
	maxIdle = 15 * time.Minute

	// maxAge makes clients connect anew, and so spread over servers that joined later. Load balancers that
	// balance connections never move them. grpc-go adds a jitter of 10 %.
	maxAge = 30 * time.Minute

	// maxAgeGrace is how long calls may go on after maxAge. The longest unary calls are waits for
	// propagation. Longer streams are cut, and their clients must open them again.
	maxAgeGrace = time.Minute

	// pingAfter and pingTimeout find dead clients within 40 s, so that their connections and streams do not
	// pile up.
	pingAfter   = 30 * time.Second
	pingTimeout = 10 * time.Second
)

// transportOptions returns the options of grpc.NewServer that bound connections, calls and messages.
func transportOptions(c Config) []grpc.ServerOption {
	options := []grpc.ServerOption{
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaderList),
		grpc.MaxRecvMsgSize(c.MaxReceive),
		grpc.MaxSendMsgSize(maxSend),
		grpc.ConnectionTimeout(connectionTimeout),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.NumStreamWorkers(c.StreamWorkers),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: minPing,
			// A client without calls, such as at night, must notice a dead server before its next call.
			PermitWithoutStream: true,
		}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle:     maxIdle,
			MaxConnectionAge:      maxAge,
			MaxConnectionAgeGrace: maxAgeGrace,
			Time:                  pingAfter,
			Timeout:               pingTimeout,
		}),
	}
	if c.Codec != nil {
		options = append(options, grpc.ForceServerCodecV2(c.Codec))
	}
	return options
}
