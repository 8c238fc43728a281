// Package grpcserver builds the servers of Countersign's processes. A gRPC server comes with limits, health,
// a drain, and one place where errors and panics become statuses. An HTTP server has probes, metrics and a
// handler of the service. The package knows nothing about tokens, policies or stores, and does not decide who
// may call. This package is not part of the public API and may change in any release.
//
// A process runs its servers in one errgroup, see the example.
package grpcserver
