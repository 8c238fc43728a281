// Package prefetch asks the processor for memory before it is needed, so that other work can be done
// meanwhile. Reading a line from main memory takes about as long as hashing a short text. An ordinary read
// would not do, since the instructions after it soon have to wait for it. This package is not part of the
// public API and may change in any release.
package prefetch

// Line is the least number of bytes that the processor fetches at once.
const Line = 64
