//go:build !windows

package command

import (
	"os"
	"syscall"
)

// errBrokenPipe is what a write to a pipe brings that nobody reads any more.
var errBrokenPipe error = &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}
