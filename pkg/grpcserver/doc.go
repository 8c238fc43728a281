// Package grpcserver builds the servers of Countersign's processes: gRPC with limits, one boundary for
// errors and panics, health and a bounded drain; and HTTP for probes, metrics and what else a service shows
// there. It knows nothing of tokens, policies or stores, and decides nothing about who may call.
//
// Several servers, and whatever else a process runs, are held together by an errgroup: see the example.
package grpcserver
