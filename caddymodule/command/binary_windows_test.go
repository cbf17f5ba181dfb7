package command

import "testing"

// testSignals does nothing: here a process cannot send another one Ctrl-C.
func (*builtBinary) testSignals(*testing.T) {}
