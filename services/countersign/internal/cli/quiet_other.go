//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd)

package cli

// quiet does nothing: of lines that are pasted at once, all but the first may be shown.
func quiet(int) (restore func() error, err error) { return func() error { return nil }, nil }
