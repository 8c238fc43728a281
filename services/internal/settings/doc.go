// Package settings defines flags that several commands share, and binds every flag to an environment
// variable. A bad value is an error that names the flag, before anything runs. Errors and help texts never
// repeat a value that may hold a credential. This package is not part of the public API and may change in any
// release.
//
// Flags of a single command do not belong here.
package settings
