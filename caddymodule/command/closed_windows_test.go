package command

import (
	"os"

	"golang.org/x/sys/windows"
)

// errBrokenPipe is the error of a write to a pipe whose reader has gone.
var errBrokenPipe error = &os.PathError{Op: "write", Path: "stdout", Err: windows.ERROR_NO_DATA}
