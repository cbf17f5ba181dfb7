//go:build !windows

package command

import (
	"os"
	"syscall"
)

// errBrokenPipe is the error of a write to a pipe whose reader has gone.
var errBrokenPipe error = &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}
