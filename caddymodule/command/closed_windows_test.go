package command

import (
	"os"

	"golang.org/x/sys/windows"
)

// errBrokenPipe is what a write to a pipe brings that nobody reads any more.
var errBrokenPipe error = &os.PathError{Op: "write", Path: "stdout", Err: windows.ERROR_NO_DATA}
