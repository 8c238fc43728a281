package redisfeed

// MaxScans is how many scans go on at once.
const MaxScans = maxScans
