package grpcserver

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

const (
	// maxStreams is the number of calls in flight on one connection. grpc-go sets no bound of its own, so
	// one client could take all memory; a caller's queue beyond a thousand only adds latency, as calls take
	// microseconds.
	maxStreams = 1024

	// maxHeaderList is the size in bytes of a call's metadata, counted as HTTP/2 does. It holds a bearer
	// JWT with many group claims; the 16 MiB of grpc-go would pass the bound on messages by.
	maxHeaderList = 16 << 10

	// maxSend is the size in bytes of a message sent. Clients of grpc refuse more than 4 MiB unless told
	// otherwise, so a larger answer would be lost on arrival, where nobody here sees it.
	maxSend = 4 << 20

	// streamWindow and connectionWindow are how many bytes a client may send on a call, and on a
	// connection, before it is told that they were read. Fixed ones spare the pings by which grpc-go would
	// measure the connection to find its own: for messages of a hundred bytes those are a part of what a
	// call costs. What a stream sends and nobody reads stays in memory, so its window is the least that
	// grpc-go lets one set; a message that is read gets room beyond it.
	streamWindow     = 64 << 10
	connectionWindow = 1 << 20

	// connectionTimeout bounds TLS and HTTP/2 handshakes. A drain waits for those under way, so it must be
	// well below DefaultDrainBound.
	connectionTimeout = 5 * time.Second

	// minPing is the closest spacing of a client's keepalive pings. A client that wants to learn within
	// seconds that its path is dead needs less than the 5 minutes that grpc-go would enforce by
	// disconnecting it. 10 s is the least that grpc-go lets a client ask for, and what client.Dial does:
	// pings are never closer than that, since a client counts from the acknowledgement of the one before.
	minPing = 10 * time.Second

	// maxIdle ends connections without calls: a client that went away in silence, or scaled down.
	maxIdle = 15 * time.Minute

	// maxAge makes clients connect anew, and so spread over servers that joined later; connection-level
	// load balancers never move them. grpc-go adds a jitter of 10 %.
	maxAge = 30 * time.Minute

	// maxAgeGrace is how long calls go on after that. Waits for propagation are the longest unary calls;
	// longer streams are cut and must be prepared to be opened again.
	maxAgeGrace = time.Minute

	// pingAfter and pingTimeout find dead clients within 40 s, so that their streams and connections do not
	// pile up.
	pingAfter   = 30 * time.Second
	pingTimeout = 10 * time.Second
)

func limits(c Config) []grpc.ServerOption {
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
			// A caller that is idle at night must still notice that this server is gone before its first
			// call.
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
