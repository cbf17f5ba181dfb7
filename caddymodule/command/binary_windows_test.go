package command

import "testing"

// testSignals has nothing to do where one process cannot send another Ctrl-C.
func (*builtBinary) testSignals(*testing.T) {}
