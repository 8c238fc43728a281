// Package settings gives the commands of Countersign their flags: the groups that several of them share,
// checked when they are read, and the environment variable of every flag. A bad value is an error that
// names the flag, before anything runs. No value that may hold a credential is ever repeated, neither in an
// error nor in a help text.
//
// Settings of one command alone are no business of this package.
package settings
