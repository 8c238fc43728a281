// Package prefetch asks the processor for memory before it is needed, so that other work can be done while
// it comes: from far away a line takes about as long as it takes to hash a text. An ordinary read does not
// do: what comes after it soon has to wait for it.
package prefetch

// Line is how many bytes the processor fetches at once, at the least.
const Line = 64
